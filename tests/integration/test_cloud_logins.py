"""Copies where the identity of the machine is the login: ECR, ECR Public and Google, without helpers."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.clouds import POOL, ROLE, CloudIdentities
from crossdock_testing.listings.ecr import ACCOUNT, KEY, REGISTRY, SECRET, EcrDouble, EcrPublicDouble
from crossdock_testing.listings.google import GoogleDouble
from crossdock_testing.listings.harbor import HarborDouble
from support.command import AUTH, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, push

pytestmark = pytest.mark.real

GAR = "europe-west1-docker.pkg.dev"


class Google(GoogleDouble):
    """Artifact Registry that takes the access tokens of an identity, as the password of one user."""

    def __init__(self, upstream: str, identities: CloudIdentities) -> None:
        super().__init__(upstream, logins={"oauth2accesstoken": "none yet"}, is_private=True)
        self._identities = identities

    def basic_user(self, request: web.Request) -> str | None:
        if self._identities.access_tokens:
            self.logins["oauth2accesstoken"] = self._identities.access_tokens[-1]
        return super().basic_user(request)


@pytest.fixture
def identities(closing: ExitStack) -> CloudIdentities:
    return closing.enter_context(CloudIdentities())


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    content = builder.image([builder.random_layer(900 + number) for number in range(6)])
    return push(source.remote, repository, builder, content, "v1")


def inventory(folder: Path, served: dict[str, str], more: str = "") -> tuple[str, ...]:
    """The flag for an inventory in which `served` are the places of hosts, without TLS."""
    hosts = ", ".join(f"{host}: {place}" for host, place in served.items())
    entries = [
        f"  - {{name: r{at}, login_server: {host}, tls: {{plain_http: true}}{more}}}"
        for at, host in enumerate(served)
    ]
    path = folder / "inventory.yaml"
    path.write_text("\n".join([f"hosts: {{{hosts}}}", "registries:", *entries, ""]))
    return "--inventory", str(path)


def by_web_identity(identities: CloudIdentities, ecr: EcrDouble, folder: Path) -> dict[str, str | None]:
    """What EKS sets in a pod with IRSA, and GitHub's workflows in the end."""
    token = folder / "web-identity"
    token.write_text(identities.web_identity)
    return {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_STS": identities.url,
        "AWS_ENDPOINT_URL_ECR": f"http://{ecr.host}",
        "AWS_REGION": "us-east-1",  # not that of the registry
    }


def by_pod_identity(identities: CloudIdentities, ecr: EcrDouble, folder: Path) -> dict[str, str | None]:
    token = folder / "eks-pod-identity-token"
    token.write_text(identities.pod_token)
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{identities.url}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_ECR": f"http://{ecr.host}",
    }


def by_metadata(identities: CloudIdentities, folder: Path) -> dict[str, str | None]:
    """GKE and GCE."""
    host = identities.url.removeprefix("http://")
    return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "NO_GCE_CHECK": None}


def by_github(identities: CloudIdentities, folder: Path) -> dict[str, str | None]:
    """What google-github-actions/auth leaves in a workflow."""
    document = {
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{identities.url}/v1/token",
        "credential_source": {
            "url": f"{identities.url}/oidc?audience=https:{POOL}",
            "headers": {"Authorization": f"bearer {identities.runner_token}"},
            "format": {"type": "json", "subject_token_field_name": "value"},
        },
    }
    path = folder / "gha-creds.json"
    path.write_text(json.dumps(document))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


class Ending(EcrDouble):
    """Its first login ends at the third blob that is pushed."""

    pushes = 0

    async def v2(self, request: web.Request, path: str) -> web.StreamResponse | None:
        if request.method == "PUT":
            self.pushes += 1
            if self.pushes == 3:
                self.ended.add(self.issued[0])
        return await super().v2(request, path)


def test_from_google_to_ecr_in_a_workflow_or_pod(
    crossdock: Crossdock,
    identities: CloudIdentities,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    """GitHub's OIDC at Google, a web identity at AWS; ECR's login ends in the middle."""
    google = closing.enter_context(Google(source.host, identities))
    ecr = closing.enter_context(Ending(target.host, keys=identities.keys, is_guarded=True))
    done = crossdock.ok(
        *("copy", f"{GAR}/{repository}:v1", f"{REGISTRY}/{repository}:v1"),
        *inventory(tmp_path, {GAR: google.host, REGISTRY: ecr.host}),
        env={**by_github(identities, tmp_path), **by_web_identity(identities, ecr, tmp_path)},
    )
    assert_holds(target.remote, repository, "v1", image)
    assert len(ecr.issued) == 2
    assert [identities.count(word) for word in ("sts Assume", "github", "google sts")] == [1, 1, 1]
    secrets = [
        *ecr.issued,
        *identities.access_tokens,
        *(part for pair in identities.keys.values() for part in pair),
    ]
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]


