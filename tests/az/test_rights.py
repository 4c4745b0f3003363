"""A service with an external identity provider: the rights of users, as az reports them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from az.conftest import Cloud
from support.az import Az, make_az
from support.documentation import IDENTITY, assert_imported
from support.service import start_service


@pytest.fixture(scope="module")
def limited(running_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Az]:
    """az at another service, which takes the cloud's tokens and gives their bearer few rights."""
    info, folder = running_cloud.info, tmp_path_factory.mktemp("limited")
    inventory = json.loads((running_cloud.service.log.parent / "inventory.yaml").read_text())
    (folder / "password").touch(0o600)
    (folder / "password").write_text(IDENTITY)
    for entry in inventory["registries"]:
        if "credentials" in entry:
            entry["credentials"] = {"username": "identity", "password_file": str(folder / "password")}
    settings = {
        "identity": {
            "issuers": [
                {"issuer": info["authority"], "ca": info["ca"], "audiences": [info["arm"], info["arm"] + "/"]}
            ]
        },
        "principals": [
            {
                "id": info["client_id"],
                "roles": [
                    {"actions": ["importImage", "read"], "registries": ["myregistry"]},
                    {"actions": ["read"], "registries": ["mysourceregistry"]},
                ],
            }
        ],
        "sources": {"private_addresses": ["127.0.0.1/32"]},
    }
    (folder / "settings.yaml").write_text(json.dumps(settings))
    service = start_service(folder, inventory, "--config", folder / "settings.yaml")
    try:
        bundle = folder / "bundle.pem"
        bundle.write_text(running_cloud.az.bundle.read_text() + service.ca.read_text())
        az = make_az(folder / "home", bundle)
        az.environment["AZURE_CORE_INSTANCE_DISCOVERY"] = "false"  # as docs/deploy.md says
        az.ok(
            f"az cloud register -n own --skip-endpoint-discovery --endpoint-resource-manager {service.url}"
            f" --endpoint-active-directory {info['arm']}"
            f" --endpoint-active-directory-resource-id {info['arm']}"
            " --suffix-acr-login-server-endpoint .azurecr.io"
        )
        az.ok("az cloud set -n own")
        who = f"-u {info['client_id']} -p {info['client_secret']} --tenant {info['tenant']}"
        az.ok(f"az login --service-principal {who} -o none")
        yield az
    finally:
        service.process.stop()


def test_only_registries_that_may_be_read_are_listed(limited: Az) -> None:
    assert [each["name"] for each in limited.json("az acr list")] == ["myregistry", "mysourceregistry"]


def test_an_import_needs_the_right_to_import_into_the_target(limited: Az) -> None:
    limited.fail(
        "az acr import -n mysourceregistry --source docker.io/library/hello-world:latest",
        "(AuthorizationFailed)",
        "Microsoft.ContainerRegistry/registries/importImage/action",
    )


def test_an_import_needs_the_right_to_pull_from_a_source_of_ours(limited: Az) -> None:
    limited.fail(
        "az acr import -n myregistry -r mysourceregistry --source aci-helloworld:latest",
        "(LinkedAuthorizationFailed)",
        "mysourceregistry",
        "linked scope",
    )


def test_permitted_imports_succeed(limited: Az, cloud: Cloud) -> None:
    limited.ok("az acr import -n myregistry --source docker.io/library/hello-world:latest -t allowed:1")
    assert_imported(cloud.remote, "allowed:1", cloud.sources.graphs["library/hello-world"])
