"""Rights, policies and limits on a registry hold however its name is written."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import Crossdock
from support.embedded import Embedded, start_embedded
from support.images import one_layer_image, push
from support.push import Remote
from support.service import Service
from support.tenants import outcome, post_import, start_tenants

POLICY = 10
USERS = {"users": [{"name": "ann", "password": "s3cret-ann"}]}


def stocked(folder: Path, name: str, closing: ExitStack, users: dict[str, object] | None = None) -> Embedded:
    """A registry with ``app:v1``."""
    (folder / name).mkdir()
    registry = start_embedded(folder / name, folder / name / "root", closing, users=users)
    remote = Remote(registry.host, basic="ann:s3cret-ann" if users else "")
    builder = ImageBuilder(folder / name / "layout")
    push(remote, "app", builder, one_layer_image(builder, 1000)[0], "v1")
    return registry


def port_of(registry: Embedded) -> str:
    return registry.host.rpartition(":")[2]


@pytest.fixture
def source(tmp_path: Path, closing: ExitStack) -> Embedded:
    return stocked(tmp_path, "source", closing)


@pytest.fixture
def target(tmp_path: Path, closing: ExitStack) -> Embedded:
    (tmp_path / "target").mkdir()
    return start_embedded(tmp_path / "target", tmp_path / "target" / "root", closing)


@pytest.fixture
def service(tmp_path: Path, closing: ExitStack, source: Embedded, target: Embedded) -> Service:
    """``alice`` may import to ``mine``; ``bob`` may also read a registry that she may not."""
    entries = {
        "mine": {"login_server": target.host},
        "secret": {"login_server": "secret.example"},
        "hub": {"login_server": "docker.io"},
        "near": {"login_server": source.host},
        "secretacr": {},
    }
    mine = (["importImage", "read"], ["mine"])
    roles = {
        "alice": [mine],
        "bob": [mine, (["read", "pull"], ["SECRET.example:443", f"127.1:{port_of(source)}"])],
    }
    served = ("secret.example", "docker.io", "secretacr.azurecr.io")
    hosts = dict.fromkeys(served, source.host)
    return start_tenants(tmp_path / "serve", closing, entries, roles, hosts=hosts, sources={"allow": ["*"]})


SPELLINGS = [
    "secret.example",
    "secret.example:443",
    "SECRET.EXAMPLE:443",
    "secret.example:80",  # `hosts` sends every port of it to the same place
    "secret.example:8443",
    "docker.io",
    "docker.io:443",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com:443",
    "127.0.0.1:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "[::ffff:7f00:1]:{port}",
    "secretacr.azurecr.io:443",
    "SecretACR.azurecr.io",
    "secretacr.westeurope.geo.azurecr.io",
]


def test_a_missing_right_is_missing_by_every_name(service: Service, source: Embedded) -> None:
    names = [name.format(port=port_of(source)) for name in SPELLINGS]
    got = {
        name: outcome(service, post_import(service, "mine", {"registryUri": name}, who="alice"))
        for name in names
    }
    assert got == dict.fromkeys(names, (403, "LinkedAuthorizationFailed"))


def test_a_right_is_there_by_every_name(service: Service, source: Embedded) -> None:
    for name in ("secret.example:443", f"2130706433:{port_of(source)}"):
        posted = post_import(service, "mine", {"registryUri": name}, who="bob")
        assert outcome(service, posted, "bob") == (200, "")


@pytest.mark.parametrize("credentials", [{"password": "x"}, {"username": "u", "password": "x"}])
def test_credentials_that_are_not_demanded_replace_no_right(
    service: Service, credentials: dict[str, str]
) -> None:
    for image in ("app:v1", "no/such:image"):  # nor do they tell what is there
        asked = {"registryUri": "secret.example", "sourceImage": image, "credentials": credentials}
        posted = post_import(service, "mine", asked, who="alice")
        assert outcome(service, posted, "alice") == (403, "LinkedAuthorizationFailed")


def test_an_empty_password_is_refused(service: Service) -> None:
    asked = {"registryUri": "secret.example", "credentials": {"username": "", "password": ""}}
    assert outcome(service, post_import(service, "mine", asked, who="alice"))[0] == 400


def test_credentials_that_the_registry_demands_replace_a_right(
    tmp_path: Path, closing: ExitStack, target: Embedded
) -> None:
    locked = stocked(tmp_path, "locked", closing, USERS)
    entries = {"mine": {"login_server": target.host}, "locked": {"login_server": locked.host}}
    roles = {"alice": [(["importImage", "read"], ["mine"])]}
    service = start_tenants(tmp_path / "serve", closing, entries, roles)
    ends = {}
    for password in ("s3cret-ann", "made-up"):
        asked = {
            "registryUri": f"127.1:{port_of(locked)}",
            "credentials": {"username": "ann", "password": password},
        }
        ends[password] = outcome(service, post_import(service, "mine", asked, who="alice"), "alice")
    assert ends == {"s3cret-ann": (200, ""), "made-up": (400, "RegistryUnauthorized")}


def test_policies_hold_by_every_name(
    tmp_path: Path, closing: ExitStack, source: Embedded, target: Embedded, crossdock: Crossdock
) -> None:
    closed = {"export_policy": "disabled"}
    entries = {
        "mine": {"login_server": target.host},
        "secret": {"login_server": "secret.example", **closed},
        "near": {"login_server": source.host, **closed},
        "hub": {"login_server": "docker.io", **closed},
    }
    hosts = dict.fromkeys(("secret.example", "docker.io"), source.host)
    service = start_tenants(tmp_path / "serve", closing, entries, {}, hosts=hosts)
    names = [name.format(port=port_of(source)) for name in SPELLINGS if "azurecr" not in name]
    got = {name: outcome(service, post_import(service, "mine", {"registryUri": name})) for name in names}
    assert got == dict.fromkeys(names, (403, "RegistryPolicyForbids"))

    inventory = tmp_path / "serve" / "inventory.yaml"
    for name in (name for name in names if "[" not in name and "." in name):
        done = crossdock(
            "acr", "import", "--inventory", inventory, "-n", "mine", "--source", f"{name}/app:v1"
        )
        assert done.code == POLICY, str(done)


def test_a_registrys_share_of_the_queue_is_counted_over_its_names(
    tmp_path: Path, closing: ExitStack, target: Embedded
) -> None:
    """Imports from an address that does not answer: one runs, the others wait, whatever they call it."""
    silent = closing.enter_context(socket.socket())
    silent.bind(("127.0.0.1", 0))
    silent.listen(50)
    port = silent.getsockname()[1]
    entries = {"mine": {"login_server": target.host}, "other": {"login_server": "127.0.0.1:1"}}
    service = start_tenants(
        tmp_path / "serve",
        closing,
        entries,
        {},
        sources={"allow": ["*"], "private_addresses": ["127.0.0.0/8"]},
        limits={"imports": 8, "imports_per_registry": 1},
    )
    for name in ("mine", "other"):
        for spelling in (f"127.0.0.1:{port}", f"127.1:{port}", f"2130706433:{port}"):
            asked = {"registryUri": spelling}
            assert (
                post_import(service, name, asked, targetTags=[f"{spelling.partition(':')[0]}:v1"])[0] == 202
            )
    _, _, listed = service.ask("GET", "/imports?state=Running")
    assert len(listed["value"]) == 1, json.dumps(listed)