def test_from_ecr_to_google_in_a_cluster(
    crossdock: Crossdock,
    identities: CloudIdentities,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    """EKS Pod Identity at AWS, the metadata service at Google."""
    ecr = closing.enter_context(EcrDouble(source.host, keys=identities.keys, is_guarded=True))
    google = closing.enter_context(Google(target.host, identities))
    crossdock.ok(
        *("copy", f"{REGISTRY}/{repository}:v1", f"{GAR}/{repository}:v1"),
        *inventory(tmp_path, {GAR: google.host, REGISTRY: ecr.host}),
        env={**by_metadata(identities, tmp_path), **by_pod_identity(identities, ecr, tmp_path)},
    )
    assert_holds(target.remote, repository, "v1", image)
    assert (len(ecr.issued), identities.count("pod identity")) == (1, 1)
    assert identities.count("/token") == 1


def test_ecr_public_is_read_with_keys_that_are_good_and_without_them_when_they_are_not(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    ecr = closing.enter_context(EcrPublicDouble(source.host, logins={"AWS": "none yet"}))
    words = ("copy", f"public.ecr.aws/{repository}:v1", f"{target.host}/{repository}:v1")
    flags = inventory(tmp_path, {"public.ecr.aws": ecr.host})
    endpoint = {"AWS_ENDPOINT_URL_ECR_PUBLIC": f"http://{ecr.host}"}
    env = {**endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    crossdock.ok(*words, *flags, env=env)
    assert len(ecr.issued) == 1
    assert {each.user for each in ecr.asked if "/manifests/" in each.target} == {"AWS"}
    ecr.asked.clear()
    crossdock.ok(*words, "--check-blobs", *flags, env={**env, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "AWS" not in {each.user for each in ecr.asked}
    ecr.is_private = True
    done = crossdock(*words, "--retries", "0", *flags, env={**env, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert done.code == AUTH
    assert "AWS refused GetAuthorizationToken: InvalidSignatureException" in done.error
    assert "wrong" not in done.stderr


def test_a_missing_repository_of_ecr_is_created_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    identities: CloudIdentities,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    """The registry's login is another one: only the API of AWS needs an identity, which is found once."""
    ecr = closing.enter_context(EcrDouble(target.host, keys=identities.keys, repositories=()))
    words = ("copy", f"{source.host}/{repository}:v1")
    flags = inventory(tmp_path, {REGISTRY: ecr.host}, ", create: {immutable: true, scan: true}")
    env = by_pod_identity(identities, ecr, tmp_path)
    names = [repository, f"{repository}/again"]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{source.host}/{repository}:v1 {REGISTRY}/{name}:v1\n" for name in names))
    crossdock.ok("copy", "--from-file", pairs, *flags, "--dest-creds-stdin", stdin="u:p\n", env=env)
    for name in names:
        assert_holds(target.remote, name, "v1", image)
    assert sorted(ecr.created, key=lambda each: each["repositoryName"]) == [
        {
            "registryId": ACCOUNT,
            "repositoryName": name,
            "imageTagMutability": "IMMUTABLE",
            "imageScanningConfiguration": {"scanOnPush": True},
        }
        for name in names
    ]
    assert (ecr.issued, ecr.refusals) == ([], [])
    assert identities.count("pod identity") == 1
    ecr.may_create = False
    naming = [
        f"other/name does not exist at {REGISTRY} and could not be created",
        "not authorized to perform: ecr:CreateRepository",
    ]
    crossdock.fail(*words, f"{REGISTRY}/other/name:v1", *flags, env=env, code=AUTH, naming=naming)
    assert ecr.refusals == ["AccessDeniedException"]


def test_a_missing_project_of_harbor_is_created_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    logins = {"admin": "p", "robot$x": "p"}
    harbor = closing.enter_context(
        HarborDouble(target.host, logins=logins, is_private=True, administrators=["admin"], projects=())
    )
    words = ("copy", f"{source.host}/{repository}:v1", f"{harbor.host}/{repository}:v1", "--dest-creds-stdin")
    flags = inventory(tmp_path, {harbor.host: harbor.host}, ", create: {immutable: true, scan: true}")
    naming = [f"it does not exist at {harbor.host} and could not be created"]
    crossdock.fail(*words, *flags, stdin="robot$x:p\n", code=AUTH, naming=naming)
    assert harbor.count("/api/v2.0/projects$") == 1
    crossdock.ok(*words, *flags, stdin="admin:p\n")
    assert_holds(target.remote, repository, "v1", image)
    (_, project), (below, rule) = harbor.created
    assert project == {"project_name": "it", "metadata": {"public": "false", "auto_scan": "true"}}
    assert below == "/it/immutabletagrules"
    assert rule["tag_selectors"] == [{"kind": "doublestar", "pattern": "**", "decoration": "matches"}]
