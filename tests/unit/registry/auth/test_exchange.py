"""Azure's ways in, on the wire: access tokens, refresh tokens, managed identities, helpers by name."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crossdock.errors import CredentialsError, Denied, RedirectRefused, TokenExpired, Unauthorized, WrongScope
from crossdock.options import Credentials
from crossdock.registry.client import Scope
from crossdock_testing.azure.registry import NULL_USER, AcrIdentity, ManagedIdentity
from unit.registry.http.scripted import ClientUnderTest, MovedClock, ScriptedServer, demand, refuse

PULL, PUSH = Scope.pull("x"), Scope.push("x")
ENTRA = "s3cret-entra-token"


class AcrLike(ScriptedServer):
    """Wants a bearer token of the identity server's; its challenge has no scope, as ACR's may."""

    def __init__(self, identity: AcrIdentity, *, also: tuple[str, ...] = (), error: str = "") -> None:
        super().__init__(self._answer_bearer)
        self.identity = identity
        self.also = also
        self.error = error

    def _answer_bearer(self, request: web.Request) -> web.Response:
        challenge = f'Bearer realm="{self.identity.realm}",service="{self.identity.service}"'
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        issued = {each.token for each in self.identity.requests if each.token}
        if kind == "Bearer" and not self.error and (token in issued or token in self.also):
            return web.Response(text="in")
        return demand(challenge + (f',error="{self.error}"' if token and self.error else ""))


@pytest.fixture
def identity() -> Iterator[AcrIdentity]:
    with AcrIdentity(
        users={"ci": "s3cret-pw"},
        access_tokens={ENTRA: "ann"},
        identity_tokens={"s3cret-own-refresh": "ann"},
        service="myregistry.azurecr.io",
    ) as server:
        yield server


def jwt(**said: Any) -> str:
    """An unsigned token with these claims."""
    parts = [json.dumps(each).encode() for each in ({"alg": "none"}, said)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".s3cret"


async def get(client: ClientUnderTest, scope: Scope = PULL) -> bytes:
    return (await client.request("GET", "/v2/x/manifests/v1", scope=scope)).body


def shown(error: BaseException) -> str:
    """Everything that could be printed of an error."""
    return "".join([*traceback.format_exception(error), repr(error), repr(vars(error))])


@pytest.mark.parametrize("given", [Credentials(access_token=ENTRA), Credentials(password=ENTRA)])
async def test_an_access_token_is_exchanged_once_and_redeemed_per_scope(
    identity: AcrIdentity, given: Credentials
) -> None:
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, credentials=given) as client,
    ):
        assert await get(client) == b"in"
        await get(client, PUSH)
        await get(client, Scope.metadata("x"))
        await get(client, Scope.catalog())
    exchange, *redeemed = identity.wire
    assert (exchange.method, exchange.path) == ("POST", "/oauth2/exchange")
    assert exchange.form == (
        ("grant_type", "access_token"),
        ("service", "myregistry.azurecr.io"),
        ("access_token", ENTRA),
    )
    refresh_token = redeemed[0].fields()["refresh_token"]
    assert [each.form for each in redeemed] == [
        (
            ("grant_type", "refresh_token"),
            ("service", "myregistry.azurecr.io"),
            ("scope", scope),
            ("refresh_token", refresh_token),
        )
        for scope in (
            "repository:x:pull",
            "repository:x:pull,push",
            "repository:x:metadata_read",
            "registry:catalog:*",
        )
    ]
    assert all(each.path == "/oauth2/token" and not each.authorization for each in redeemed)
    assert identity.violations == []


async def test_a_refresh_token_that_ran_out_is_exchanged_for_again(
    identity: AcrIdentity, clock: MovedClock
) -> None:
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, credentials=Credentials(access_token=ENTRA), clock=clock) as client,
    ):
        await get(client)
        identity.revoke_refresh_tokens()
        clock.now += 100
        assert await get(client) == b"in"
        identity.revoke_refresh_tokens()
        del identity.access_tokens[ENTRA]
        clock.now += 100
        with pytest.raises(Unauthorized, match="the token service refused the access token") as caught:
            await get(client)
    assert "s3cret" not in shown(caught.value)
    statuses = [(each.path.removeprefix("/oauth2/"), each.status) for each in identity.wire]
    assert statuses == [
        ("exchange", 200),
        ("token", 200),
        ("token", 401),
        ("exchange", 200),
        ("token", 200),
        ("token", 401),
        ("exchange", 401),
    ]


@pytest.mark.parametrize("exchanges", [True, False])
async def test_a_token_that_is_not_exchanged_is_tried_as_a_refresh_token(
    identity: AcrIdentity, exchanges: bool
) -> None:
    identity.exchanges = exchanges
    given = Credentials(access_token="s3cret-own-refresh")
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, credentials=given) as client:
        assert await get(client) == b"in"
        registry.handler = lambda request: refuse(403, "DENIED", "not for you")
        with pytest.raises(Denied) as caught:
            await get(client)
        assert "/oauth2/exchange" not in str(caught.value.advice)
    assert [each.status for each in identity.wire] == [401 if exchanges else 404, 200]
    assert identity.wire[1].fields()["refresh_token"] == "s3cret-own-refresh"


async def test_and_then_as_the_null_users_password_and_as_a_bearer_token(identity: AcrIdentity) -> None:
    given = Credentials(access_token="s3cret-ready-token")
    async with (
        AcrLike(identity, also=("s3cret-ready-token",)) as registry,
        ClientUnderTest(registry.host, credentials=given) as client,
    ):
        assert await get(client) == b"in"
    kinds = [(each.method, each.path, each.status) for each in identity.wire]
    assert kinds == [
        ("POST", "/oauth2/exchange", 401),
        ("POST", "/oauth2/token", 401),
        ("GET", "/oauth2/token", 401),
    ]
    sent = base64.b64decode(identity.wire[2].authorization.removeprefix("Basic ")).decode()
    assert sent == f"{NULL_USER}:s3cret-ready-token"


async def test_a_token_that_is_never_accepted_is_named_with_the_exchanges_error(
    identity: AcrIdentity,
) -> None:
    given = Credentials(access_token="s3cret-nonsense")
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, credentials=given) as client:
        with pytest.raises(Unauthorized) as caught:
            await get(client)
    assert "/oauth2/exchange: 401 UNAUTHORIZED" in str(caught.value.advice)
    assert "az account get-access-token" in str(caught.value.advice)
    assert "s3cret" not in shown(caught.value)


async def test_an_expired_access_token_is_distinguished_from_a_wrong_one(identity: AcrIdentity) -> None:
    clock = MovedClock()
    given = Credentials(access_token=jwt(iat=1, exp=int(clock.wall()) - 90))
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, credentials=given, clock=clock) as client,
    ):
        with pytest.raises(TokenExpired, match="the access token expired 90 s ago") as caught:
            await get(client)
    assert given.access_token not in shown(caught.value)


async def test_an_expired_ready_token_is_distinguished_from_a_wrong_one(identity: AcrIdentity) -> None:
    clock = MovedClock()
    given = Credentials(registry_token=jwt(exp=int(clock.wall()) - 90))
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, credentials=given, clock=clock) as client,
    ):
        with pytest.raises(TokenExpired) as caught:
            await get(client)
    assert "expired 90 s ago" in str(caught.value.advice)


@pytest.mark.parametrize("given", [Credentials("ci", "s3cret-pw"), Credentials(access_token=ENTRA)])
@pytest.mark.parametrize("error", ["", "insufficient_scope"], ids=["by its rights", "by the challenge"])
async def test_a_right_that_is_not_given_is_named(
    identity: AcrIdentity, given: Credentials, error: str
) -> None:
    if not error:
        identity.rights = {"ci": {"other": ("pull",)}, "ann": {"other": ("pull",)}}
    async with (
        AcrLike(identity, error=error or "invalid_token") as registry,
        ClientUnderTest(registry.host, credentials=given) as client,
    ):
        with pytest.raises(WrongScope) as caught:
            await get(client)
    assert "no right to repository:x:pull" in str(caught.value.advice)
    assert isinstance(caught.value, Unauthorized)


async def test_a_refresh_token_of_the_null_user_goes_by_post(identity: AcrIdentity) -> None:
    given = Credentials(NULL_USER, "s3cret-own-refresh")
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, credentials=given) as client:
        assert await get(client) == b"in"
    (asked,) = identity.wire
    assert (asked.method, asked.fields()["grant_type"]) == ("POST", "refresh_token")
    assert identity.violations == []


async def test_user_and_password_go_by_get_with_basic_and_by_post_where_that_is_refused(
    identity: AcrIdentity,
) -> None:
    given = Credentials("ci", "s3cret-pw")
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, credentials=given) as client:
        await get(client)
        identity.methods = frozenset({"POST"})
        await get(client, PUSH)
    assert [(each.method, each.status) for each in identity.wire] == [
        ("GET", 200),
        ("GET", 405),
        ("POST", 200),
    ]
    assert identity.wire[0].query == (
        ("account", "ci"),
        ("service", "myregistry.azurecr.io"),
        ("scope", "repository:x:pull"),
    )
    assert identity.wire[2].fields()["grant_type"] == "password"
    assert identity.violations == []


async def test_a_password_that_is_revoked_ends_with_its_users_name(
    identity: AcrIdentity, clock: MovedClock
) -> None:
    given = Credentials("ci", "s3cret-pw")
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, credentials=given, clock=clock) as client,
    ):
        await get(client)
        identity.users["ci"] = "another"
        clock.now += 100
        with pytest.raises(Unauthorized, match="the token service refused user 'ci'") as caught:
            await get(client)
    assert type(caught.value) is Unauthorized
    assert "check its password" in str(caught.value.advice)


async def test_an_access_token_goes_to_no_other_host(registry: ScriptedServer) -> None:
    registry.handler = lambda request: demand(
        'Bearer realm="https://tokens.example/oauth2/token",service="s"'
    )
    given = Credentials(access_token=ENTRA)
    async with ClientUnderTest(registry.host, credentials=given) as client:
        with pytest.raises(RedirectRefused, match="no access token is sent there"):
            await get(client)


async def test_where_basic_is_demanded_an_access_token_is_the_null_users_password(
    registry: ScriptedServer,
) -> None:
    registry.handler = lambda r: (
        web.Response(text="in") if "Authorization" in r.headers else demand('Basic realm="r"')
    )
    async with ClientUnderTest(registry.host, credentials=Credentials(access_token=ENTRA)) as client:
        assert await get(client) == b"in"
    sent = base64.b64decode((registry.seen[-1].authorization or "").removeprefix("Basic ")).decode()
    assert sent == f"{NULL_USER}:{ENTRA}"


# -- helpers by name ---------------------------------------------------------------------------------


def helper_in(folder: Path, name: str, answer: str) -> dict[str, str]:
    """An environment with a credential helper that records its input in ``asked``."""
    program = folder / f"docker-credential-{name}"
    program.write_text(
        f"#!/bin/sh\nread -r host\necho \"$1 $host\" >> {folder}/asked\ncat <<'END'\n{answer}\nEND\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.defpath}"}


@pytest.mark.parametrize(("name", "user"), [("ecr-login", "AWS"), ("gcr", "_dcgcr_2_0_0_token")])
async def test_a_helper_by_name_is_run_for_its_host(
    identity: AcrIdentity, tmp_path: Path, name: str, user: str
) -> None:
    identity.users[user] = "s3cret-cloud"
    environ = helper_in(tmp_path, name, json.dumps({"Username": user, "Secret": "s3cret-cloud"}))
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, helper=name, environ=environ) as client,
    ):
        await get(client)
        await get(client, PUSH)
        assert (tmp_path / "asked").read_text() == f"get {registry.host}\n"
    assert {each.user for each in identity.requests} == {user}


async def test_a_helper_is_run_again_when_its_login_is_refused(
    identity: AcrIdentity, tmp_path: Path, clock: MovedClock
) -> None:
    environ = helper_in(tmp_path, "gcr", json.dumps({"Username": "ci", "Secret": "s3cret-pw"}))
    async with (
        AcrLike(identity) as registry,
        ClientUnderTest(registry.host, helper="gcr", environ=environ, clock=clock) as client,
    ):
        await get(client)
        await get(client, Scope.pull("y"))
        identity.users["ci"] = "s3cret-new"
        helper_in(tmp_path, "gcr", json.dumps({"Username": "ci", "Secret": "s3cret-new"}))
        clock.now += 100
        await get(client)
        await get(client, Scope.pull("y"))
        assert (tmp_path / "asked").read_text().count("get") == 2
        identity.users["ci"] = "s3cret-gone"
        clock.now += 100
        with pytest.raises(Unauthorized) as caught:
            await get(client)
        assert (tmp_path / "asked").read_text().count("get") == 3
    assert "s3cret" not in shown(caught.value)


async def test_a_helper_is_run_again_when_basic_is_refused(registry: ScriptedServer, tmp_path: Path) -> None:
    good = "old"

    def handler(request: web.Request) -> web.Response:
        expected = base64.b64encode(f"AWS:{good}".encode()).decode()
        is_good = request.headers.get("Authorization") == f"Basic {expected}"
        return web.Response(text="in") if is_good else demand('Basic realm="r"')

    registry.handler = handler
    environ = helper_in(tmp_path, "ecr-login", json.dumps({"Username": "AWS", "Secret": "old"}))
    async with ClientUnderTest(registry.host, helper="ecr-login", environ=environ) as client:
        await get(client)
        helper_in(tmp_path, "ecr-login", json.dumps({"Username": "AWS", "Secret": "new"}))
        good = "new"
        assert await get(client) == b"in"
        good = "newer"
        with pytest.raises(Unauthorized):
            await get(client)
    assert (tmp_path / "asked").read_text().count("get") == 3


async def test_a_helper_of_the_environment_is_used(identity: AcrIdentity, tmp_path: Path) -> None:
    environ = helper_in(tmp_path, "ecr-login", json.dumps({"Username": "ci", "Secret": "s3cret-pw"}))
    environ["CROSSDOCK_SOURCE_CREDENTIAL_HELPER"] = "ecr-login"
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, environ=environ) as client:
        await get(client)
    assert {each.user for each in identity.requests} == {"ci"}


async def test_a_helper_of_the_environment_that_is_missing_is_named(identity: AcrIdentity) -> None:
    environ = {"CROSSDOCK_SOURCE_CREDENTIAL_HELPER": "not-installed", "PATH": "/nonexistent"}
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, environ=environ) as client:
        with pytest.raises(CredentialsError, match="named by CROSSDOCK_SOURCE_CREDENTIAL_HELPER"):
            await get(client)


async def test_an_access_token_of_the_environment_is_used(identity: AcrIdentity) -> None:
    environ = {"CROSSDOCK_SOURCE_ACCESS_TOKEN": ENTRA}
    async with AcrLike(identity) as registry, ClientUnderTest(registry.host, environ=environ) as client:
        assert await get(client) == b"in"


# -- azure-identity ----------------------------------------------------------------------------------

ASK = """
import asyncio, os, sys
from crossdock.errors import CredentialsError
from crossdock.registry.auth.azure import ask_azure
try:
    print(asyncio.run(ask_azure(sys.argv[1], os.environ, timeout=30)))
