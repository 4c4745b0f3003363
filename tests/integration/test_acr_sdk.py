"""The SDK ``azure-containerregistry`` reads the embedded registry as it reads the service."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.embedded import Embedded, start_embedded


@pytest.fixture
def sdk() -> Any:
    """The SDK's module. Missing: a failure in CI, elsewhere a skip."""
    if not os.environ.get("CI"):
        return pytest.importorskip("azure.containerregistry")
    import azure.containerregistry

    return azure.containerregistry


@pytest.fixture
def served(tmp_path: Path, closing: ExitStack) -> Embedded:
    """An embedded registry that speaks TLS, which the SDK insists on."""
    (tmp_path / "root").mkdir()
    return start_embedded(tmp_path, tmp_path / "root", closing, tls=True)


def client_of(sdk: Any, served: Embedded, closing: ExitStack, credential: Any = None) -> Any:
    client = sdk.ContainerRegistryClient(
        f"https://{served.host}",
        credential,
        audience="https://containerregistry.azure.net",
        connection_verify=str(served.ca_file),
        retry_total=0,
    )
    return closing.enter_context(client)


class EntraCredential:
    """Who has an access token of Entra ID."""

    def __init__(self, token: str) -> None:
        self.token = token

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        assert scopes == ("https://containerregistry.azure.net/.default",)
        return AccessToken(self.token, int(time.time()) + 3600)


def test_250_manifests_and_tags_are_three_pages(sdk: Any, served: Embedded, closing: ExitStack) -> None:
    builder = ImageBuilder(served.root / "team" / "app")
    layer, digests = builder.random_layer(64), []
    for number in range(250):
        image = builder.image([layer], annotations={"number": str(number)})
        builder.tag(image, f"v{number}")
        os.utime(builder.path(image.digest), (1_700_000_000 + number, 1_700_000_000 + number))
        digests.append(image.digest)
    client = client_of(sdk, served, closing)

    pages = [list(page) for page in client.list_manifest_properties("team/app").by_page()]
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [each.digest for page in pages for each in page] == sorted(digests)
    newest = client.list_manifest_properties("team/app", order_by="timedesc")
    assert [each.digest for each in newest] == digests[::-1]
    oldest = client.list_tag_properties(
        "team/app", order_by=sdk.ArtifactTagOrder.LAST_UPDATED_ON_ASCENDING, results_per_page=90
    )
    pages = [[tag.name for tag in page] for page in oldest.by_page()]
    assert [len(page) for page in pages] == [90, 90, 70]
    assert [name for page in pages for name in page] == [f"v{number}" for number in range(250)]


def test_properties_are_those_of_the_content(sdk: Any, served: Embedded, closing: ExitStack) -> None:
    builder = ImageBuilder(served.root / "team" / "app")
    image = builder.tag(builder.image([builder.random_layer(1000)], "linux/arm64"), "v1")
    index = builder.tag(sample_index(builder), "all")
    client = client_of(sdk, served, closing)

    assert list(client.list_repository_names()) == ["team/app"]
    found = client.get_manifest_properties("team/app", "v1")
    assert (found.digest, found.tags, found.can_delete) == (image.digest, ["v1"], True)
    assert found.architecture == sdk.ArtifactArchitecture.ARM64
    assert found.operating_system == sdk.ArtifactOperatingSystem.LINUX
    assert found.size_in_bytes > 1000
    assert found.last_updated_on.timestamp() == pytest.approx(builder.path(image.digest).stat().st_mtime)
    assert client.get_manifest_properties("team/app", index.digest).architecture is None
    assert client.get_tag_properties("team/app", "all").digest == index.digest
    repository = client.get_repository_properties("team/app")
    assert (repository.name, repository.tag_count) == ("team/app", 2)
    client.delete_tag("team/app", "v1")
    assert [tag.name for tag in client.list_tag_properties("team/app")] == ["all"]


def test_missing_and_impossible_items_are_reported(sdk: Any, served: Embedded, closing: ExitStack) -> None:
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    ImageBuilder(served.root / "app").tag(ImageBuilder(served.root / "app").image([]), "v1")
    client = client_of(sdk, served, closing)
    with pytest.raises(ResourceNotFoundError):
        list(client.list_manifest_properties("missing"))
    with pytest.raises(ResourceNotFoundError):
        client.get_tag_properties("app", "missing")
    client.update_repository_properties("app", can_write=False)
    with pytest.raises(HttpResponseError) as refused:
        client.delete_repository("app")
    assert refused.value.status_code == 405
    client.update_repository_properties("app", can_write=True)
    client.delete_tag("app", "missing")  # no error, says its documentation


def test_the_sdk_locks_and_deletes(sdk: Any, served: Embedded, closing: ExitStack) -> None:
    from azure.core.exceptions import HttpResponseError

    builder = ImageBuilder(served.root / "app")
    image = builder.tag(builder.image([builder.random_layer(10)]), "v1")
    client = client_of(sdk, served, closing)
    locked = client.update_tag_properties("app", "v1", can_write=False, can_delete=False)
    assert (locked.can_write, locked.can_delete, locked.can_read, locked.can_list) == (
        False,
        False,
        True,
        True,
    )
    for change in (
        lambda: client.delete_tag("app", "v1"),
        lambda: client.delete_manifest("app", image.digest),
    ):
        with pytest.raises(HttpResponseError):
            change()
    client.update_tag_properties("app", "v1", can_write=True, can_delete=True)
    assert client.update_manifest_properties("app", image.digest, can_list=False).can_list is False
    assert list(client.list_manifest_properties("app")) == []
    client.delete_repository("app")
    assert list(client.list_repository_names()) == []


def test_an_identity_lists_what_its_scopes_permit(sdk: Any, tmp_path: Path, closing: ExitStack) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    users = {
        "users": [
            {"name": "all", "access_tokens": ["entra-all"]},
            {"name": "pull", "access_tokens": ["entra-pull"], "scopes": ["repository:*:pull"]},
        ],
        "anonymous": ["repository:public:metadata_read"],
    }
    for name in ("private", "public"):
        builder = ImageBuilder(tmp_path / "root" / name)
        builder.tag(builder.image([builder.random_layer(10)]), "v1")
    served = start_embedded(tmp_path, tmp_path / "root", closing, tls=True, users=users)

    def tags(name: str, credential: Any = None) -> list[str]:
        client = client_of(sdk, served, closing, credential)
        return [tag.name for tag in client.list_tag_properties(name)]

    assert tags("private", EntraCredential("entra-all")) == ["v1"]
    assert list(client_of(sdk, served, closing, EntraCredential("entra-all")).list_repository_names()) == [
        *("private", "public"),
    ]
    assert tags("public") == ["v1"]
    for credential in (EntraCredential("entra-pull"), EntraCredential("entra-unknown"), None):
        with pytest.raises(ClientAuthenticationError):
            tags("private", credential)
