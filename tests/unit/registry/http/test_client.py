"""Requests: redirects, retries, limits and the words of errors."""

from __future__ import annotations

import asyncio
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from crossdock.errors import (
    ConnectFailed,
    CrossdockError,
    Denied,
    LimitExceeded,
    NotFound,
    ProtocolError,
    RateLimited,
    ReadFailed,
    RedirectRefused,
    RegistryError,
    RetriesExhausted,
    ServerBusy,
    TimedOut,
    Unauthorized,
    Unsupported,
    UploadRejected,
)
from crossdock.options import Credentials, NetworkOptions
from crossdock.registry.client import NONE, RegistryClient, Scope
from crossdock.registry.handle import Repository
from crossdock.registry.http.gate import MOST_CONTROL_CONCURRENCY
from crossdock.url import Url
from unit.registry.http.scripted import ClientUnderTest, MovedClock, ScriptedServer, demand, refuse

PULL = Scope.pull("x")


def after(
    first: list[web.Response], then: web.Response | None = None
) -> Callable[[web.Request], web.Response]:
    """Answers `first` one by one, then 200."""
    answers = iter(first)
    return lambda request: next(answers, then or web.Response(text="done"))


async def test_a_reply_is_whole_and_ours_are_the_only_headers(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(body=b"abc", headers={"Docker-Content-Digest": "d"})
    async with ClientUnderTest(registry.host) as client:
        reply = await client.request(
            "GET", "/v2/x/manifests/1?a=%2F", scope=PULL, headers=(("Accept", "a/b"),)
        )
    assert (reply.status, reply.body, reply.headers["docker-content-digest"]) == (200, b"abc", "d")
    assert reply.url.text == f"{registry.url}/v2/x/manifests/1?a=%2F"
    assert registry.seen[0].path == "/v2/x/manifests/1?a=%2F"
    assert dict(registry.seen[0].headers) == {
        "Host": registry.host,
        "Accept": "a/b",
        "Accept-Encoding": "identity",
        "User-Agent": "crossdock",
    }


async def test_a_body_goes_with_its_length(registry: ScriptedServer) -> None:
    async with ClientUnderTest(registry.host) as client:
        await client.request(
            "PUT", "/v2/x/manifests/1", scope=PULL, body=b"{}", headers=(("Content-Type", "a/b"),)
        )
        await client.request("POST", "/v2/x/blobs/uploads/", scope=PULL, body=b"")
    assert [(s.body, s.headers["Content-Length"]) for s in registry.seen] == [(b"{}", "2"), (b"", "0")]
    assert registry.seen[0].headers["Content-Type"] == "a/b"


async def test_a_head_has_headers_and_no_body(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(headers={"Content-Length": "99999999"})
    async with ClientUnderTest(registry.host) as client:
        reply = await client.request("HEAD", "/v2/x/blobs/1", scope=PULL, limit=10)
    assert (reply.headers["Content-Length"], reply.body) == ("99999999", b"")


MANIFEST = "/v2/x/manifests/1"
UPLOAD = "/v2/x/blobs/uploads/1"
STATUSES = [
    ("GET", MANIFEST, 401, "UNAUTHORIZED", "", Unauthorized),
    ("GET", MANIFEST, 403, "DENIED", "", Denied),
    ("GET", MANIFEST, 404, "MANIFEST_UNKNOWN", "", NotFound),
    ("GET", MANIFEST, 400, "UNKNOWN", "artifact not found", NotFound),
    ("GET", MANIFEST, 400, "MANIFEST_INVALID", "", RegistryError),
    ("PUT", MANIFEST, 400, "MANIFEST_BLOB_UNKNOWN", "", RegistryError),
    ("PUT", MANIFEST, 404, "MANIFEST_BLOB_UNKNOWN", "", RegistryError),
    ("PUT", MANIFEST, 400, "BLOB_UNKNOWN", "", RegistryError),
    ("PUT", MANIFEST, 404, "NAME_UNKNOWN", "", NotFound),
    ("GET", UPLOAD, 404, "BLOB_UNKNOWN", "", NotFound),
    ("GET", MANIFEST, 429, "TOOMANYREQUESTS", "", RateLimited),
    ("GET", MANIFEST, 503, "UNAVAILABLE", "", ServerBusy),
    ("GET", MANIFEST, 408, "", "", ServerBusy),
    ("DELETE", MANIFEST, 405, "UNSUPPORTED", "", Unsupported),
    ("PUT", MANIFEST, 415, "", "", Unsupported),
    ("PATCH", UPLOAD, 413, "", "", UploadRejected),
    ("PATCH", UPLOAD, 416, "BLOB_UPLOAD_INVALID", "", UploadRejected),
    ("POST", MANIFEST, 302, "", "", RegistryError),
    ("GET", MANIFEST, 206, "", "", RegistryError),
]


@pytest.mark.parametrize(("method", "path", "status", "code", "words", "kind"), STATUSES)
async def test_refusals_have_classes(
    registry: ScriptedServer,
    method: str,
    path: str,
    status: int,
    code: str,
    words: str,
    kind: type[RegistryError],
) -> None:
    registry.handler = lambda request: refuse(status, code, words)
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(RegistryError) as caught:
            await client.request(method, path, scope=PULL, retry=False)
    assert type(caught.value) is kind
    assert caught.value.status == status
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.status, again.codes) == (str(caught.value), status, caught.value.codes)


@pytest.mark.parametrize(
    ("method", "status", "code", "words", "is_said"),
    [
        ("PUT", 409, "TAG_IMMUTABLE", "", True),
        (
            "PUT",
            400,
            "TAG_INVALID",
            "cannot be overwritten because the repository is immutable.",
            True,
        ),  # ECR
        ("PUT", 412, "PRECONDITION", "Failed to process request due to 'a:1' configured as immutable.", True),
        ("DELETE", 412, "PRECONDITION", "the tag is immutable", True),
        ("PUT", 409, "CONFLICT", "try again", False),
        ("GET", 400, "MANIFEST_INVALID", "immutable", False),
    ],
)
async def test_of_an_immutable_tag_the_advice_says_so(
    registry: ScriptedServer, method: str, status: int, code: str, words: str, is_said: bool
) -> None:
    registry.handler = lambda request: refuse(status, code, words)
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(RegistryError) as caught:
            await client.request(method, MANIFEST, scope=PULL, retry=False)
    assert ("the tag is immutable there" in str(caught.value.advice)) is is_said


async def test_an_error_says_request_status_code_and_cause(registry: ScriptedServer) -> None:
    registry.handler = lambda request: refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(NotFound) as caught:
            await client.request("GET", "/v2/x/manifests/1?_state=s3cret", scope=PULL)
    text = str(caught.value)
    assert text.startswith(f"GET {registry.url}/v2/x/manifests/1?_state=")
    assert text.endswith(": 404 MANIFEST_UNKNOWN: manifest unknown")
    assert "s3cret" not in text
    assert caught.value.codes == ("MANIFEST_UNKNOWN",)


async def test_transient_failures_are_retried(registry: ScriptedServer, clock: MovedClock) -> None:
    registry.handler = after([refuse(503, ""), refuse(500, ""), refuse(502, "")])
    async with ClientUnderTest(registry.host, clock=clock) as client:
        assert (await client.request("GET", "/v2/", scope=NONE)).body == b"done"
    assert clock.slept == [0.5, 1, 2]
    assert [operation for operation, _ in client.retried] == ["GET /v2/"] * 3
    assert "503" in client.retried[0][1]


async def test_retry_after_is_obeyed_in_full_and_by_all(registry: ScriptedServer, clock: MovedClock) -> None:
    registry.handler = after([refuse(429, "TOOMANYREQUESTS", retry_after="120")])
    async with ClientUnderTest(registry.host, clock=clock) as client:
        await client.request("GET", "/v2/", scope=NONE)
        client.throttle(Url.parse(registry.url).origin, 429, [("retry-after", "60")])
        await client.request("GET", "/v2/", scope=NONE)
    assert clock.slept == [120, 60]


async def test_too_long_a_retry_after_ends_the_tries(registry: ScriptedServer, clock: MovedClock) -> None:
    registry.handler = lambda request: refuse(429, "TOOMANYREQUESTS", retry_after="7200")
    async with ClientUnderTest(registry.host, clock=clock) as client:
        with pytest.raises(RateLimited, match="the server asks to wait 7200 s") as caught:
            await client.request("GET", "/v2/", scope=NONE)
    assert caught.value.retry_after == 7200
    assert (len(registry.seen), clock.slept) == (1, [])


async def test_tries_end_and_all_are_kept(registry: ScriptedServer, clock: MovedClock) -> None:
    registry.handler = lambda request: refuse(503, "")
    async with ClientUnderTest(registry.host, clock=clock) as client:
        with pytest.raises(RetriesExhausted, match=r"503.*gave up after 4 tries") as caught:
            await client.request("GET", "/v2/", scope=NONE)
    assert len(registry.seen) == len(caught.value.attempts) == 4
    assert isinstance(caught.value.__cause__, ServerBusy)
    assert not caught.value.retryable


async def test_one_try_when_asked_or_when_the_refusal_is_final(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    registry.handler = lambda request: refuse(503, "")
    async with ClientUnderTest(registry.host, clock=clock) as client:
        with pytest.raises(ServerBusy):
            await client.request("POST", "/v2/x", scope=PULL, body=b"", retry=False)
        registry.handler = lambda request: refuse(404, "")
        with pytest.raises(NotFound):
            await client.request("GET", "/v2/x", scope=PULL)
    assert len(registry.seen) == 2


async def test_redirects_are_followed_and_authorization_stays(registry: ScriptedServer) -> None:
    async with ScriptedServer(lambda request: web.Response(text="blob")) as storage:

        def handler(request: web.Request) -> web.Response:
            if "Authorization" not in request.headers:
                return demand('Basic realm="r"')
            hops = {"/v2/x": "/v2/y", "/v2/y": f"{storage.url}/data?sig=a%2Fb"}
            return web.Response(status=307, headers={"Location": hops[request.path]})

        registry.handler = handler
        async with ClientUnderTest(registry.host, credentials=Credentials("bob", "s3cret")) as client:
            reply = await client.request("GET", "/v2/x", scope=PULL)
        assert (reply.body, reply.url.text) == (b"blob", f"{storage.url}/data?sig=a%2Fb")
        assert [seen.path for seen in registry.seen] == ["/v2/", "/v2/x", "/v2/y"]
        assert registry.seen[2].authorization
        assert storage.seen[0].authorization is None
        assert storage.seen[0].path == "/data?sig=a%2Fb"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_redirected_body_is_sent_again(
    registry: ScriptedServer, method: str, status: int, size: int
) -> None:
    async def handler(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/v2/x":
            return web.Response(status=status, headers={"Location": "/v2/y?a=b"})
        return web.Response(body=str(len(body)).encode())

    registry.handler = handler
    async with ClientUnderTest(registry.host) as client:
        reply = await client.request(method, "/v2/x", scope=NONE, body=b"x" * size)
    assert (reply.body, reply.url.text) == (b"%d" % size, f"http://{registry.host}/v2/y?a=b")


async def test_redirects_without_end_are_refused(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(status=302, headers={"Location": request.path + "x"})
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(RedirectRefused, match="more than 10 redirects"):
            await client.request("GET", "/v2/", scope=NONE)
    assert len(registry.seen) == 11


async def test_cookies_are_neither_kept_nor_sent(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(headers={"Set-Cookie": "a=b"})
    async with ClientUnderTest(registry.host) as client:
        for _ in range(2):
            await client.request("GET", "/v2/", scope=NONE)
    assert all("Cookie" not in seen.headers for seen in registry.seen)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_an_error_not_a_cut(registry: ScriptedServer, chunked: bool) -> None:
    async def handler(request: web.Request) -> web.Response:
        response = web.Response(body=b"x" * 1001)
        if chunked:
            response.enable_chunked_encoding()
        return response

    registry.handler = handler
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(LimitExceeded, match="over the limit of 1000"):
            await client.request("GET", "/v2/", scope=NONE, limit=1000)
        assert len((await client.request("GET", "/v2/", scope=NONE, limit=1001)).body) == 1001
    assert len(registry.seen) == 2


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "UTF-8", "gzip, identity"])
async def test_a_compressed_answer_is_decoded(registry: ScriptedServer, coding: str) -> None:
    body = gzip.compress(b"{}" * 50) if "gzip" in coding else b"{}" * 50
    registry.handler = lambda request: web.Response(body=body, headers={"Content-Encoding": coding})
    async with ClientUnderTest(registry.host, network=NetworkOptions(retries=0)) as client:
        assert (await client.request("GET", "/v2/", scope=NONE, limit=100)).body == b"{}" * 50
        with pytest.raises(LimitExceeded, match="over the limit of 99 bytes"):
            await client.request("GET", "/v2/", scope=NONE, limit=99)


async def test_a_coding_that_is_not_spoken_is_refused(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(body=b"xyz", headers={"Content-Encoding": "br"})
    async with ClientUnderTest(registry.host, network=NetworkOptions(retries=0)) as client:
        with pytest.raises(ProtocolError, match="is in br although identity was requested"):
            await client.request("GET", "/v2/", scope=NONE)


async def test_a_compressed_refusal_is_understood(registry: ScriptedServer) -> None:
    body = gzip.compress(b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]}')
    registry.handler = lambda request: web.Response(
        status=404, body=body, headers={"Content-Encoding": "gzip"}
    )
    async with ClientUnderTest(registry.host) as client:
        with pytest.raises(NotFound, match="404 NAME_UNKNOWN: no such thing"):
            await client.request("GET", "/v2/", scope=NONE)


async def test_203_is_what_a_proxy_says_for_200(registry: ScriptedServer) -> None:
    registry.handler = lambda request: web.Response(status=203, body=b"{}")
    async with ClientUnderTest(registry.host) as client:
        assert (await client.request("GET", "/v2/", scope=NONE)).status == 200


async def raw(answer: bytes) -> asyncio.Server:
    """A server that answers these bytes to anything and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


BROKEN = [
    (b"", ReadFailed),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", ReadFailed),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ReadFailed),
    (b"SSH-2.0-OpenSSH_9.2\r\n", ProtocolError),
]


@pytest.mark.parametrize(("answer", "kind"), BROKEN)
async def test_a_broken_answer_is_an_error_that_may_pass(answer: bytes, kind: type[CrossdockError]) -> None:
    server = await raw(answer)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with ClientUnderTest(host, plain_http=True, network=NetworkOptions(retries=0)) as client:
            with pytest.raises(kind, match=f"GET http://{host}/v2/: ") as caught:
                await client.request("GET", "/v2/", scope=NONE)
        assert caught.value.retryable
    finally:
        server.close()


async def test_silence_is_bounded(registry: ScriptedServer) -> None:
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    registry.handler = handler
    async with ClientUnderTest(registry.host, network=NetworkOptions(retries=0)) as client:
        with pytest.raises(TimedOut) as caught:
            await client.request("GET", "/v2/", scope=NONE, timeout=0.1)
        release.set()
    assert caught.value.phase == "first byte"
    assert caught.value.method == "GET"


async def test_a_host_that_does_not_answer_is_named(unused_port: int) -> None:
    host = f"127.0.0.1:{unused_port}"
    async with ClientUnderTest(host, plain_http=True, network=NetworkOptions(retries=0)) as client:
        with pytest.raises(
            ConnectFailed, match=f"GET http://{host}/v2/: cannot connect to {host}: Connection refused"
        ):
            await client.request("GET", "/v2/", scope=NONE)


@pytest.mark.parametrize(
    ("network", "tries"),
    [
        (NetworkOptions(), 2),
        (NetworkOptions(retries=0), 1),
        (NetworkOptions(retries=3, retries_closed=3), 4),
    ],
)
@pytest.mark.parametrize("plain_http", [True, None])  # None: the port is asked whether it speaks TLS
async def test_a_closed_port_is_tried_twice_unless_more_is_wanted(
    unused_port: int, network: NetworkOptions, tries: int, plain_http: bool | None
) -> None:
    async with ClientUnderTest(
        f"127.0.0.1:{unused_port}",
        plain_http=plain_http,
        network=network,
        clock=MovedClock(),
    ) as client:
        with pytest.raises(CrossdockError, match="Connection refused"):
            await client.request("GET", "/v2/", scope=NONE)
    assert len(client.retried) == tries - 1


async def test_a_cancelled_request_leaves_nothing(registry: ScriptedServer) -> None:
    entered = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    registry.handler = handler
    async with ClientUnderTest(registry.host) as client:
        task = asyncio.create_task(client.request("GET", "/v2/", scope=NONE))
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        registry.handler = lambda request: web.Response(text="ok")
        assert (await client.request("GET", "/v2/", scope=NONE)).body == b"ok"


async def test_small_requests_to_a_host_are_bounded(registry: ScriptedServer) -> None:
    inside = peak = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(0.005)
        inside -= 1
        return web.Response()

    registry.handler = handler
    async with ClientUnderTest(registry.host) as client:
        await asyncio.gather(
            *(client.request("GET", "/v2/", scope=NONE) for _ in range(MOST_CONTROL_CONCURRENCY * 3))
        )
    assert peak <= MOST_CONTROL_CONCURRENCY


async def test_fetch_does_not_follow_and_shares_the_back_off(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    answers = [
        web.Response(status=307, headers={"Location": "https://cdn.example/x"}),
        refuse(429, "TOOMANYREQUESTS", retry_after="33"),
    ]
    registry.handler = after(answers)
    async with ClientUnderTest(registry.host, clock=clock) as client:
        url = f"{registry.url}/v2/x/blobs/1"
        for expected in (307, 429, 200):
            exchange, head = await client.fetch(url, scope=PULL, headers=[("Range", "bytes=0-9")])
            assert head.status == expected
            body = await exchange.read(1000)
            if expected == 429:
                error = client.error_from(head.status, head.headers, body, "GET", Url.parse(url), PULL)
                assert isinstance(error, RateLimited)
                assert error.retry_after == 33
    assert clock.slept == [33]
    assert {seen.headers["Range"] for seen in registry.seen} == {"bytes=0-9"}


async def test_start_sends_a_body_of_the_length_that_was_said(registry: ScriptedServer) -> None:
    async with ClientUnderTest(registry.host) as client:
        exchange = await client.start(
            "PUT", Url.parse(f"{registry.url}/v2/x/u"), scope=Scope.push("x"), content_length=3
        )
        await exchange.write(memoryview(b"abc"))
        assert (await exchange.response()).status == 200
        await exchange.read(10)
    assert registry.seen[-1].body == b"abc"


@pytest.mark.parametrize("host", ["", "a b", "host:port", "user@host", "host:0", "host:65536", "host/x"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        ClientUnderTest(host)


async def test_an_echoed_secret_is_hidden(registry: ScriptedServer) -> None:
    def handler(request: web.Request) -> web.Response:
        sent = request.headers.get("Authorization")
        return refuse(403, "DENIED", f"you sent {sent} with s3cret-pw") if sent else demand('Basic realm="r"')

    registry.handler = handler
    async with ClientUnderTest(registry.host, credentials=Credentials("bob", "s3cret-pw")) as client:
        with pytest.raises(Denied) as caught:
            await client.request("GET", "/v2/", scope=NONE)
    sent = registry.seen[-1].authorization
    assert sent is not None
    assert sent.removeprefix("Basic ") not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_making_a_client_touches_nothing(tmp_path: Path) -> None:
    assert isinstance(ClientUnderTest("registry.example", ca_file=tmp_path / "none"), RegistryClient)


async def test_handles_share_the_client_and_tell_their_own_retries(
    registry: ScriptedServer, clock: MovedClock
) -> None:
    def handler(request: web.Request) -> web.Response:
        if "Authorization" not in request.headers:
            return demand('Basic realm="r"')
        return next(answers)

    registry.handler = handler
    answers = iter([refuse(503, ""), web.Response(text="one"), web.Response(text="two")])
    told: list[str] = []
    bob = Credentials("bob", "s3cret")
    async with ClientUnderTest(registry.host, clock=clock, credentials=bob) as client:
        first = Repository(client, "a", PULL, lambda operation, reason: told.append(operation))
        second = Repository(client, "a", PULL)
        assert (await first.request("GET", "/v2/a")).body == b"one"
        assert (await second.request("GET", "/v2/b")).body == b"two"
        assert first.memory is second.memory is client.memory
    assert (told, client.retried) == (["GET /v2/a"], [])
    # One question for all of them: the second handle knows what the first was asked.
    assert [seen.path for seen in registry.seen] == ["/v2/", "/v2/a", "/v2/a", "/v2/b"]
