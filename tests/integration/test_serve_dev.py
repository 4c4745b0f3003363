"""``crossdock serve --dev``: logins and rights, on real sockets, with Azure's libraries."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.devcloud import DevService, start_devcloud
from support.embedded import Embedded, start_embedded
from support.images import assert_holds, one_layer_image, push
from support.service import GROUP, SUBSCRIPTION, registry_path

pytest.importorskip("azure.identity")

LIMITED = "s3cret-of-the-limited"
SETTINGS = {
    "identity": {"tokens": [{"name": "limited", "sha256": hashlib.sha256(LIMITED.encode()).hexdigest()}]},
    "principals": [
        {
            "id": "limited",
            "roles": [
                {"actions": ["importImage", "read"], "registries": ["myregistry"]},
                {"actions": ["pull"], "registries": ["mysource"]},
            ],
        }
    ],
}
IMPORT = registry_path("myregistry", "importImage") + "?api-version=2025-11-01"


@pytest.fixture
def registries(tmp_path: Path, closing: ExitStack) -> dict[str, Embedded]:
    started = {}
    for name in ("myregistry", "mysource"):
        (tmp_path / name).mkdir()
        started[name] = start_embedded(tmp_path, tmp_path / name, closing)
    return started


def inventory(registries: dict[str, Embedded]) -> dict[str, Any]:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP, "tls": {"plain_http": True}}
    return {
        "registries": [
            {"name": name, "login_server": each.host, **entry} for name, each in registries.items()
        ]
    }


@pytest.fixture
def cloud(registries: dict[str, Embedded], tmp_path: Path, closing: ExitStack) -> DevService:
    return start_devcloud(tmp_path / "cloud", inventory(registries), closing, SETTINGS)


def body(**source: str) -> dict[str, Any]:
    return {"source": {"sourceImage": "team/app:v1", **source}, "targetTags": ["team/app:v1"]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_sdk_logs_in_and_imports(
    cloud: DevService, registries: dict[str, Embedded], builder: ImageBuilder
) -> None:
    from azure.mgmt.containerregistry import ContainerRegistryManagementClient
    from azure.mgmt.containerregistry.models import ImportImageParameters, ImportSource

    graph = push(
        registries["mysource"].remote, "team/app", builder, one_layer_image(builder, 100_000)[0], "v1"
    )
    with (
        cloud.credential() as credential,
        ContainerRegistryManagementClient(
            credential, SUBSCRIPTION, base_url=cloud.url, connection_verify=str(cloud.ca)
        ) as client,
    ):
        source = ImportSource(resource_id=registry_path("mysource"), source_image="team/app:v1")
        wanted = ImportImageParameters(source=source, target_tags=["team/app:v1"])
        client.registries.begin_import_image(GROUP, "myregistry", wanted).result()
    assert_holds(registries["myregistry"].remote, "team/app", "v1", graph)


def test_who_is_not_known_starts_nothing(cloud: DevService) -> None:
    wrong_audience = cloud.token("https://containerregistry.azure.net")
    for headers, code in (
        ({}, "AuthenticationFailed"),
        ({"Authorization": "Basic eDp5"}, "AuthenticationFailed"),
        (bearer("nonsense"), "InvalidAuthenticationToken"),
        (bearer(cloud.token()[:-8] + "AAAAAAAA"), "InvalidAuthenticationToken"),
        (bearer(wrong_audience), "InvalidAuthenticationTokenAudience"),
    ):
        for method, path in (("POST", IMPORT), ("GET", "/subscriptions"), ("GET", "/imports")):
            status, answered, error = cloud.ask(method, path, body() if method == "POST" else None, headers)
            assert (status, error["error"]["code"]) == (401, code)
            assert answered["www-authenticate"].startswith("Bearer ")
            assert "retry-after" not in answered
    log = cloud.log.read_text()
    assert wrong_audience not in log
    assert cloud.info["client_secret"] not in log


def test_rights_are_those_of_the_settings(cloud: DevService, registries: dict[str, Embedded]) -> None:
    status, _, listed = cloud.ask(
        "GET",
        f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/registries",
        headers=bearer(LIMITED),
    )
    assert (status, [each["name"] for each in listed["value"]]) == (200, ["myregistry"])
    status, _, error = cloud.ask("GET", registry_path("mysource"), headers=bearer(LIMITED))
    assert (status, error["error"]["code"]) == (403, "AuthorizationFailed")
    for source in ({"resourceId": registry_path("mysource")}, {"registryUri": registries["mysource"].host}):
        status, _, error = cloud.ask("POST", IMPORT, body(**source), bearer(LIMITED))
        assert (status, error["error"]["code"]) == (403, "LinkedAuthorizationFailed"), source
        assert "'read' on the linked scope(s)" in error["error"]["message"]
    status, _, error = cloud.ask(
        "POST",
        registry_path("mysource", "importImage"),
        body(resourceId=registry_path("mysource")),
        bearer(LIMITED),
    )
    assert (status, error["error"]["code"]) == (403, "AuthorizationFailed")
    assert LIMITED not in cloud.log.read_text()


def test_a_token_with_many_groups_is_read(cloud: DevService) -> None:
    status, _, error = cloud.ask("GET", "/subscriptions", headers=bearer("x" * 14_000))
    assert (status, error["error"]["code"]) == (401, "InvalidAuthenticationToken")
    status, _, _ = cloud.ask("GET", "/subscriptions", headers=bearer("x" * 20_000))
    assert status == 400


def test_az_sees_its_own_tenant(cloud: DevService) -> None:
    status, _, said = cloud.ask("GET", "/subscriptions?api-version=2022-12-01", headers=bearer(cloud.token()))
    assert (status, said["value"][0]["tenantId"]) == (200, cloud.info["tenant"])


def test_a_token_outlives_a_restart(
    cloud: DevService, registries: dict[str, Embedded], tmp_path: Path, closing: ExitStack
) -> None:
    token = cloud.token()
    cloud.process.stop()
    again = start_devcloud(tmp_path / "cloud", inventory(registries), closing, port=cloud.port)
    assert {**again.info, "page": ""} == {**cloud.info, "page": ""}  # the page's link has a new key
    assert again.ask("GET", "/subscriptions", headers=bearer(token))[0] == 200


def test_the_sdk_reads_a_registry_that_believes_the_cloud(
    cloud: DevService, tmp_path: Path, closing: ExitStack, builder: ImageBuilder
) -> None:
    from azure.containerregistry import ContainerRegistryClient

    (tmp_path / "root").mkdir()
    users = {
        "users": [{"name": "admin", "password": "s3cret-admin"}],
        "issuers": [
            {
                "issuer": cloud.info["authority"],
                "ca": str(cloud.ca),
                "scopes": ["repository:*:*", "registry:catalog:*"],
            }
        ],
    }
    served = start_embedded(tmp_path, tmp_path / "root", closing, tls=True, users=users)
    with (
        cloud.credential() as credential,
        ContainerRegistryClient(
            f"https://{served.host}",
            credential,
            audience="https://containerregistry.azure.net",
            connection_verify=str(served.ca_file),
            retry_total=0,
        ) as client,
    ):
        assert list(client.list_repository_names()) == []


@pytest.mark.parametrize(
    ("words", "naming"),
    [
        (("--dev-info", "info.json"), "add --dev"),
        (("--dev", "--cert", "inventory.yaml"), "omit --cert and --key"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    crossdock: Crossdock, tmp_path: Path, words: tuple[str, ...], naming: str
) -> None:
    (tmp_path / "inventory.yaml").write_text("registries: [{name: a}]")
    given = [str(tmp_path / word) if "." in word else word for word in words]
    inventory = ("--inventory", str(tmp_path / "inventory.yaml"), "--state", str(tmp_path / "state"))
    done = crossdock("serve", *inventory, "--listen", "127.0.0.1:0", *given)
    assert done.code == 2
    assert naming in done.stderr
