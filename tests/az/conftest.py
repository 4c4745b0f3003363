"""One development cloud and one login of the real az for all tests of a process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from crossdock.embedded.acr.accounts import EVERYTHING
from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from support.az import Az, log_in, make_az
from support.docker_registry import DockerRegistry, start_docker_registry
from support.documentation import FOREIGN, IDENTITY, SUBSCRIPTION, USERS, Sources, one_layer, start_sources
from support.embedded import Embedded, start_embedded
from support.images import push
from support.push import Remote
from support.service import Service, start_dev_service


@dataclass
class Cloud:
    """The cloud as az sees it, and the registries behind it."""

    az: Az
    info: dict[str, Any]
    service: Service
    sources: Sources
    target: Embedded  # myregistry
    plain: DockerRegistry  # plainregistry
    faults: FaultProxy  # before it: faultyregistry

    @property
    def remote(self) -> Remote:
        """A client of the suite's own that may do everything at the target."""
        return replace(self.target.remote, basic=f"identity:{IDENTITY}")

    def clear(self) -> None:
        """Let the target have no manifest but ``old:tag``, which the next test may overwrite."""
        for repository in self.remote.request("GET", "/v2/_catalog").json()["repositories"]:
            listed = self.remote.request("GET", f"/acr/v1/{repository}/_manifests").json()
            for each in listed.get("manifests") or []:
                self.remote.request("DELETE", f"/v2/{repository}/manifests/{each['digest']}")
        builder = ImageBuilder(seed=99)
        push(self.remote, "old", builder, one_layer(builder), "tag")


@pytest.fixture(scope="session")
def running_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    for name in ("sources", "target"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        sources = start_sources(folder / "sources", stack, tls=True)
        target = start_embedded(folder, folder / "target", stack, tls=True, users=USERS)
        plain = start_docker_registry(folder / "plain", validation=FOREIGN)
        stack.callback(plain.stop)
        faults = stack.enter_context(FaultProxy(plain.host))
        (folder / "registries.pem").write_text(_pem(target) + _pem(sources.azure))
        service = start_dev_service(
            folder / "service",
            _inventory(sources, target, plain, faults),
            {"IDENTITY": IDENTITY, "SSL_CERT_FILE": str(folder / "registries.pem")},
            # docker.io's token service says that it is at 127.0.0.1.
            {"sources": {"private_addresses": ["127.0.0.1/32"]}},
        )
        stack.callback(lambda: service.process.stop())  # whichever it is then
        info = json.loads((folder / "service/info.json").read_text())
        bundle = folder / "bundle.pem"
        bundle.write_text((folder / "registries.pem").read_text() + Path(info["ca"]).read_text())
        az = make_az(folder / "home", bundle)
        log_in(az, info)
        _let_in(info, target, sources.azure)
        yield Cloud(az, info, service, sources, target, plain, faults)


@pytest.fixture
def cloud(running_cloud: Cloud) -> Cloud:
    """The cloud with a target that has nothing but ``old:tag``."""
    running_cloud.clear()
    return running_cloud


@pytest.fixture
def az(cloud: Cloud) -> Az:
    return cloud.az


def _inventory(
    sources: Sources, target: Embedded, plain: DockerRegistry, faults: FaultProxy
) -> dict[str, Any]:
    who = {"credentials": {"username": "identity", "password_env": "IDENTITY"}}
    document = sources.inventory(
        {"login_server": target.host, "tls": {"ca": str(target.ca_file)}, "location": "westeurope", **who}
    )
    theirs = document["registries"][1]
    rest = {"subscription": SUBSCRIPTION, "resource_group": "rest"}
    document["registries"] += [
        {"name": "plainregistry", "login_server": plain.host, **rest},
        {"name": "faultyregistry", "login_server": faults.host, **rest},
        # Under Azure's own names, which az finds among its registries, and may not be reached from outside.
        {**theirs, **rest, "name": "closedregistry", "login_server": "closedregistry.azurecr.io"}
        | {"public_network_access": "Disabled"},
        {**theirs, **rest, "name": "sealedregistry", "login_server": "sealedregistry.azurecr.io"}
        | {"export_policy": "disabled"},
    ]
    for name in ("closedregistry", "sealedregistry"):
        document["hosts"][f"{name}.azurecr.io"] = sources.azure.host
    return document


def _pem(registry: Embedded) -> str:
    assert registry.ca_file is not None
    return registry.ca_file.read_text()


def _let_in(info: Mapping[str, Any], *registries: Embedded) -> None:
    """Let the registries take the tokens of the cloud's identity provider, as Azure's do."""
    issuer = {"issuer": info["authority"], "ca": info["ca"], "scopes": list(EVERYTHING)}
    for each in registries:
        assert each.users_file is not None
        each.users_file.write_text(json.dumps(USERS | {"issuers": [issuer]}))
