"""The requirements of az-contract 9, by number, checked against the running service.

Bodies are as az 2.91, the SDKs 15.0.0 and 10.3.0 and PowerShell send them (az-contract 1.3 and 2.1).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.mgmt.containerregistry import ContainerRegistryManagementClient
from azure.mgmt.containerregistry.models import ImportImageParameters, ImportSource

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

pytestmark = pytest.mark.real

OTHER = "00000000-0000-0000-0000-00000000000b"
SOURCE_ID = registry_path("mysource", "", OTHER, "SourceGroup")
SETTINGS = {
    "identity": {
        "tokens": [
            {"name": name, "sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest()}
            for name in ("all", "importer", "reader")
        ]
    },
    "principals": [
        {"id": "all", "roles": [{"actions": ["importImage", "read", "pull"], "registries": ["*"]}]},
        {"id": "importer", "roles": [{"actions": ["importImage", "read"], "registries": ["myregistry"]}]},
        {"id": "reader", "roles": [{"actions": ["read"], "registries": ["*"]}]},
    ],
    "limits": {"requests_per_minute": 100_000},
}


class Token:
    """A static token as a credential."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_token(self, *scopes: str, **how: Any) -> AccessToken:
        return AccessToken(f"{self.name}-token", 1 << 40)


@dataclass
class Cloud:
    """The service between two registries, and how its clients come."""

    service: Service
    source: DockerRegistry
    target: DockerRegistry

    def sdk(self, who: str = "all", subscription: str = SUBSCRIPTION) -> ContainerRegistryManagementClient:
        return ContainerRegistryManagementClient(
            Token(who), subscription, base_url=self.service.url, connection_verify=str(self.service.ca)
        )

    def ask(self, method: str, path: str, body: Any = None, who: str = "all", **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {who}-token"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.service.ask(method, path, body, sent)

    def run(self, body: Any, path: str = "", **headers: str) -> tuple[int, Any]:
        """Post an import and poll it; status and body of its end."""
        path = path or registry_path("myregistry", "importImage") + "?api-version=2025-11-01"
        status, got, document = self.ask("POST", path, body, **headers)
        if status != 202:
            assert "retry-after" not in got
            return status, document
        assert document == b""
        ends: list[tuple[int, Any]] = []

        def ended() -> bool:
            status, now, document = self.ask("GET", got["location"])
            if status == 202:
                assert now["location"].startswith("https://")
                assert int(now["retry-after"]) > 0
                assert document["status"] == "Accepted"
                return False
            assert "retry-after" not in now
            ends.append((status, document))
            return True

        wait_until(ended, "the import's end", 60)
        return ends[0]


def make_cloud(
    folder: Path, closing: ExitStack, source: DockerRegistry, target: DockerRegistry, policies: Any = None
) -> Cloud:
    policies = policies or {}
    inventory = {
        "registries": [
            {
                "name": "myregistry",
                "login_server": target.host,
                "subscription": SUBSCRIPTION,
                "resource_group": GROUP,
                **policies.get("target", {}),
            },
            {
                "name": "mysource",
                "login_server": source.host,
                "subscription": OTHER,
                "resource_group": "SourceGroup",
                **policies.get("source", {}),
            },
        ],
        "hosts": {"docker.io": source.host},
    }
    folder.mkdir()
    (folder / "settings.yaml").write_text(json.dumps(SETTINGS))
    service = start_service(folder, inventory, "--config", folder / "settings.yaml")
    closing.callback(service.process.stop)
    return Cloud(service, source, target)


@pytest.fixture(scope="module")
def cloud(
    shared_registries: tuple[DockerRegistry, DockerRegistry], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    with ExitStack() as closing:
        yield make_cloud(tmp_path_factory.mktemp("cloud") / "service", closing, *shared_registries)


@pytest.fixture
def image(cloud: Cloud, builder: ImageBuilder, repository: str) -> Graph:
    return push(cloud.source.remote, repository, builder, one_layer_image(builder, 10_000)[0], "v1")


def by_uri(image: str, **more: Any) -> dict[str, Any]:
    return {"source": {"registryUri": "docker.io", "sourceImage": image}, **more}


# -- what is copied ----------------------------------------------------------------------------------------


def test_05_all_platforms_of_an_index_and_the_progress_of_each(
    cloud: Cloud, builder: ImageBuilder, repository: str
) -> None:
    graph = push(cloud.source.remote, repository, builder, sample_index(builder), "v1")
    seen: list[Any] = []
    path = registry_path("myregistry", "importImage")
    _, got, _ = cloud.ask("POST", path, by_uri(f"{repository}:v1", targetTags=[f"{repository}:v2"]))

    def ended() -> bool:
        status, _, document = cloud.ask("GET", got["location"])
        seen.append(document)
        return bool(status != 202)

    wait_until(ended, "the import's end")
    assert_holds(cloud.target.remote, repository, "v2", graph)
    manifests = {name: state for name, state in seen[-1].items() if "@sha256:" in name}
    assert f"{repository}@{graph.root}" in manifests
    assert set(manifests.values()) == {"Succeeded"}
    assert seen[-1]["status"] == "Succeeded"


@pytest.mark.parametrize(("count", "status"), [(50, 200), (51, 400)])
def test_08_an_index_of_50_manifests_and_no_more(
    cloud: Cloud, builder: ImageBuilder, repository: str, count: int, status: int
) -> None:
    platforms = [builder.image([builder.random_layer(100)], f"linux/arm{each}") for each in range(count)]
    push(cloud.source.remote, repository, builder, builder.index(platforms), "v1")
    end, document = cloud.run(by_uri(f"{repository}:v1"))
    assert end == status
    if status != 200:
        assert document["error"]["code"] == "LimitExceeded"
        assert "50" in document["error"]["message"]
        assert cloud.target.remote.tags(repository) == []


def test_16_a_tag_a_digest_and_both(cloud: Cloud, image: Graph, repository: str) -> None:
    for source, tag in (
        (f"{repository}:v1", "a"),
        (f"{repository}@{image.root}", "b"),
        (f"{repository}:v1@{image.root}", "c"),
    ):
        assert cloud.run(by_uri(source, targetTags=[f"{repository}:{tag}"]))[0] == 200
        assert_holds(cloud.target.remote, repository, tag, image)


def test_18_an_untagged_target_gets_the_manifest_and_no_tag(
    cloud: Cloud, image: Graph, repository: str
) -> None:
    body = by_uri(f"{repository}@{image.root}", untaggedTargetRepositories=[repository], mode="NoForce")
    assert cloud.run(body)[0] == 200
    assert cloud.target.remote.tags(repository) == []
    assert_holds(cloud.target.remote, repository, image.root, image)


def test_25_a_digest_without_a_target_becomes_latest(cloud: Cloud, image: Graph, repository: str) -> None:
    body = by_uri(f"{repository}@{image.root}", targetTags=[repository], mode="NoForce")
    assert cloud.run(body)[0] == 200
    assert_holds(cloud.target.remote, repository, "latest", image)


def test_32_several_targets_and_a_conflict_before_any_copying(
    cloud: Cloud, builder: ImageBuilder, image: Graph, repository: str
) -> None:
    other = push(cloud.target.remote, repository, builder, one_layer_image(builder, 5_000)[0], "taken")
    tags = [f"{repository}:taken", f"{repository}:free"]
    status, document = cloud.run(by_uri(f"{repository}:v1", targetTags=tags, mode="NoForce"))
    assert (status, document["error"]["code"]) == (409, "TagAlreadyExists")
    assert f"Tag {repository}:taken already exists in target registry" in document["error"]["message"]
    assert cloud.target.remote.tags(repository) == ["taken"]
    assert_holds(cloud.target.remote, repository, "taken", other)
    assert cloud.run(by_uri(f"{repository}:v1", targetTags=tags, mode="Force"))[0] == 200
    assert_holds(cloud.target.remote, repository, "taken", image)
    assert_holds(cloud.target.remote, repository, "free", image)


# -- clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "path", "make", "headers"),
    [
        (
            "az 2.91, whose group is in lower case",
            f"{registry_path('myregistry', '', SUBSCRIPTION, GROUP.lower())}/importImage"
            "?api-version=2026-09-01-preview",
            lambda image: (
                f'{{"source": {{"registryUri": "docker.io", "sourceImage": "{image}"}}, '
                f'"targetTags": ["{image}"], "mode": "NoForce"}}'
            ),
            {"x_ms_return_client_request_id": "true", "CommandName": "acr import"},
        ),
        (
            "SDK 10.3.0",
            f"{registry_path('myregistry', 'importImage')}?api-version=2023-07-01",
            lambda image: (
                f'{{"source": {{"registryUri": "docker.io", "sourceImage": "{image}"}}, '
                f'"targetTags": ["{image}"], "mode": "NoForce"}}'
            ),
            {"Accept": "*/*"},
        ),
        (
            "PowerShell, which sends no targets",
            f"{registry_path('myregistry', 'importImage')}?api-version=2019-05-01",
            lambda image: (
                f'{{\r\n  "mode": "Force",\r\n  "source": {{\r\n    "sourceImage": "{image}",\r\n'
                '    "registryUri": "docker.io"\r\n  }\r\n}'
            ),
            {"Content_Type": "application/json; charset=utf-8"},
        ),
        (
            "slashes and capitals",
            f"//SUBSCRIPTIONS/{SUBSCRIPTION}//resourcegroups/{GROUP}/providers/microsoft.containerregistry"
            "/registries/MYREGISTRY/importimage/?api-version=2017-10-01",
            lambda image: f'{{"source": {{"sourceImage": "{image}", "registryUri": "docker.io"}}}}',
            {},
        ),
    ],
    ids=lambda value: value.split(",")[0].replace(" ", "-") if isinstance(value, str) else "",
)
def test_10_36_every_client_is_understood(
    cloud: Cloud,
    image: Graph,
    repository: str,
    client: str,
    path: str,
    make: Callable[[str], str],
    headers: dict[str, str],
) -> None:
    body = make(f"{repository}:v1").encode()
    own = str(uuid.uuid4())
    assert cloud.run(body, path, x_ms_client_request_id=own, **headers)[0] == 200, client
    assert_holds(cloud.target.remote, repository, "v1", image)


def test_13_registries_are_found_by_group_subscription_and_filter(cloud: Cloud) -> None:
    sdk = cloud.sdk()
    assert sdk.registries.get(GROUP.upper(), "MyRegistry").properties.login_server == cloud.target.host
    assert [each.name for each in sdk.registries.list()] == ["myregistry"]
    assert [each.name for each in cloud.sdk(subscription=OTHER).registries.list()] == ["mysource"]
    assert [each.name for each in sdk.registries.list_by_resource_group(GROUP)] == ["myregistry"]
    path = (
        f"/subscriptions/{SUBSCRIPTION}/resources?%24filter=resourceType%20eq%20%27Microsoft.Container"
        "Registry%2Fregistries%27&api-version=2024-11-01"
    )
    assert [each["name"] for each in cloud.ask("GET", path)[2]["value"]] == ["myregistry"]
    with pytest.raises(HttpResponseError) as raised:
        sdk.registries.get(GROUP, "noregistry")
    assert (raised.value.status_code, raised.value.error.code) == (404, "ResourceNotFound")


def test_14_without_the_action_there_is_403(cloud: Cloud, repository: str) -> None:
    wanted = ImportImageParameters(source=ImportSource(registry_uri="docker.io", source_image=repository))
    with pytest.raises(HttpResponseError) as raised:
        cloud.sdk("reader").registries.begin_import_image(GROUP, "myregistry", wanted)
    assert (raised.value.status_code, raised.value.error.code) == (403, "AuthorizationFailed")
    assert "importImage/action" in raised.value.message
    with pytest.raises(ClientAuthenticationError) as denied:
        cloud.sdk("stranger").registries.get(GROUP, "myregistry")
    assert denied.value.status_code == 401


def test_21_22_24_a_source_of_the_inventory_in_another_subscription(
    cloud: Cloud, image: Graph, repository: str
) -> None:
    """By resource ID and by login server; read is needed there."""
    for number, source in enumerate(({"resourceId": SOURCE_ID}, {"registryUri": cloud.source.host})):
        body = {
            "source": {**source, "sourceImage": f"{repository}:v1"},
            "targetTags": [f"{repository}:{number}"],
        }
        status, _, document = cloud.ask(
            "POST", registry_path("myregistry", "importImage"), body, who="importer"
        )
        assert (status, document["error"]["code"]) == (403, "LinkedAuthorizationFailed")
        assert SOURCE_ID in document["error"]["message"]
        assert cloud.run(body)[0] == 200
        assert_holds(cloud.target.remote, repository, str(number), image)


def test_26_the_provider_is_registered(cloud: Cloud) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry"
    for method, action in (("GET", ""), ("POST", "/register")):
        status, _, document = cloud.ask(method, f"{path}{action}?api-version=2021-04-01")
        assert (status, document["registrationState"]) == (200, "Registered")


def test_33_a_conflict_ends_the_poller_with_its_story(
    cloud: Cloud, builder: ImageBuilder, image: Graph, repository: str
) -> None:
    push(cloud.target.remote, repository, builder, one_layer_image(builder, 5_000)[0], "v1")
    wanted = ImportImageParameters(
        source=ImportSource(registry_uri="docker.io", source_image=f"{repository}:v1"), mode="NoForce"
    )
    poller = cloud.sdk().registries.begin_import_image(GROUP, "myregistry", wanted)
    with pytest.raises(HttpResponseError) as raised:
        poller.result()
    assert (raised.value.status_code, raised.value.error.code) == (409, "TagAlreadyExists")


def test_19_a_secret_stands_nowhere(cloud: Cloud, image: Graph, repository: str) -> None:
    secret = "hunter2-hunter2"
    body = by_uri(f"{repository}:v1")
    body["source"]["credentials"] = {"username": "bob", "password": secret}
    status, got, _ = cloud.ask("POST", registry_path("myregistry", "importImage"), body)
    assert status == 202
    wait_until(lambda: cloud.ask("GET", got["location"])[0] != 202, "the import's end")
    assert secret not in json.dumps(cloud.ask("GET", "/imports")[2])
    assert secret not in json.dumps(cloud.ask("GET", got["location"])[2])
    assert secret not in cloud.service.log.read_text()
    for word in ("all-token", "importer-token"):
        assert word not in cloud.service.log.read_text()


# -- the registries' own settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "policies", "source", "status"),
    [
        (23, {"source": {"public_network_access": "Disabled"}}, "uri", 403),
        (23, {"source": {"public_network_access": "Disabled"}}, "id", 200),
        (
            12,
            {"source": {"public_network_access": "Disabled", "network_rule_bypass_options": "None"}},
            "id",
            403,
        ),
        (
            12,
            {"target": {"public_network_access": "Disabled", "network_rule_bypass_options": "None"}},
            "id",
            403,
        ),
        (
            35,
            {"source": {"public_network_access": "Disabled", "export_policy": "disabled"}},
            "id",
            403,
        ),
    ],
)
def test_12_23_35_the_registries_settings_decide(
    number: int,
    policies: dict[str, Any],
    source: str,
    status: int,
    shared_registries: tuple[DockerRegistry, DockerRegistry],
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    cloud = make_cloud(tmp_path / "service", closing, *shared_registries, policies)
    push(cloud.source.remote, repository, builder, one_layer_image(builder, 1_000)[0], "v1")
    where = {"resourceId": SOURCE_ID} if source == "id" else {"registryUri": cloud.source.host}
    got, document = cloud.run({"source": {**where, "sourceImage": f"{repository}:v1"}})
    assert got == status, (number, document)
    if status != 200:
        assert document["error"]["code"] == "RegistryPolicyForbids"
