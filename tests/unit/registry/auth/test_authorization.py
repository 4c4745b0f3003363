"""Basic and Bearer, with a scripted registry and a real token service that counts requests."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aiohttp import web

from crossdock.errors import (
    Advice,
    CrossdockError,
    Denied,
    ProtocolError,
    RateLimited,
    RedirectRefused,
    RetriesExhausted,
    Side,
    Unauthorized,
)
from crossdock.options import Credentials, NetworkOptions
from crossdock.registry.auth.authorization import SETTLES_S
from crossdock.registry.auth.tokens import check_realm
from crossdock.registry.client import NONE, Scope
from crossdock.url import Url
from crossdock_testing.tokens import ANONYMOUS, TokenServer
from unit.registry.http.scripted import ClientUnderTest, MovedClock, ScriptedServer, demand, refuse

BOB = Credentials("bob", "s3cret-pw")
PULL, PUSH = Scope.pull("x"), Scope.push("x")


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(
        users={"bob": "s3cret-pw"},
        identity_tokens={"s3cret-it": "bob"},
        rights={ANONYMOUS: {"x": ("pull",)}},
    ) as server:
        yield server


class BearerRegistry(ScriptedServer):
    """Wants a bearer token that is not among the ``revoked``; any other is good for everything."""

    def __init__(self, realm: str, service: str) -> None:
        super().__init__(self._answer_bearer)
        self.challenge = f'Bearer realm="{realm}",service="{service}",scope="repository:x:pull"'
        self.revoked: set[str] = set()

    def _answer_bearer(self, request: web.Request) -> web.Response:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer" and token and token not in self.revoked:
            return web.Response(text="in")
        return demand(self.challenge)

    def revoke_all(self) -> None:
        """Make all tokens invalid, as if they had expired."""
        for seen in self.seen:
            if seen.authorization:
                self.revoked.add(seen.authorization.removeprefix("Bearer "))


@pytest.fixture
async def bearer(tokens: TokenServer) -> AsyncIterator[BearerRegistry]:
    server = BearerRegistry(tokens.realm, tokens.service)
    async with server:
        yield server


# -- Basic -------------------------------------------------------------------------------------------


def basic_only(request: web.Request) -> web.Response:
    good = request.headers.get("Authorization") == "Basic Ym9iOnMzY3JldC1wdw=="
    return web.Response(text="in") if good else demand('Basic realm="here"')


async def test_basic_is_sent_after_the_first_demand_and_then_always(registry: ScriptedServer) -> None:
    registry.handler = basic_only
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        for _ in range(3):
            await client.request("GET", "/v2/x", scope=PULL)
    assert [bool(seen.authorization) for seen in registry.seen] == [False, True, True, True]
    assert registry.seen[0].path == "/v2/"


async def test_nothing_is_sent_to_a_registry_that_demands_nothing(registry: ScriptedServer) -> None:
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        exchange = await client.start(
            "PUT", Url.parse(f"{registry.url}/v2/x/u"), scope=PUSH, content_length=0
        )
        await exchange.response()
        exchange.close()
    paths = ["/v2/", "/v2/x", "/v2/x/u"]  # asked once: whether it shows less to strangers
    assert [(seen.path, seen.authorization) for seen in registry.seen] == [(path, None) for path in paths]


async def test_wrong_basic_credentials_are_tried_once_and_named(registry: ScriptedServer) -> None:
    registry.handler = basic_only
    wrong = Credentials("bob", "wrong-s3cret")
    async with ClientUnderTest(registry.host, credentials=wrong, side="target") as client:
        with pytest.raises(Unauthorized) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    assert "user 'bob'" in str(caught.value.advice)
    assert "s3cret" not in str(caught.value) + str(caught.value.advice)
    assert len(registry.seen) == 2


@pytest.mark.parametrize("side", ["source", "target"])
async def test_without_credentials_the_advice_is_to_log_in(registry: ScriptedServer, side: Side) -> None:
    registry.handler = basic_only
    async with ClientUnderTest(registry.host, side=side) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    why = f"no credentials for {registry.host} were found"
    assert caught.value.advice == Advice("log-in", why=why, side=side, registry=registry.host)


async def test_a_401_without_a_challenge_is_cleared_up_by_a_ping(
    registry: ScriptedServer, tokens: TokenServer
) -> None:
    def handler(request: web.Request) -> web.Response:
        if request.headers.get("Authorization"):
            return web.Response(text="in")
        return demand(ANONYMOUSLY) if request.path == "/v2/" else web.Response(status=401)

    ANONYMOUSLY = f'Bearer realm="{tokens.realm}",service="{tokens.service}"'
    registry.handler = handler
    async with ClientUnderTest(registry.host) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert [seen.path for seen in registry.seen] == ["/v2/x", "/v2/", "/v2/x"]


async def test_a_long_request_is_not_started_before_the_registry_is_known(registry: ScriptedServer) -> None:
    registry.handler = basic_only
    async with ClientUnderTest(registry.host, credentials=BOB) as client:
        exchange = await client.start(
            "PUT", Url.parse(f"{registry.url}/v2/x/u"), scope=PUSH, content_length=0
        )
        assert (await exchange.response()).status == 200
        exchange.close()
    assert [seen.path for seen in registry.seen] == ["/v2/", "/v2/x/u"]


# -- Bearer ------------------------------------------------------------------------------------------


async def test_a_token_per_scope_is_requested_once_and_kept(
    bearer: BearerRegistry, tokens: TokenServer
) -> None:
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        for _ in range(2):
            await client.request("GET", "/v2/x", scope=PULL)
            await client.request("POST", "/v2/x", scope=PUSH, body=b"")
            await client.request("POST", "/v2/x", scope=Scope.push("x", mount_from="y"), body=b"")
            await client.request("GET", "/v2/_catalog", scope=Scope.catalog())
    assert [request.scopes for request in tokens.requests] == [
        ("repository:x:pull",),
        ("repository:x:pull,push",),
        ("repository:x:pull,push", "repository:y:pull"),
        ("registry:catalog:*",),
    ]
    for request in tokens.requests:
        assert (request.method, request.user, request.account, request.service) == (
            "GET",
            "bob",
            "bob",
            tokens.service,
        )
    assert bearer.count("/v2/_catalog") == 2


async def test_many_tasks_ask_for_one_token(bearer: BearerRegistry, tokens: TokenServer) -> None:
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        url = f"{bearer.url}/v2/x/blobs/1"

        async def fetch() -> int:
            exchange, head = await client.fetch(url, scope=PULL)
            await exchange.read(10)
            return head.status

        replies = (client.request("GET", "/v2/x", scope=PULL) for _ in range(20))
        await asyncio.gather(*replies, *(fetch() for _ in range(20)))
        assert len(tokens.requests) == 1
        bearer.revoke_all()
        await asyncio.gather(*(fetch() for _ in range(20)))
        assert len(tokens.requests) == 2


async def test_an_anonymous_token_is_requested_without_credentials(
    bearer: BearerRegistry, tokens: TokenServer
) -> None:
    async with ClientUnderTest(bearer.host) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert [(r.user, r.account, r.status) for r in tokens.requests] == [("", "", 200)]


async def test_a_token_is_replaced_before_it_expires(tokens: TokenServer, clock: MovedClock) -> None:
    tokens.announced_s = 100
    async with (
        BearerRegistry(tokens.realm, tokens.service) as bearer,
        ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client,
    ):
        for now, expected in [(0, 1), (94, 1), (96, 2), (96 + 40, 2)]:
            clock.now = 1000.0 + now
            await client.request("GET", "/v2/x", scope=PULL)
            assert len(tokens.requests) == expected
        # 60 s are left, which is enough for a small request, and half of its life is 50 s.
        exchange = await client.start("PUT", Url.parse(f"{bearer.url}/v2/x/u"), scope=PULL, content_length=0)
        exchange.close()
        assert len(tokens.requests) == 2
        clock.now += 11
        exchange = await client.start("PUT", Url.parse(f"{bearer.url}/v2/x/u"), scope=PULL, content_length=0)
        exchange.close()
        assert len(tokens.requests) == 3


async def test_a_token_without_expiry_lives_for_a_minute(tokens: TokenServer, clock: MovedClock) -> None:
    tokens.announced_s = 0
    async with (
        BearerRegistry(tokens.realm, tokens.service) as bearer,
        ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client,
    ):
        for now, expected in [(0, 1), (54, 1), (56, 2)]:
            clock.now = 1000.0 + now
            await client.request("GET", "/v2/x", scope=PULL)
            assert len(tokens.requests) == expected


async def test_a_token_that_ends_early_is_replaced_once_and_the_request_repeated(
    bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock
) -> None:
    async with ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        bearer.revoke_all()
        clock.now += 30
        assert (await client.request("GET", "/v2/x", scope=PULL)).body == b"in"
        assert len(tokens.requests) == 2
        bearer.revoke_all()
        clock.now += 30
        exchange, head = await client.fetch(f"{bearer.url}/v2/x/blobs/1", scope=PULL)
        assert head.status == 200
        assert await exchange.read(10) == b"in"
    assert len(tokens.requests) == 3
    assert client.retried == []


async def test_renewing_drops_the_token(bearer: BearerRegistry, tokens: TokenServer) -> None:
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        for _ in range(2):  # the second one is late: there is a newer token by now
            await client.improve(PULL, bearer.seen[1].authorization, 401, (), b"")
            await client.request("GET", "/v2/x", scope=PULL)
    assert len(tokens.requests) == 2


@pytest.mark.parametrize("clock_behind_s", [0.05, 0.3, 1.0, 3.0])
async def test_a_token_that_is_not_valid_yet_is_retried_within_the_retries(
    bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock, clock_behind_s: float
) -> None:
    first_seen: dict[str, float] = {}

    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "")
        since = first_seen.setdefault(sent, clock.now)
        return (
            web.Response(text="in")
            if sent and clock.now - since >= clock_behind_s
            else demand(bearer.challenge)
        )

    bearer.handler = handler
    async with ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert len(tokens.requests) == 1


@pytest.mark.parametrize("credentials", [BOB, None])
async def test_a_token_without_the_right_is_told_soon(
    credentials: Credentials | None, bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock
) -> None:
    """It is valid, so ``GET /v2/`` accepts it: the repository is private."""
    bearer.handler = lambda request: (
        web.Response(text="{}")
        if request.path == "/v2/" and request.headers.get("Authorization")
        else demand(bearer.challenge)
    )
    started = clock.now
    network = NetworkOptions(timeout=10, retries=9)
    async with ClientUnderTest(bearer.host, credentials=credentials, clock=clock, network=network) as client:
        with pytest.raises(CrossdockError):
            await client.request("GET", "/v2/x", scope=PULL)
        assert clock.now - started < 2 * SETTLES_S
        later = clock.now
        with pytest.raises(CrossdockError):
            await client.request("GET", "/v2/x", scope=PULL)
        assert clock.now - later < 2 * SETTLES_S


async def test_a_token_that_was_taken_before_is_replaced_however_young(
    bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock
) -> None:
    async with ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        clock.now += 0.1
        bearer.revoke_all()
        await client.request("GET", "/v2/x", scope=PULL)
    assert len(tokens.requests) == 2
    assert clock.slept == []


async def test_a_new_token_that_is_refused_is_the_last_word_after_the_retries(
    bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock
) -> None:
    bearer.handler = lambda request: demand(bearer.challenge)
    async with ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client:
        with pytest.raises(RetriesExhausted) as caught:
            await client.request("GET", "/v2/x", scope=PULL)
        assert isinstance(caught.value.attempts[-1], Unauthorized)
        assert "user 'bob'" in str(caught.value.advice)
        assert len(tokens.requests) == 2  # it is replaced once, as it may have been withdrawn
        assert bearer.count("/v2/x") == len(caught.value.attempts) + 1
        exchange, head = await client.fetch(f"{bearer.url}/v2/x/b", scope=PULL)
        exchange.close()
        assert head.status == 401


async def test_a_token_that_was_withdrawn_before_its_first_use_is_replaced(
    bearer: BearerRegistry, tokens: TokenServer, clock: MovedClock
) -> None:
    first: list[str] = []

    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization", "")
        if sent and not first:
            first.append(sent)
        return web.Response(text="in") if sent and sent not in first else demand(bearer.challenge)

    bearer.handler = handler
    async with ClientUnderTest(bearer.host, credentials=BOB, clock=clock) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert len(tokens.requests) == 2


async def test_a_scope_under_another_name_is_taken_over_but_never_delete(tokens: TokenServer) -> None:
    challenge = (
        f'Bearer realm="{tokens.realm}",service="{tokens.service}",scope="repository:proxy/x:pull,delete,*"'
    )
    async with (
        BearerRegistry(tokens.realm, tokens.service) as bearer,
        ClientUnderTest(bearer.host) as client,
    ):
        bearer.challenge = challenge
        await client.request("GET", "/v2/x", scope=PULL)
    assert [r.scopes for r in tokens.requests] == [("repository:x:pull", "repository:proxy/x:pull")]


async def test_a_scope_that_only_content_names_is_requested_when_the_token_is_refused(
    bearer: BearerRegistry, tokens: TokenServer
) -> None:
    plain = bearer.challenge.partition(",scope")[0]

    def handler(request: web.Request) -> web.Response:
        if request.path == "/v2/":
            return demand(plain)
        return (
            demand(f'{plain},scope="repository:proxy/x:pull"') if len(tokens.requests) < 2 else web.Response()
        )

    bearer.handler = handler
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    first = ("repository:x:pull",)
    assert [r.scopes for r in tokens.requests] == [first, (*first, "repository:proxy/x:pull")]


async def test_an_identity_token_goes_by_post(bearer: BearerRegistry, tokens: TokenServer) -> None:
    async with ClientUnderTest(bearer.host, credentials=Credentials(identity_token="s3cret-it")) as client:
        await client.request("POST", "/v2/x", scope=Scope.push("x", mount_from="y"), body=b"")
    assert [(r.method, r.grant, r.user, r.scopes) for r in tokens.requests] == [
        ("POST", "refresh_token", "bob", ("repository:x:pull,push", "repository:y:pull"))
    ]


async def test_a_service_without_post_is_asked_by_get(bearer: BearerRegistry, tokens: TokenServer) -> None:
    tokens.methods = frozenset({"GET"})
    both = Credentials("bob", "s3cret-pw", identity_token="s3cret-it")
    async with ClientUnderTest(bearer.host, credentials=both) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert [(r.method, r.status) for r in tokens.requests] == [("POST", 405), ("GET", 200)]


async def test_a_service_without_get_is_asked_by_post(bearer: BearerRegistry, tokens: TokenServer) -> None:
    tokens.methods = frozenset({"POST"})
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert [(r.method, r.grant, r.status) for r in tokens.requests] == [
        ("GET", "", 405),
        ("POST", "password", 200),
    ]


async def test_a_ready_token_is_sent_as_it_is(bearer: BearerRegistry, tokens: TokenServer) -> None:
    async with ClientUnderTest(bearer.host, credentials=Credentials(registry_token="ready")) as client:
        await client.request("GET", "/v2/x", scope=PULL)
        assert bearer.seen[-1].authorization == "Bearer ready"
        bearer.revoke_all()
        with pytest.raises(Unauthorized):
            await client.request("GET", "/v2/x", scope=PULL)
    assert tokens.requests == []
    assert len(bearer.seen) == 3


@pytest.mark.parametrize(
    ("credentials", "who"),
    [
        (Credentials("bob", "wrong-s3cret"), "user 'bob'"),
        (Credentials(identity_token="wrong-s3cret"), "an identity token"),
    ],
)
async def test_a_refusing_service_names_the_user_and_never_the_secret(
    bearer: BearerRegistry, tokens: TokenServer, credentials: Credentials, who: str
) -> None:
    async with ClientUnderTest(bearer.host, credentials=credentials) as client:
        with pytest.raises(Unauthorized, match=f"the token service refused {who}: ") as caught:
            await client.request("GET", "/v2/x", scope=PULL)
    assert "incorrect" in str(caught.value) or "unknown" in str(caught.value)
    assert caught.value.advice
    assert "s3cret" not in str(caught.value) + str(caught.value.advice)


# -- token services that misbehave -------------------------------------------------------------------


@pytest.fixture
async def service() -> AsyncIterator[ScriptedServer]:
    """A token service whose answers the test writes."""
    async with ScriptedServer(lambda request: web.json_response({"token": "t"})) as server:
        yield server


@pytest.fixture
async def guarded(service: ScriptedServer) -> AsyncIterator[BearerRegistry]:
    """A registry with that service."""
    async with BearerRegistry(f"{service.url}/token?fixed=1", "a & b") as server:
        yield server


async def test_the_realms_own_query_is_kept(guarded: BearerRegistry, service: ScriptedServer) -> None:
    async with ClientUnderTest(guarded.host) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert service.seen[0].path == "/token?fixed=1&service=a+%26+b&scope=repository%3Ax%3Apull"


ANSWERS = [
    {"access_token": "ok"},
    {"token": "ok", "expires_in": "soon"},
    {"token": "ok", "expires_in": -5},
    {"token": "ok", "expires_in": 10**400},
    {"token": "", "access_token": "ok", "expires_in": True},
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_odd_answers_with_a_token_are_taken(
    guarded: BearerRegistry, service: ScriptedServer, answer: dict[str, object]
) -> None:
    service.handler = lambda request: web.json_response(answer)
    async with ClientUnderTest(guarded.host) as client:
        for _ in range(2):
            await client.request("GET", "/v2/x", scope=PULL)
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token": 5}', b'{"token": "a b"}', b'{"token": "a\\r\\nX: y"}', b"<html>"],
)
async def test_an_answer_without_a_token_is_an_error(
    guarded: BearerRegistry, service: ScriptedServer, answer: bytes
) -> None:
    service.handler = lambda request: web.Response(body=answer)
    async with ClientUnderTest(guarded.host, network=NetworkOptions(retries=0)) as client:
        with pytest.raises(ProtocolError, match="without a usable token"):
            await client.request("GET", "/v2/x", scope=PULL)


async def test_a_missing_service_is_not_a_missing_manifest(
    guarded: BearerRegistry, service: ScriptedServer
) -> None:
    service.handler = lambda request: refuse(404, "NAME_UNKNOWN")
    async with ClientUnderTest(guarded.host) as client:
        with pytest.raises(Unauthorized, match="404"):
            await client.request("GET", "/v2/x", scope=PULL)


async def test_a_busy_service_is_waited_for(
    guarded: BearerRegistry, service: ScriptedServer, clock: MovedClock
) -> None:
    answers = iter([refuse(429, "", retry_after="45"), refuse(503, "")])
    service.handler = lambda request: next(answers, None) or web.json_response({"token": "t"})
    async with ClientUnderTest(guarded.host, clock=clock) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert clock.slept == [45, 1]
    assert len(guarded.seen) == 2


async def test_a_service_that_stays_limited_says_so(guarded: BearerRegistry, service: ScriptedServer) -> None:
    service.handler = lambda request: refuse(429, "", retry_after="86400")
    async with ClientUnderTest(guarded.host) as client:
        with pytest.raises(RateLimited, match="86400"):
            await client.request("GET", "/v2/x", scope=PULL)


async def test_credentials_do_not_follow_the_service_elsewhere(
    guarded: BearerRegistry, service: ScriptedServer
) -> None:
    async with ScriptedServer(lambda request: web.json_response({"token": "t"})) as elsewhere:
        service.handler = lambda request: web.Response(status=307, headers={"Location": f"{elsewhere.url}/t"})
        async with ClientUnderTest(guarded.host, credentials=BOB) as client:
            with pytest.raises(RedirectRefused, match="no credentials are sent there"):
                await client.request("GET", "/v2/x", scope=PULL)
        assert elsewhere.seen == []
        async with ClientUnderTest(guarded.host) as client:
            await client.request("GET", "/v2/x", scope=PULL)
        assert elsewhere.seen[0].authorization is None


async def test_credentials_follow_within_the_service(
    guarded: BearerRegistry, service: ScriptedServer
) -> None:
    def handler(request: web.Request) -> web.Response:
        if request.path == "/token":
            return web.Response(status=302, headers={"Location": "/token/?" + request.query_string})
        return web.json_response({"token": "t"})

    service.handler = handler
    async with ClientUnderTest(guarded.host, credentials=BOB) as client:
        await client.request("GET", "/v2/x", scope=PULL)
    assert [bool(seen.authorization) for seen in service.seen] == [True, True]


HUB, LOCAL = "https://registry.example", "http://127.0.0.1:5000"
REALMS = [
    (HUB, "https://auth.example/token", True),
    (HUB, "http://auth.example/token", False),
    (HUB, "http://registry.example/token", False),
    (HUB, "http://127.0.0.1:5001/token", False),
    (HUB, "https://127.0.0.1:5001/token", False),
    (HUB, "https://10.0.0.1/token", False),
    (HUB, "https://169.254.169.254/token", False),
    (HUB, "https://u:p@auth.example/token", False),
    (HUB, "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/token", False),  # 127.0.0.1 to a resolver
    (HUB, "https://auth.example\r\nX-Evil: 1/token", False),
    (HUB, "https://auth.example/\udcff", False),
    (HUB, "", False),
    (HUB, "/token", False),
    (HUB, "ftp://auth.example/", False),
    (LOCAL, "http://127.0.0.1:5001/token", True),
    (LOCAL, "http://localhost:5001/token", True),
    (LOCAL, "https://auth.example/token", True),
    (LOCAL, "http://auth.example/token", False),
    ("https://127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
    ("https://10.0.0.5", "https://10.0.0.6/token", True),
    ("https://10.0.0.5", "http://10.0.0.6/token", False),
    ("http://lab.example:5000", "http://lab.example:5001/token", True),
]


@pytest.mark.parametrize(("registry_url", "realm", "allowed"), REALMS)
def test_realms_that_may_see_credentials(registry_url: str, realm: str, allowed: bool) -> None:
    if allowed:
        check_realm(realm, Url.parse(registry_url).origin)
    else:
        with pytest.raises(RedirectRefused):
            check_realm(realm, Url.parse(registry_url).origin)


async def test_a_realm_that_is_refused_is_never_contacted(bearer: BearerRegistry) -> None:
    bearer.challenge = 'Bearer realm="http://auth.example/token",service="s"'
    async with ClientUnderTest(bearer.host, credentials=BOB) as client:
        with pytest.raises(RedirectRefused, match=r"plain HTTP, http://auth\.example"):
            await client.request("GET", "/v2/x", scope=PULL)


async def test_authorization_is_for_the_registrys_own_origin(bearer: BearerRegistry) -> None:
    async with (
        ScriptedServer(lambda request: web.Response(text="blob")) as storage,
        ClientUnderTest(bearer.host, credentials=BOB) as client,
    ):
        await client.request("GET", "/v2/x", scope=PULL)
        await client.request("GET", Url.parse(f"{storage.url}/a"), scope=PULL)
        exchange, _ = await client.fetch(f"{storage.url}/b", scope=PULL)
        exchange.close()
        exchange = await client.start("PUT", Url.parse(f"{storage.url}/c"), scope=PUSH, content_length=0)
        await exchange.response()
        exchange.close()
        exchange, head = await client.fetch(f"{bearer.url}/v2/x", scope=None)
        exchange.close()
        assert head.status == 401
    assert [seen.authorization for seen in storage.seen] == [None] * 3
    assert bearer.seen[-1].authorization is None


async def test_no_secret_reaches_errors_or_logs(
    tokens: TokenServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    cases: list[tuple[Credentials, Callable[[web.Request], web.Response]]] = [
        (BOB, lambda request: refuse(403, "DENIED", json.dumps(dict(request.headers)))),
        (
            Credentials(identity_token="s3cret-it"),
            lambda request: refuse(404, "NAME_UNKNOWN", str(request.headers)),
        ),
        (Credentials("bob", "s3cret-but-wrong"), lambda request: web.Response()),
    ]
    for credentials, behind in cases:
        async with (
            BearerRegistry(tokens.realm, tokens.service) as bearer,
            ClientUnderTest(bearer.host, credentials=credentials) as client,
        ):
            inside = bearer.handler
            bearer.handler = lambda r, inside=inside, b=behind: (
                b(r) if "Authorization" in r.headers else inside(r)
            )
            try:
                await client.request("GET", "/v2/x", scope=PULL)
            except Exception as error:
                said += [*traceback.format_exception(error), repr(error), repr(vars(error)), repr(client)]
    captured = capfd.readouterr()
    everything = "".join([*said, captured.out, captured.err, caplog.text])
    assert "403" in everything
    for secret in ("s3cret", *(request.token for request in tokens.requests if request.token)):
        assert secret not in everything


async def test_denied_is_distinguished_from_unauthorized(registry: ScriptedServer) -> None:
    registry.handler = lambda request: refuse(403, "DENIED", "no push for you")
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(Denied, match="no push for you"):
            await client.request("GET", "/v2/", scope=NONE)
