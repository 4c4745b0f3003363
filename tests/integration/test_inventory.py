"""``crossdock copy --inventory``: names served on this machine, entries with credentials and TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from crossdock_testing.tokens import TokenServer
from support.command import AUTH, USAGE, Crossdock
from support.docker_registry import DockerRegistry, htpasswd_file
from support.images import assert_holds, one_layer_image, push

pytestmark = pytest.mark.real


def inventory(folder: Path, **document: object) -> Path:
    path = folder / "inventory.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML
    return path


def test_names_of_both_sides_are_served_on_this_machine(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, 3_000_000)
    repository = "library/mapped-names"
    graph = push(source.remote, repository, builder, content, "latest")
    path = inventory(
        tmp_path, hosts={"docker.io": source.host, "myregistry.azurecr.io": target.host}, registries=[]
    )
    result = crossdock.copy("mapped-names", "myregistry.azurecr.io/mapped:v1", "--inventory", path)
    assert result["target"] == "myregistry.azurecr.io/mapped:v1"
    assert_holds(target.remote, "mapped", "v1", graph)
    again = crossdock.copy(
        "mapped-names", "myregistry.azurecr.io/mapped:v1", env={"CROSSDOCK_INVENTORY": str(path)}
    )
    assert again["bytes_moved"] == 0


def test_a_token_service_at_a_mapped_name_gets_the_entrys_credentials(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, 30_000)
    with TokenServer(users={"ann": "s3cret"}) as tokens:
        auth = tokens.registry_auth(tmp_path)
        registry = new_registry("private", auth=auth, bearer=lambda: tokens.mint(["repository:app:*"]))
        graph = push(registry.remote, "app", builder, content, "v1")
        entry = {
            "name": "private",
            "login_server": "private.example",
            "credentials": {"username": "ann", "password_env": "PW"},
        }
        path = inventory(tmp_path, registries=[entry], hosts={"private.example": registry.host})
        arguments = ("private.example/app:v1", f"oci:{tmp_path / 'out'}:v1", "--inventory", str(path))
        result = crossdock.copy(*arguments, env={"PW": "s3cret"})
        assert result["digest"] == graph.root
        crossdock.fail_copy(*arguments, code=AUTH, naming=["PW", f"{path}:1"])
        crossdock.fail_copy(*arguments, code=AUTH, naming=["private.example"], env={"PW": "wr0ng"})


def test_a_realm_at_a_mapped_name_is_asked_where_that_is_served(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, 30_000)
    with TokenServer(users={"ann": "s3cret"}) as tokens:
        auth = tokens.registry_auth(tmp_path)
        auth["token"]["realm"] = "http://auth.docker.io/token"
        registry = new_registry("hub", auth=auth, bearer=lambda: tokens.mint(["repository:library/app:*"]))
        graph = push(registry.remote, "library/app", builder, content, "v1")
        hosts = {"docker.io": registry.host, "auth.docker.io": f"127.0.0.1:{tokens.port}"}
        path = inventory(tmp_path, hosts=hosts)
        login = {"CROSSDOCK_SOURCE_USERNAME": "ann", "CROSSDOCK_SOURCE_PASSWORD": "s3cret"}
        words = ("docker.io/app:v1", f"oci:{tmp_path / 'out'}:v1", "--inventory", str(path))
        assert crossdock.copy(*words, env=login)["digest"] == graph.root
        assert {each.user for each in tokens.requests} == {"ann"}


def test_tls_is_checked_for_the_name_in_the_reference(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    certificate = authority.issue_cert("named.example")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    both = str(tmp_path / "both.pem")
    registry = new_registry("tls", http={"tls": {"certificate": both, "key": both}})
    entry = {"name": "named", "login_server": "named.example", "tls": {"ca": "ca.pem"}}
    hosts = {"named.example": registry.host, "other.example": registry.host}
    path = inventory(tmp_path, registries=[entry], hosts=hosts)
    builder = ImageBuilder(tmp_path / "layout")
    content, _ = one_layer_image(builder, 30_000)
    builder.tag(content, "v1")
    origin = f"oci:{builder.root}:v1"
    crossdock.copy(origin, "named.example/app:v1", "--inventory", path)
    crossdock.fail_copy(origin, "other.example/app:v1", "--inventory", path, code=6, naming=["other.example"])


def test_a_wrong_inventory_ends_the_command_with_its_line(crossdock: Crossdock, tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text("registries: []\nhost: {}\n")
    crossdock.fail_copy(
        "a.example/x", "b.example/x", "--inventory", path, code=USAGE, naming=[f"{path}:2:", "'host'"]
    )


def test_passwords_of_htpasswd_come_from_a_file_beside_the_inventory(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    users = htpasswd_file(tmp_path / "htpasswd", "ann", "pw")
    registry = new_registry("private", auth={"htpasswd": {"realm": "x", "path": str(users)}}, basic="ann:pw")
    (tmp_path / "pw").write_text("pw\n")
    credentials = {"username": "ann", "password_file": "pw"}
    path = inventory(
        tmp_path, registries=[{"name": "any", "login_server": registry.host, "credentials": credentials}]
    )
    content, _ = one_layer_image(builder, 30_000)
    graph = push(registry.remote, "app", builder, content, "v1")
    crossdock.copy(f"{registry.host}/app:v1", f"{registry.host}/other:v1", "--inventory", path)
    assert_holds(registry.remote, "other", "v1", graph)


def test_a_redirect_to_a_mapped_name_is_followed_to_where_that_is_served(
    crossdock: Crossdock,
    source: DockerRegistry,
    fault_proxy: Callable[..., FaultProxy],
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
) -> None:
    proxy = fault_proxy(source.host, hostname="mapped.example")
    served = f"127.0.0.1:{proxy.host.rpartition(':')[2]}"
    content, layer = one_layer_image(builder, 3_000_000)
    graph = push(source.remote, repository, builder, content, "v1")
    path = f"/v2/{repository}/blobs/{layer.digest}"
    redirect = Answer(307, {"Location": f"http://storage.example{path}?sig=x"})
    proxy.add(Fault(on=f"GET {path}", times=None, answer=redirect))
    hosts = {proxy.host: served, "storage.example": source.host}
    file = inventory(tmp_path, hosts=hosts)
    arguments = (f"{proxy.host}/{repository}:v1", f"oci:{tmp_path / 'out'}:v1", "--inventory", str(file))
    assert crossdock.copy(*arguments)["digest"] == graph.root


def test_a_name_at_azure_is_the_entrys_login_server(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    users = htpasswd_file(tmp_path / "htpasswd", "ann", "pw")
    registry = new_registry("private", auth={"htpasswd": {"realm": "x", "path": str(users)}}, basic="ann:pw")
    content, _ = one_layer_image(builder, 30_000)
    graph = push(registry.remote, "app", builder, content, "v1")
    mine = {"name": "myRegistry", "login_server": registry.host, "subscription": "a"}
    mine["credentials"] = {"username": "ann", "password_env": "PW"}
    path = inventory(tmp_path, registries=[mine])
    names = ("myregistry.azurecr.io/app:v1", "myregistry.azurecr.io/other:v1")
    crossdock.copy(*names, "--inventory", path, env={"PW": "pw"})
    assert_holds(registry.remote, "other", "v1", graph)
    tags = crossdock.ok("tags", "myregistry.azurecr.io/app", "--inventory", path, env={"PW": "pw"})
    assert tags.stdout == "v1\n"
    other = {**mine, "login_server": "127.0.0.1:1", "subscription": "b"}
    path = inventory(tmp_path, registries=[mine, other])
    crossdock.fail_copy(*names, "--inventory", path, code=USAGE, naming=["one of several registries"])
    hosts = {"myregistry.azurecr.io": registry.host}
    logins = {f"CROSSDOCK_{side}_USERNAME": "ann" for side in ("SOURCE", "TARGET")}
    logins |= {f"CROSSDOCK_{side}_PASSWORD": "pw" for side in ("SOURCE", "TARGET")}
    path = inventory(tmp_path, registries=[mine, other], hosts=hosts)
    crossdock.copy(*names, "--inventory", path, env=logins)


def test_an_https_realm_at_a_name_that_is_mapped_to_a_port_without_tls(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    content, _ = one_layer_image(builder, 30_000)
    with TokenServer(users={"ann": "s3cret"}) as tokens:
        auth = tokens.registry_auth(tmp_path)
        auth["token"]["realm"] = "https://auth.docker.io/token"  # as Docker Hub says it
        registry = new_registry("hub", auth=auth, bearer=lambda: tokens.mint(["repository:library/app:*"]))
        push(registry.remote, "library/app", builder, content, "v1")
        hosts = {"docker.io": registry.host, "auth.docker.io": f"127.0.0.1:{tokens.port}"}
        path = inventory(tmp_path, hosts=hosts)
        login = {"CROSSDOCK_SOURCE_USERNAME": "ann", "CROSSDOCK_SOURCE_PASSWORD": "s3cret"}
        words = ("docker.io/app:v1", f"oci:{tmp_path / 'out'}:v1", "--inventory", str(path))
        line = crossdock.fail_copy(*words, env=login, code=5, naming=["auth.docker.io does not speak TLS"])
        assert "s3cret" not in line
        assert tokens.requests == []
