"""Every kind of identity at an Azure registry with the real command: errors, and no secret in any output."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.azure.registry import NULL_USER, AcrIdentity, ManagedIdentity
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault
from support.command import AUTH, MODULE, Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, one_layer_image, push
from support.process import ServerProcess, free_port, listening
from support.push import Remote

REPOSITORY = "team/app"
ADMIN = "admin:s3cret-admin"
USERS: dict[str, Any] = {
    "users": [
        {"name": "admin", "password": "s3cret-admin"},
        {"name": "ann", "access_tokens": ["s3cret-entra"], "scopes": ["repository:team/*:pull"]},
        {"name": "e0d1c2b3-0000-4000-8000-000000000001", "password": "s3cret-sp"},
        {"name": "token1", "password": "s3cret-t1", "scopes": [f"repository:{REPOSITORY}:pull"]},
        {"name": "token2", "password": "s3cret-t2", "scopes": ["repository:other:pull"]},
    ],
    "anonymous": ["repository:public/*:pull"],
}


class Acr:
    """``crossdock registry --users`` in a separate process."""

    def __init__(self, folder: Path, **lives: int) -> None:
        folder.mkdir()
        self.users = folder / "users.json"
        self.write({**USERS, **lives})
        self.log = folder / "log"
        port = free_port()
        words = ["registry", "--root", str(folder / "root"), "--listen", f"127.0.0.1:{port}"]
        self.server = ServerProcess(
            f"crossdock registry :{port}",
            [*MODULE, *words, "--users", str(self.users)],
            self.log,
            lambda: listening(port),
        )
        self.host = f"127.0.0.1:{port}"
        self.remote = Remote(self.host, basic=ADMIN)

    def write(self, users: dict[str, Any]) -> None:
        """Change the file."""
        self.users.write_text(json.dumps(users))

    def refresh_token(self) -> str:
        """One of ann's."""
        form = {"grant_type": "access_token", "service": self.host, "access_token": "s3cret-entra"}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = Remote(self.host).request("POST", "/oauth2/exchange", urlencode(form).encode(), kind)
        token: str = reply.json()["refresh_token"]
        return token


Start = Callable[..., Acr]


@pytest.fixture
def start(closing: ExitStack, tmp_path: Path) -> Start:
    """Starts a registry with users."""

    def started(name: str = "acr", **lives: int) -> Acr:
        acr = Acr(tmp_path / name, **lives)
        closing.callback(acr.server.stop)
        return acr

    return started


@pytest.fixture
def image(builder: ImageBuilder) -> Callable[[Acr], Graph]:
    """Pushes an image with one layer."""
    return lambda acr: push(acr.remote, REPOSITORY, builder, one_layer_image(builder, 300_000)[0], "v1")


def without_secrets(done: Finished, *texts: str) -> Finished:
    """The finished command, after checking that its output has no secret."""
    for text in (*done.argv, done.stdout, done.stderr, *texts):
        for secret in ("s3cret", "eyJ"):
            assert secret not in text, f"{secret!r} is in: {text}"
    return done


def copied(crossdock: Crossdock, acr: Acr, folder: Path, env: dict[str, str]) -> Finished:
    """A copy from `acr` into a layout with the most verbose output, which is checked for secrets."""
    report = folder / "report.json"
    words = ("copy", f"{acr.host}/{REPOSITORY}:v1", f"oci:{folder}/layout:v1")
    done = crossdock(*words, "--progress", "json", "--debug", "--report", report, env=env)
    return without_secrets(done, report.read_text(), acr.log.read_text())


