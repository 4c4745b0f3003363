"""When a login is used: from the start, after a challenge, and never at another host."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from crossdock.errors import (
    CrossdockError,
    Denied,
    NotFound,
    RateLimited,
    RegistryError,
    RetriesExhausted,
    TokenExpired,
    Unauthorized,
)
from crossdock.options import Credentials, NetworkOptions
from crossdock.registry.client import Scope
from crossdock.url import Url
from crossdock_testing.tokens import ANONYMOUS, TokenServer
from unit.registry.http.scripted import ClientUnderTest, MovedClock, ScriptedServer, demand, refuse

BOB = Credentials("bob", "s3cret-pw")
BASIC = "Basic Ym9iOnMzY3JldC1wdw=="
PULL, PUSH = Scope.pull("x"), Scope.push("x")


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(users={"bob": "s3cret-pw"}, rights={ANONYMOUS: {"x": ("pull",)}}) as server:
        yield server


def bearer_of(tokens: TokenServer, scope: str = "") -> str:
    named = f',scope="{scope}"' if scope else ""
    return f'Bearer realm="{tokens.realm}",service="{tokens.service}"{named}'


def is_bearer(request: web.Request) -> bool:
    return request.headers.get("Authorization", "").startswith("Bearer ")


# -- from the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_a_login_is_used_where_strangers_are_let_in_and_see_less(
    registry: ScriptedServer, tokens: TokenServer, status: int, scheme: str
) -> None:
    challenge = 'Basic realm="zot"' if scheme == "basic" else bearer_of(tokens)

    def handler(request: web.Request) -> web.Response:
        if request.path == "/v2/":
            return web.Response(status=status, headers={"WWW-Authenticate": challenge})
        return web.Response(text="all" if "Authorization" in request.headers else "less")

    registry.handler = handler
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        assert (await client.request("GET", "/v2/x/tags/list", scope=PULL)).body == b"all"
        exchange, _ = await client.fetch(f"{registry.url}/v2/x/blobs/y", scope=PULL)
        assert await exchange.read(10) == b"all"
        exchange.close()
    assert registry.count("/v2/x/") == 2


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("scope", [PULL, PUSH])
async def test_a_login_is_used_where_only_the_ping_demands_it(
    registry: ScriptedServer, status: int, scope: Scope
) -> None:
    def handler(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == BASIC:
            return web.Response(text="in")
        return demand('Basic realm="r"') if request.path == "/v2/" else refuse(status, "DENIED")

    registry.handler = handler
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        for path in ("/v2/x/manifests/v1", "/v2/x/manifests/v2"):
            assert (await client.request("GET", path, scope=scope)).body == b"in"
    assert registry.count("/v2/x/") == 2


async def test_without_a_login_nothing_more_is_asked_than_what_is_needed(
    registry: ScriptedServer, tokens: TokenServer, tmp_path: Path
) -> None:
    """Docker Hub counts requests: 401, token, answer, and from then on answers alone."""
    registry.handler = lambda request: (
        web.Response(text="in") if is_bearer(request) else demand(bearer_of(tokens, "repository:x:pull"))
    )
    async with ClientUnderTest(registry.host, environ={"HOME": str(tmp_path)}) as client:
        for _ in range(3):
            await client.request("GET", "/v2/x/manifests/v1", scope=PULL)
    assert [bool(seen.authorization) for seen in registry.seen] == [False, True, True, True]
    assert registry.count("/v2/x/") == 4
    assert len(tokens.requests) == 1


async def test_many_requests_at_once_wait_for_one_ping(registry: ScriptedServer) -> None:
    registry.handler = lambda request: (
        web.Response(text="in")
        if request.headers.get("Authorization") == BASIC
        else demand('Basic realm="r"')
        if request.path == "/v2/"
        else refuse(404, "NAME_UNKNOWN")
    )
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        await asyncio.gather(*(client.request("GET", f"/v2/x/{n}", scope=PULL) for n in range(20)))
    assert sum(seen.path == "/v2/" for seen in registry.seen) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503, 307])
async def test_a_ping_that_fails_is_not_a_verdict(
    registry: ScriptedServer, clock: MovedClock, status: int
) -> None:
    def handler(request: web.Request) -> web.Response:
        if request.path == "/v2/":
            return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else {})
        return web.Response(text="in") if request.headers.get("Authorization") else demand('Basic realm="r"')

    registry.handler = handler
    async with ClientUnderTest(registry.host, credentials=BOB, clock=clock) as client:
        assert (await client.request("GET", "/v2/x/manifests/v1", scope=PULL)).body == b"in"


async def test_a_ping_that_fails_for_a_moment_is_repeated(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    answers = iter(
        [refuse(503, ""), refuse(429, ""), web.Response(headers={"WWW-Authenticate": 'Basic realm="r"'})]
    )
    registry.handler = lambda request: (
        next(answers)
        if request.path == "/v2/"
        else web.Response(text=request.headers.get("Authorization", ""))
    )
    async with ClientUnderTest(registry.host, credentials=BOB, clock=clock) as client:
        assert (await client.request("GET", "/v2/x", scope=PULL)).body.decode() == BASIC


async def test_broken_files_do_not_matter_where_nothing_is_demanded(
    registry: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    async with ClientUnderTest(registry.host, environ={"DOCKER_CONFIG": str(tmp_path)}) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        registry.handler = lambda request: demand('Basic realm="r"')
        with pytest.raises(CrossdockError, match="not valid JSON"):
            await client.request("GET", "/v2/x", scope=PULL)


USABLE_BESIDE = [
    'Bearer error="invalid_token"',
    'Bearer realm=""',
    'Bearer realm="not a url"',
    "Bearer",
]


@pytest.mark.parametrize("unusable", USABLE_BESIDE)
@pytest.mark.parametrize("is_first", [True, False])
async def test_bearer_without_a_usable_realm_yields_to_basic(
    registry: ScriptedServer, unusable: str, is_first: bool
) -> None:
    both = [unusable, 'Basic realm="r"']
    registry.handler = lambda request: (
        web.Response(text="in")
        if request.headers.get("Authorization") == BASIC
        else demand(", ".join(both if is_first else both[::-1]))
    )
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)


# -- what means login --------------------------------------------------------------------------------


EXPIRED = [
    (403, b"Your Authorization Token has expired. Please run 'aws ecr get-login' to fetch a new one."),
    (
        403,
        b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}',
    ),
    (400, b'{"__type":"ExpiredTokenException","message":"The security token included has expired"}'),
    (400, b'{"errors":[{"code":"TOKEN_EXPIRED","message":""}]}'),
    (403, b'{"errors":[{"code":"UNKNOWN","message":"expired login session"}]}'),
]


def helper(tmp_path: Path, host: str) -> dict[str, str]:
    """An environment with a helper whose password has the number of the call: pw1, pw2, …"""
    program = tmp_path / "docker-credential-fake"
    count = tmp_path / "n"
    count.write_text("0")
    program.write_text(
        f"#!/bin/sh\nn=$(($(cat {count})+1)); echo $n > {count}\n"
        'printf \'{"ServerURL":"x","Username":"AWS","Secret":"pw%s"}\' "$n"\n'
    )
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {host: "fake"}}))
    return {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.defpath}"}


def basic(password: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"AWS:{password}".encode()).decode()


@pytest.mark.parametrize(("status", "body"), EXPIRED)
async def test_an_expired_login_is_asked_of_the_helper_again(
    registry: ScriptedServer, tmp_path: Path, status: int, body: bytes
) -> None:
    good = ["pw1"]

    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization")
        if not sent:
            return demand('Basic realm="r"')
        return web.Response(text="in") if sent == basic(good[0]) else web.Response(status=status, body=body)

    registry.handler = handler
    async with ClientUnderTest(registry.host, environ=helper(tmp_path, registry.host)) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        good[0] = "pw2"
        done = await asyncio.gather(
            *(client.request("PUT", f"/v2/x/{n}", scope=PULL, body=b"") for n in range(8))
        )
        assert {reply.body for reply in done} == {b"in"}
        good[0] = "pw3"
        exchange, head = await client.fetch(f"{registry.url}/v2/x/blobs/y", scope=PULL)
        assert head.status == 200
        exchange.close()
    assert (tmp_path / "n").read_text() == "3\n"


@pytest.mark.parametrize("status", [400, 403])
async def test_a_head_that_is_refused_without_words_is_cleared_up_by_a_ping(
    registry: ScriptedServer, tmp_path: Path, status: int
) -> None:
    good = ["pw1"]

    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization")
        if not sent:
            return demand('Basic realm="r"')
        return (
            web.Response(text="in")
            if sent == basic(good[0])
            else web.Response(status=status, body=EXPIRED[0][1])
        )

    registry.handler = handler
    async with ClientUnderTest(registry.host, environ=helper(tmp_path, registry.host)) as client:
        await client.request("HEAD", "/v2/x", scope=PULL)
        good[0] = "pw2"
        await asyncio.gather(*(client.request("HEAD", "/v2/x", scope=PULL) for _ in range(5)))
    assert (tmp_path / "n").read_text() == "2\n"
    assert registry.count("/v2/") - registry.count("/v2/x") == 2


async def test_a_right_that_is_missing_is_looked_into_once(registry: ScriptedServer, tmp_path: Path) -> None:
    def handler(request: web.Request) -> web.Response:
        if not request.headers.get("Authorization"):
            return demand('Basic realm="r"')
        return web.Response(status=200 if request.path == "/v2/" else 403)

    registry.handler = handler
    async with ClientUnderTest(registry.host, environ=helper(tmp_path, registry.host)) as client:
        for _ in range(4):
            with pytest.raises(Denied):
                await client.request("HEAD", "/v2/x", scope=PULL)
    assert registry.count("/v2/x") == 4
    assert registry.count("/v2/") == 4 + 2
    assert (tmp_path / "n").read_text() == "1\n"


@pytest.mark.parametrize(("status", "body"), EXPIRED)
async def test_an_expired_token_is_replaced_once(
    registry: ScriptedServer, tokens: TokenServer, status: int, body: bytes
) -> None:
    revoked: set[str] = set()

    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "")
        if not sent:
            return demand(bearer_of(tokens))
        return web.Response(status=status, body=body) if sent in revoked else web.Response(text="in")

    registry.handler = handler
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        revoked |= {seen.authorization or "" for seen in registry.seen}
        assert (await client.request("GET", "/v2/x", scope=PULL)).body == b"in"
        revoked |= {seen.authorization or "" for seen in registry.seen}
        exchange, head = await client.fetch(f"{registry.url}/v2/x/blobs/y", scope=PULL)
        exchange.close()
        assert head.status == 200
    assert len(tokens.requests) == 3


@pytest.mark.parametrize(("status", "body"), EXPIRED)
async def test_an_expired_login_without_a_newer_one_is_reported_as_expired(
    registry: ScriptedServer, status: int, body: bytes
) -> None:
    registry.handler = lambda request: (
        web.Response(status=status, body=body)
        if request.headers.get("Authorization")
        else demand('Basic realm="r"')
    )
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        with pytest.raises(TokenExpired) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
        assert "user 'bob'" in str(caught.value.advice)
        exchange, head = await client.fetch(f"{registry.url}/v2/x/blobs/y", scope=PULL)
        assert (head.status, await exchange.read(1000)) == (status, body)  # the caller reads the words, too
        exchange.close()
    assert registry.count("/v2/x") == 2


@pytest.mark.parametrize("words", ["access denied", "your trial has expired", "quota exceeded"])
async def test_another_403_is_not_taken_for_an_expired_login(registry: ScriptedServer, words: str) -> None:
    registry.handler = lambda request: (
        refuse(403, "DENIED", words) if request.headers.get("Authorization") else demand('Basic realm="r"')
    )
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        with pytest.raises(Denied):
            await client.request("GET", "/v2/x", scope=PULL)
    assert registry.count("/v2/x") == 1


# -- rate limits -------------------------------------------------------------------------------------

LIMITS = [
    (403, "TOOMANYREQUESTS", "You have reached your pull rate limit"),
    (403, "DENIED", "Request exceeded pull rate limit for IP"),
    (403, "DENIED", "Too many requests"),
    (403, "UNKNOWN", "toomanyrequests: Rate exceeded"),
    (400, "TOOMANYREQUESTS", ""),
]


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_rate_limit_by_another_status_is_waited_for(
    registry: ScriptedServer, clock: MovedClock, limit: tuple[int, str, str]
) -> None:
    answers = iter([refuse(*limit), refuse(*limit, Retry_After="7"), web.Response(text="in")])
    registry.handler = lambda request: next(answers)
    async with ClientUnderTest(registry.host, clock=clock) as client:
        assert (await client.request("GET", "/v2/x", scope=PULL)).body == b"in"
    assert 7.0 in clock.slept


async def test_a_rate_limit_by_403_that_stays_is_a_rate_limit(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    registry.handler = lambda request: refuse(*LIMITS[0])
    async with ClientUnderTest(registry.host, clock=clock) as client:
        with pytest.raises(RetriesExhausted) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    assert isinstance(caught.value.attempts[-1], RateLimited)
    assert "no credentials" not in str(caught.value.advice)
    assert caught.value.advice is not None
    assert caught.value.advice.kind == "log-in"


async def test_a_rate_limit_by_403_of_the_token_service_is_waited_for(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    answers = iter([refuse(*LIMITS[0]), refuse(*LIMITS[1]), web.json_response({"token": "t"})])

    def handler(request: web.Request) -> web.Response:
        if request.path == "/token":
            return next(answers)
        return (
            web.Response(text="in") if is_bearer(request) else demand(f'Bearer realm="{registry.url}/token"')
        )

    registry.handler = handler
    async with ClientUnderTest(registry.host, clock=clock, credentials=BOB) as client:
        assert (await client.request("GET", "/v2/x", scope=PULL)).body == b"in"
    assert registry.count("/token") == 3


@pytest.mark.parametrize("login", [None, BOB])
async def test_a_rate_limit_of_the_token_service_advises_a_login_to_strangers_alone(
    registry: ScriptedServer, clock: MovedClock, login: Credentials | None
) -> None:
    async with ScriptedServer(lambda request: refuse(*LIMITS[0])) as service:
        registry.handler = lambda request: demand(f'Bearer realm="{service.url}/token"')
        async with ClientUnderTest(registry.host, clock=clock, credentials=login) as client:
            with pytest.raises(RetriesExhausted) as caught:
                await client.request("GET", "/v2/x", scope=PULL)
    assert isinstance(caught.value.attempts[-1], RateLimited)
    assert (caught.value.advice is not None and caught.value.advice.kind == "log-in") == (login is None)


async def test_a_storage_that_refuses_is_nothing_to_log_in_to(registry: ScriptedServer) -> None:
    async with ScriptedServer(lambda request: web.Response(status=403)) as storage:
        registry.handler = lambda request: web.Response(
            status=307, headers={"Location": f"{storage.url}/bucket/object?sig=s3cret"}
        )
        async with ClientUnderTest(registry.host) as client:
            with pytest.raises(Denied) as caught:
                await client.request("GET", "/v2/x/manifests/v1", scope=PULL)
    assert "log" not in str(caught.value.advice)
    assert "s3cret" not in str(caught.value) + str(caught.value.advice)


@pytest.mark.parametrize("words", ["forbidden", "exceeded your storage quota", "rated content"])
async def test_another_403_is_not_taken_for_a_rate_limit(registry: ScriptedServer, words: str) -> None:
    registry.handler = lambda request: refuse(403, "DENIED", words)
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(Denied):
            await client.request("GET", "/v2/x", scope=PULL)
    assert len(registry.seen) == 1


# -- a vanity host -----------------------------------------------------------------------------------


def registry_for_strangers(tokens: TokenServer) -> Callable[[web.Request], web.Response]:
    """Content for whoever brings a token, which strangers get."""

    def handler(request: web.Request) -> web.Response:
        if is_bearer(request):
            return web.Response(text=f"in as {request.headers['Authorization']}")
        return demand(bearer_of(tokens, "repository:x:pull"))

    return handler


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("login", [None, BOB])
async def test_a_vanity_host_leads_to_a_registry_of_anonymous_tokens(
    registry: ScriptedServer, tokens: TokenServer, status: int, login: Credentials | None
) -> None:
    async with ScriptedServer(registry_for_strangers(tokens)) as other:
        registry.handler = lambda request: web.Response(
            status=status, headers={"Location": f"{other.url}{request.raw_path}"}
        )
        async with ClientUnderTest(registry.host, credentials=login) as client:
            for name in ("v1", "v2"):
                await client.request("GET", f"/v2/x/manifests/{name}", scope=PULL)
            exchange, head = await client.fetch(f"{other.url}/v2/x/blobs/y", scope=PULL)
            exchange.close()
            assert head.status == 200
        assert [bool(seen.authorization) for seen in other.seen] == [False, True, True, True]
        assert not any((seen.authorization or "").startswith("Basic") for seen in other.seen)
    assert [(r.user, r.scopes) for r in tokens.requests] == [(ANONYMOUS, ("repository:x:pull",))]


async def test_a_token_of_the_other_registry_is_got_again_when_it_is_refused(
    registry: ScriptedServer, tokens: TokenServer
) -> None:
    revoked: set[str] = set()
    serve = registry_for_strangers(tokens)
    async with ScriptedServer(
        lambda request: (
            demand(bearer_of(tokens)) if request.headers.get("Authorization") in revoked else serve(request)
        )
    ) as other:
        registry.handler = lambda request: web.Response(
            status=302, headers={"Location": f"{other.url}{request.raw_path}"}
        )
        async with ClientUnderTest(registry.host) as client:
            await client.request("GET", "/v2/x/manifests/v1", scope=PULL)
            revoked |= {seen.authorization or "" for seen in other.seen} - {""}
            await client.request("GET", "/v2/x/manifests/v1", scope=PULL)
    assert len(tokens.requests) == 2


async def test_the_other_registry_is_never_written_to_as_a_guest(
    registry: ScriptedServer, tokens: TokenServer
) -> None:
    async with (
        ScriptedServer(registry_for_strangers(tokens)) as other,
        ClientUnderTest(registry.host) as client,
    ):
        with pytest.raises(RegistryError):
            await client.request("PUT", Url.parse(f"{other.url}/v2/x/manifests/v1"), scope=PUSH, body=b"{}")
    assert tokens.requests == []


async def test_a_registry_elsewhere_that_wants_a_login_is_named(
    registry: ScriptedServer, tokens: TokenServer
) -> None:
    async with ScriptedServer(lambda request: demand('Basic realm="r"')) as other:
        registry.handler = lambda request: web.Response(
            status=302, headers={"Location": f"{other.url}{request.raw_path}"}
        )
        async with ClientUnderTest(registry.host, credentials=BOB) as client:
            with pytest.raises(Unauthorized) as caught:
                await client.request("GET", "/v2/x/manifests/v1", scope=PULL)
        assert all(seen.authorization is None for seen in other.seen)
    assert f"name {other.host} in the reference" in str(caught.value.advice)
    assert "no credentials" not in str(caught.value.advice)
    assert "was sent as" not in str(caught.value.advice)


# -- advice ------------------------------------------------------------------------------------------


async def test_a_login_that_was_given_and_not_wanted_is_not_denied(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(status=200 if request.path == "/v2/" else 403)
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        with pytest.raises(Denied) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    assert "does not ask for a login" in str(caught.value.advice)
    assert "no credentials" not in str(caught.value.advice)


async def test_a_missing_manifest_behind_a_login_is_a_404(registry: ScriptedServer) -> None:
    registry.handler = lambda request: (
        refuse(404, "MANIFEST_UNKNOWN")
        if request.headers.get("Authorization") == BASIC
        else demand('Basic realm="r"')
    )
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        with pytest.raises(NotFound):
            await client.request("GET", "/v2/x/manifests/v1", scope=PULL)


async def test_a_place_that_could_not_be_used_is_named_when_a_login_is_wanted(
    registry: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "desktop"}))
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)}
    async with ClientUnderTest(registry.host, environ=environ) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        registry.handler = lambda request: demand('Basic realm="r"')
        with pytest.raises(Unauthorized) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    assert "docker-credential-desktop" in str(caught.value.advice)
    assert str(tmp_path / "config.json") in str(caught.value.advice)


async def test_no_retries_means_none(
    registry: ScriptedServer, tokens: TokenServer, clock: MovedClock
) -> None:
    registry.handler = lambda request: demand(bearer_of(tokens))
    network = NetworkOptions(timeout=10, retries=0)
    async with ClientUnderTest(registry.host, credentials=BOB, network=network, clock=clock) as client:
        with pytest.raises(Unauthorized):
            await client.request("GET", "/v2/x", scope=PULL)
    assert clock.slept == []
