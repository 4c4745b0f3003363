"""``crossdock serve``, driven by Azure's SDK and by plain requests."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.containerregistry import ContainerRegistryManagementClient
from azure.mgmt.containerregistry.models import ImportImageParameters, ImportSource

from crossdock.imagebuilder import ImageBuilder
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

pytestmark = pytest.mark.real


class AnyToken:
    """A credential whose token is never checked."""

    def get_token(self, *scopes: str, **how: Any) -> AccessToken:
        return AccessToken("x", 1 << 40)


@pytest.fixture
def service(target: DockerRegistry, source: DockerRegistry, tmp_path: Path, closing: ExitStack) -> Service:
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {
        "registries": [
            {"name": "myregistry", "login_server": target.host, **entry},
            {"name": "mysource", "login_server": source.host, **entry},
        ],
        "hosts": {"docker.io": source.host},
    }
    started = start_service(tmp_path / "service", inventory)
    closing.callback(started.process.stop)
    return started


@pytest.fixture
def sdk(service: Service) -> ContainerRegistryManagementClient:
    return ContainerRegistryManagementClient(
        AnyToken(), SUBSCRIPTION, base_url=service.url, connection_verify=str(service.ca)
    )


@pytest.fixture
def image(source: DockerRegistry, builder: ImageBuilder, repository: str) -> Graph:
    return push(source.remote, repository, builder, one_layer_image(builder, 100_000)[0], "v1")


def test_the_sdk_imports_and_its_poller_ends(
    sdk: ContainerRegistryManagementClient, image: Graph, target: DockerRegistry, repository: str
) -> None:
    wanted = ImportImageParameters(
        source=ImportSource(registry_uri="docker.io", source_image=f"{repository}:v1"),
        target_tags=[f"{repository}:v2"],
        mode="NoForce",
    )
    sdk.registries.begin_import_image(GROUP, "myregistry", wanted).result()
    assert_holds(target.remote, repository, "v2", image)


def test_a_missing_image_fails_the_poller_with_the_whole_story(
    sdk: ContainerRegistryManagementClient, repository: str
) -> None:
    wanted = ImportImageParameters(source=ImportSource(registry_uri="docker.io", source_image=repository))
    with pytest.raises(HttpResponseError) as raised:
        sdk.registries.begin_import_image(GROUP, "myregistry", wanted).result()
    text = str(raised.value)
    assert "ManifestUnknown" in text
    assert repository in text
    assert registry_path("myregistry") in text


def test_registries_are_got_and_listed(
    sdk: ContainerRegistryManagementClient, target: DockerRegistry
) -> None:
    assert sdk.registries.get(GROUP, "MyRegistry").properties.login_server == target.host
    assert [each.name for each in sdk.registries.list()] == ["myregistry", "mysource"]


def test_a_plain_request_starts_an_import_and_watches_it(
    service: Service, image: Graph, target: DockerRegistry, repository: str
) -> None:
    body = {"source": {"registryUri": "docker.io", "sourceImage": f"{repository}:v1"}}
    status, headers, _ = service.ask("POST", registry_path("myregistry", "importImage"), body)
    assert status == 202
    assert int(headers["retry-after"]) > 0
    wait_until(lambda: service.ask("GET", headers["location"])[0] == 200, "the import's end")
    assert_holds(target.remote, repository, "v1", image)