def put_in_path(folder: Path, name: str, answer: dict[str, Any]) -> dict[str, str]:
    """An environment whose PATH begins with a program that prints `answer`."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


SERVICE_PRINCIPAL = {
    "CROSSDOCK_SOURCE_USERNAME": "e0d1c2b3-0000-4000-8000-000000000001",
    "CROSSDOCK_SOURCE_PASSWORD": "s3cret-sp",
}
SCOPED = {"CROSSDOCK_SOURCE_USERNAME": "token1", "CROSSDOCK_SOURCE_PASSWORD": "s3cret-t1"}
ACCESS = {"CROSSDOCK_SOURCE_ACCESS_TOKEN": "s3cret-entra"}


@pytest.mark.parametrize(
    "env", [ACCESS, SERVICE_PRINCIPAL, SCOPED], ids=["access token", "principal", "scoped"]
)
def test_identities_of_the_environment_may_pull(
    crossdock: Crossdock, start: Start, image: Callable[[Acr], Graph], tmp_path: Path, env: dict[str, str]
) -> None:
    acr = start()
    graph = image(acr)
    done = copied(crossdock, acr, tmp_path, env)
    assert done.code == 0, str(done)
    assert graph.root in (tmp_path / "layout" / "index.json").read_text()


def test_a_refresh_token_is_the_null_users_password(
    crossdock: Crossdock, start: Start, image: Callable[[Acr], Graph], tmp_path: Path
) -> None:
    acr = start()
    image(acr)
    token = acr.refresh_token()
    words = ("copy", f"{acr.host}/{REPOSITORY}:v1", f"oci:{tmp_path}/layout:v1", "--src-creds-stdin")
    without_secrets(crossdock.ok(*words, stdin=f"{NULL_USER}:{token}\n"))
    env = {"CROSSDOCK_SOURCE_IDENTITY_TOKEN": token}
    assert copied(crossdock, acr, tmp_path, env).code == 0


def test_helpers_by_name_managed_identity_and_azs_login(
    crossdock: Crossdock, start: Start, image: Callable[[Acr], Graph], tmp_path: Path
) -> None:
    acr = start()
    image(acr)
    helper = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "ecr-login"}
    path = put_in_path(
        tmp_path / "bin", "docker-credential-ecr-login", {"Username": "token1", "Secret": "s3cret-t1"}
    )
    assert copied(crossdock, acr, tmp_path, {**helper, **path}).code == 0
    pytest.importorskip("azure.identity")
    with ManagedIdentity("s3cret-entra") as endpoint:
        env = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "azure-identity", **endpoint.environ}
        assert copied(crossdock, acr, tmp_path, env).code == 0
    env = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "azure-cli"}
    login = {"accessToken": "s3cret-entra", "expires_on": 4102444800, "tokenType": "Bearer"}
    path = put_in_path(tmp_path / "bin", "az", login)
    assert copied(crossdock, acr, tmp_path, {**env, **path}).code == 0


@pytest.mark.parametrize("how", ["token_file: token", "helper: azure-identity"])
def test_an_inventory_names_the_identity_of_a_registry_that_is_served_elsewhere(
    crossdock: Crossdock,
    start: Start,
    image: Callable[[Acr], Graph],
    closing: ExitStack,
    tmp_path: Path,
    how: str,
) -> None:
    acr = start()
    image(acr)
    env = {}
    if how.startswith("helper"):
        pytest.importorskip("azure.identity")
        env = closing.enter_context(ManagedIdentity("s3cret-entra")).environ
    (tmp_path / "token").write_text("s3cret-entra\n")
    inventory = tmp_path / "inventory.yaml"
    entry = f"{{name: mysource, credentials: {{{how}}}}}"
    inventory.write_text(f"registries: [{entry}]\nhosts: {{mysource.azurecr.io: '{acr.host}'}}\n")
    words = ("copy", f"mysource.azurecr.io/{REPOSITORY}:v1", f"oci:{tmp_path}/layout:v1")
    without_secrets(crossdock.ok(*words, "--inventory", inventory, env=env), acr.log.read_text())


@pytest.mark.parametrize("env", [ACCESS, SCOPED], ids=["access token", "password"])
def test_tokens_of_three_seconds_are_renewed_in_mid_copy(
    crossdock: Crossdock,
    start: Start,
    fault_proxy: Callable[[str], FaultProxy],
    builder: ImageBuilder,
    tmp_path: Path,
    env: dict[str, str],
) -> None:
    acr = start("source", access_token_s=3, refresh_token_s=3)
    target = start("target", access_token_s=3, refresh_token_s=3)
    content, layer = one_layer_image(builder, 6_000_000)
    graph = push(acr.remote, REPOSITORY, builder, content, "v1")
    slow = fault_proxy(acr.host)
    slow.add(Fault(lambda request: request.is_blob_get(layer.digest), times=None, rate=900_000))
    login = {"CROSSDOCK_TARGET_USERNAME": "admin", "CROSSDOCK_TARGET_PASSWORD": "s3cret-admin"}
    done = crossdock(
        *("copy", f"{slow.host}/{REPOSITORY}:v1", f"{target.host}/copy:v1"),
        *("--connections", "1", "--chunk-size", "512KiB", "--progress", "plain", "--state", "none"),
        env={**env, **login},
    )
    assert without_secrets(done, acr.log.read_text(), target.log.read_text()).code == 0, str(done)
    assert_holds(target.remote, "copy", "v1", graph)


# -- what is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "kind", "naming"),
    [
        (
            {"CROSSDOCK_SOURCE_USERNAME": "token2", "CROSSDOCK_SOURCE_PASSWORD": "s3cret-t2"},
            "WrongScope",
            ["user 'token2' has no right to repository:team/app:pull"],
        ),
        (
            {"CROSSDOCK_SOURCE_USERNAME": "token1", "CROSSDOCK_SOURCE_PASSWORD": "s3cret-revoked"},
            "Unauthorized",
            ["the token service refused user 'token1'", "401", "incorrect user name or password"],
        ),
        (
            {"CROSSDOCK_SOURCE_ACCESS_TOKEN": "s3cret-unknown"},
            "Unauthorized",
            ["the token service refused the access token", "/oauth2/exchange: 401", "az account"],
        ),
        (
            # {"alg":"none"}.{"exp":1}.
            {"CROSSDOCK_SOURCE_ACCESS_TOKEN": "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.s3cret"},
            "TokenExpired",
            ["the access token expired", "s ago", "get a new token"],
        ),
        ({}, "Unauthorized", ["no credentials for", "crossdock login"]),
    ],
    ids=["wrong scope", "revoked password", "unknown token", "expired token", "nobody"],
)
def test_a_wrong_login_is_reported_with_exit_code_3(
    crossdock: Crossdock,
    start: Start,
    image: Callable[[Acr], Graph],
    tmp_path: Path,
    env: dict[str, str],
    kind: str,
    naming: list[str],
) -> None:
    acr = start()
    image(acr)
    done = copied(crossdock, acr, tmp_path, env)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (done.code, report["error"]["type"]) == (AUTH, kind), str(done)
    for word in naming:
        assert word in done.stderr, str(done)


def test_a_password_that_is_revoked_in_mid_copy_ends_it(
    crossdock: Crossdock,
    start: Start,
    fault_proxy: Callable[[str], FaultProxy],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    acr = start(access_token_s=1)
    content, layer = one_layer_image(builder, 6_000_000)
    push(acr.remote, REPOSITORY, builder, content, "v1")
    slow = fault_proxy(acr.host)
    held = Fault(lambda request: request.is_blob_get(layer.digest), times=None, rate=900_000)
    slow.add(held)
    words = ("copy", f"{slow.host}/{REPOSITORY}:v1", f"oci:{tmp_path}/layout:v1")
    flags = ("--connections", "1", "--chunk-size", "512KiB", "--progress", "none", "--debug")
    with crossdock.start(*words, *flags, env={**crossdock.environment, **SCOPED}) as running:
        assert held.reached.wait(30)
        acr.write({**USERS, "users": USERS["users"][:1], "access_token_s": 1})
        done = without_secrets(running.finish())
    assert done.code == AUTH, str(done)
    assert "the token service refused user 'token1'" in done.stderr


# -- docker-registry behind strict identity endpoints --------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("env", [ACCESS, SERVICE_PRINCIPAL], ids=["access token", "principal"])
def test_the_forms_on_the_wire_are_those_of_the_service(
    crossdock: Crossdock,
    new_registry: Callable[..., DockerRegistry],
    builder: ImageBuilder,
    tmp_path: Path,
    env: dict[str, str],
) -> None:
    users = {SERVICE_PRINCIPAL["CROSSDOCK_SOURCE_USERNAME"]: "s3cret-sp"}
    with AcrIdentity(users=users, access_tokens={"s3cret-entra": "ann"}) as identity:
        registry = new_registry(
            "acr",
            auth=identity.registry_auth(tmp_path),
            bearer=lambda: identity.mint([f"repository:{REPOSITORY}:*"]),
        )
        push(registry.remote, REPOSITORY, builder, one_layer_image(builder, 300_000)[0], "v1")
        words = ("copy", f"{registry.host}/{REPOSITORY}:v1", f"oci:{tmp_path}/layout:v1")
        without_secrets(crossdock.ok(*words, env=env))
    assert identity.violations == []
    asked = [(each.method, each.path, each.status) for each in identity.wire]
    if env is ACCESS:
        assert asked == [("POST", "/oauth2/exchange", 200), ("POST", "/oauth2/token", 200)]
    else:
        assert asked == [("GET", "/oauth2/token", 200)]


def test_an_import_takes_a_token_without_a_user_name(
    crossdock: Crossdock, start: Start, image: Callable[[Acr], Graph], tmp_path: Path
) -> None:
    acr, target = start("source"), start("target")
    graph = image(acr)
    inventory = tmp_path / "inventory.yaml"
    entry = "{name: mytarget, credentials: {username: admin, password_env: ADMIN_PASSWORD}}"
    hosts = f"{{mysource.azurecr.io: '{acr.host}', mytarget.azurecr.io: '{target.host}'}}"
    inventory.write_text(f"registries: [{entry}]\nhosts: {hosts}\n")
    source = f"mysource.azurecr.io/{REPOSITORY}:v1"
    words = ("acr", "import", "-n", "mytarget", "--source", source, "-t", "copy:v1", "--inventory", inventory)
    env = {"ADMIN_PASSWORD": "s3cret-admin"}
    done = crossdock.ok(*words, "--password-stdin", stdin="s3cret-entra\n", env=env)
    without_secrets(done, acr.log.read_text(), target.log.read_text())
    assert_holds(target.remote, "copy", "v1", graph)
    crossdock.ok(*words, env={**env, "CROSSDOCK_SOURCE_PASSWORD": "s3cret-entra"})
    refused = crossdock(*words, "--password-stdin", stdin="s3cret-unknown\n", env=env)
    assert refused.code == AUTH, str(refused)
    assert "/oauth2/exchange: 401" in without_secrets(refused).stderr