except CredentialsError as error:
    print(error, "|", str(error.advice))
"""


def ask(helper: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`ask_azure` in a process with only this environment, which the package reads; it may print warnings."""
    return subprocess.run(
        [sys.executable, "-c", ASK, helper],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )


def test_a_managed_identity_gives_an_access_token() -> None:
    pytest.importorskip("azure.identity")
    with ManagedIdentity("s3cret-managed") as endpoint:
        done = ask("azure-identity", PATH=os.defpath, **endpoint.environ)
        assert done.stdout == "s3cret-managed\n", done
        assert [(method, status) for method, _, status in endpoint.asked] == [("GET", 200)]
    assert "s3cret" not in done.stderr


def az(folder: Path, script: str) -> str:
    """A fake az in a folder of its own; returns the PATH with it."""
    folder.mkdir(exist_ok=True)
    (folder / "az").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{script}\n')
    (folder / "az").chmod(0o755)
    return f"{folder}:{os.defpath}"


def test_azs_own_login_gives_an_access_token(tmp_path: Path) -> None:
    answer = json.dumps({"accessToken": "s3cret-cli", "expires_on": 4102444800, "tokenType": "Bearer"})
    done = ask("azure-cli", PATH=az(tmp_path, f"echo '{answer}'"))
    assert done.stdout == "s3cret-cli\n", done
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:4] == ["account", "get-access-token", "--resource", "https://containerregistry.azure.net"]


@pytest.mark.parametrize(
    ("script", "naming"),
    [
        ("", "printed no access token"),
        ("echo '[]'", "printed no access token"),
        ("""echo '{"accessToken": 7}'""", "printed no access token"),
        ("echo s3cret >&2; echo s3cret; exit 1", "az gave no access token for Azure registries: exit code 1"),
    ],
)
def test_an_az_without_a_token_is_reported_in_one_line(tmp_path: Path, script: str, naming: str) -> None:
    done = ask("azure-cli", PATH=az(tmp_path, script))
    assert naming in done.stdout
    assert "| log in with az login" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_a_missing_az_is_reported(tmp_path: Path) -> None:
    done = ask("azure-cli", PATH=str(tmp_path))
    assert done.stdout.startswith("az is not on PATH, so its login cannot be used | log in with az login")


def test_without_the_package_the_extra_is_named() -> None:
    hidden = "import sys; sys.modules['azure.core.exceptions'] = None"
    done = subprocess.run(
        [sys.executable, "-c", hidden + ASK, "azure-identity"],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "pip install 'crossdock[azure]'" in done.stdout
