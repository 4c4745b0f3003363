"""az reads subscriptions, registries, and the content of registries."""

from __future__ import annotations

import json

import pytest

from az.conftest import Cloud
from support.az import Az, make_az
from support.documentation import EXAMPLES, OTHER_SUBSCRIPTION, SUBSCRIPTION
from support.images import Graph

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def hello(running_cloud: Cloud) -> Graph:
    """A multi-platform image at the target, nothing else but ``old:tag``."""
    running_cloud.clear()
    running_cloud.az.ok(EXAMPLES["docker-hub-hello-world"].text)
    return running_cloud.sources.graphs["library/hello-world"]


# -- Azure Resource Manager ----------------------------------------------------------------------------------


def test_the_account_has_the_subscriptions_of_the_inventory(running_cloud: Cloud) -> None:
    listed = running_cloud.az.json("az account list")
    assert {each["id"] for each in listed} == {SUBSCRIPTION, OTHER_SUBSCRIPTION}
    assert {each["tenantId"] for each in listed} == {running_cloud.info["tenant"]}
    assert {each["user"]["type"] for each in listed} == {"servicePrincipal"}


def test_registries_are_listed_by_subscription_and_group(running_cloud: Cloud) -> None:
    az = running_cloud.az
    names = [each["name"] for each in az.json("az acr list")]
    rest = ["plainregistry", "faultyregistry", "closedregistry", "sealedregistry"]
    assert names == ["myregistry", "mysourceregistry", *rest]
    assert [each["name"] for each in az.json("az acr list -g REST")] == rest
    other = az.json(f"az acr list --subscription {OTHER_SUBSCRIPTION}")
    assert [each["name"] for each in other] == ["sourceRegistry"]


def test_a_registry_is_shown_with_its_policies(running_cloud: Cloud) -> None:
    shown = running_cloud.az.json("az acr show -n sealedregistry")
    assert shown["loginServer"] == "sealedregistry.azurecr.io"
    assert shown["policies"]["exportPolicy"]["status"] == "disabled"
    mine = running_cloud.az.json("az acr show -n MyRegistry -g myresourcegroup")
    assert (mine["loginServer"], mine["location"]) == (running_cloud.target.host, "westeurope")
    assert mine["sku"]["name"] == "Premium"


# -- the registry: az-contract 3.3 --------------------------------------------------------------------------


def test_repositories_and_tags_are_listed(running_cloud: Cloud, hello: Graph) -> None:
    az = running_cloud.az
    assert "hello-world" in az.json("az acr repository list --name myregistry")
    tags = "az acr repository show-tags --name myregistry --repository hello-world"
    assert az.json(tags) == ["latest"]
    detailed = az.json(f"{tags} --detail --orderby time_desc --top 1")
    assert [(each["name"], each["digest"]) for each in detailed] == [("latest", hello.root)]


def test_the_metadata_of_manifests_is_listed(running_cloud: Cloud, hello: Graph) -> None:
    listed = running_cloud.az.json(
        "az acr manifest list-metadata \\\n  --name hello-world \\\n  --registry myregistry"
    )
    assert {each["digest"] for each in listed} == set(hello.manifests)
    assert [each["tags"] for each in listed if each["digest"] == hello.root] == [["latest"]]


def test_az_follows_the_pages_of_250_manifests(running_cloud: Cloud) -> None:
    remote = running_cloud.remote
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2}
    config |= {"digest": remote.push_blob("pages", b"{}")}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [config]}
    pushed = {
        remote.push_manifest(
            "pages", json.dumps(manifest | {"annotations": {"n": str(n)}}).encode(), OCI_MANIFEST
        )
        for n in range(250)
    }
    listed = running_cloud.az.json("az acr manifest list-metadata -r myregistry -n pages")
    assert len(listed) == len(pushed) == 250
    assert {each["digest"] for each in listed} == pushed
    newest = running_cloud.az.json(
        "az acr manifest list-metadata -r myregistry -n pages --orderby time_desc --top 3"
    )
    assert len(newest) == 3


def test_a_manifest_is_shown(running_cloud: Cloud, hello: Graph) -> None:
    shown = running_cloud.az.json("az acr manifest show -r myregistry -n hello-world:latest")
    assert shown == json.loads(hello.manifests[hello.root][1])
    digest = next(iter(hello.manifests))
    metadata = running_cloud.az.json(f"az acr manifest show-metadata -r myregistry -n hello-world@{digest}")
    assert metadata["digest"] == digest


def test_manifests_and_referrers_are_listed(running_cloud: Cloud, hello: Graph) -> None:
    listed = running_cloud.az.json("az acr manifest list -r myregistry -n hello-world")
    assert len(listed) == len(hello.manifests)
    referrers = running_cloud.az.json("az acr manifest list-referrers -r myregistry -n hello-world:latest")
    assert referrers["manifests"] == []


def test_a_repository_is_shown(running_cloud: Cloud, hello: Graph) -> None:
    shown = running_cloud.az.json("az acr repository show -n myregistry --repository hello-world")
    assert shown["imageName"] == "hello-world"
    assert (shown["manifestCount"], shown["tagCount"]) == (len(hello.manifests), 1)


# -- other logins --------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(running_cloud: Cloud, tmp_path) -> Az:
    """An az that knows the cloud and has not logged in."""
    az = make_az(tmp_path / "home", running_cloud.az.bundle)
    az.ok(f"az cloud register -n local --endpoint-resource-manager {running_cloud.info['arm']}")
    az.ok("az cloud set -n local")
    return az


def test_a_managed_identity_logs_in_and_imports(running_cloud: Cloud, stranger: Az) -> None:
    info = running_cloud.info
    stranger.environment |= {
        "IDENTITY_ENDPOINT": info["identity_endpoint"],
        "IDENTITY_HEADER": info["identity_header"],
    }
    stranger.ok("az login --identity -o none")
    stranger.ok("az acr import -n myregistry --source docker.io/library/hello-world:latest -t managed:1")
    assert running_cloud.remote.tags("managed") == ["1"]


def test_a_wrong_secret_does_not_log_in(running_cloud: Cloud, stranger: Az) -> None:
    info = running_cloud.info
    stranger.fail(
        f"az login --service-principal -u {info['client_id']} -p wr0ng --tenant {info['tenant']}",
        "AADSTS7000215",
        "Invalid client secret",
    )
    stranger.fail("az acr list", "Please run 'az login' to setup account.")
