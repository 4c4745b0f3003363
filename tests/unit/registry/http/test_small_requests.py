"""Small requests on the wire: their limits, and the connections that they share with blobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from crossdock.errors import LimitExceeded, NotFound, ProtocolError, ReadFailed, TimedOut
from crossdock.options import Credentials, NetworkOptions
from crossdock.protocol.errorcode import MAX_BODY
from crossdock.registry.client import NONE, Scope
from crossdock.registry.http.headers import HeaderView, case_insensitive
from crossdock.transport import exchange
from crossdock.transport.outgoing import JOINED
from unit.registry.http.scripted import ClientUnderTest, ScriptedServer

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
ONCE = NetworkOptions(retries=0, timeout=10)


class Wire:
    """Counts connections and lets `peer` answer each."""

    def __init__(self, peer: Peer) -> None:
        self.connections = 0
        self.host = ""
        self._peer = peer
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._peer(reader, writer, self.connections)
        finally:
            writer.transport.abort()


def client_of(wire: Wire, network: NetworkOptions = ONCE, **options: object) -> ClientUnderTest:
    return ClientUnderTest(wire.host, plain_http=True, network=network, **options)


def test_headers_go_by_any_case_and_keep_repeats() -> None:
    headers = case_insensitive([("Link", "a"), ("X", "1"), ("link", "b")])
    assert (headers["LINK"], headers.getall("Link"), headers.getall("Y")) == ("a", ["a", "b"], [])
    assert ("x" in headers, "y" in headers, headers.get("y", "z")) == (True, False, "z")
    assert (len(headers), list(headers)) == (2, ["link", "x"])
    assert case_insensitive(headers) is headers
    assert case_insensitive({"A": "secret"}) == {"a": "secret"}
    assert "secret" not in repr(HeaderView([("a", "secret")]))


async def test_a_challenge_in_the_second_of_two_fields_is_understood() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"authorization: basic" in head.lower():
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            demands = b'WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm="r"\r\n'
            writer.write(b"HTTP/1.1 401 no\r\nContent-Length: 0\r\n" + demands + b"\r\n")

    async with Wire(peer).listening() as wire, client_of(wire, credentials=Credentials("a", "b")) as client:
        assert (await client.request("GET", "/v2/", scope=NONE)).body == b"ok"


async def endlessly(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while True:
        writer.write(piece)
        await writer.drain()


async def test_interim_answers_without_end_are_refused() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await endlessly(writer, b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")

    async with Wire(peer).listening() as wire, client_of(wire) as client:
        with pytest.raises(ProtocolError, match="interim"):
            await client.request("GET", "/v2/", scope=NONE)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 99999999", b"X: close"])
async def test_a_body_without_end_is_read_no_further_than_its_limit(framing: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await endlessly(writer, b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with Wire(peer).listening() as wire, client_of(wire) as client:
        with pytest.raises(LimitExceeded, match="over the limit of 100000"):
            await client.request("GET", "/v2/", scope=NONE, limit=100_000)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_refusal_counts_whatever_its_body_is(ends: bool) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 no\r\nContent-Length: 99999999\r\n\r\n")
        if ends:
            writer.write(b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            await writer.drain()
            writer.close()
        else:
            await endlessly(writer, b"x" * MAX_BODY)

    async with Wire(peer).listening() as wire, client_of(wire) as client:
        with pytest.raises(NotFound, match="404 MANIFEST_UNKNOWN" if ends else "404: x"):
            await client.request("GET", "/v2/x/manifests/1", scope=NONE)


async def test_an_answer_that_drips_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "READ_PATIENCE", 1)

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    drip = NetworkOptions(retries=0, timeout=0.3, low_speed=0)
    async with Wire(peer).listening() as wire, client_of(wire, drip) as client:
        with pytest.raises(TimedOut, match=r"did not arrive completely within 0\.3 s") as caught:
            await client.request("GET", "/v2/", scope=NONE)
    assert caught.value.phase == "low speed"


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Answers one request, takes another and closes; the next connection answers all."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2 if b"Content-Length: 2" in head else 0)
        if number == 1 and b"/again" in head:
            return
        writer.write(b"HTTP/1.1 201 yes\r\nContent-Length: 1\r\n\r\n%d" % number)


async def test_a_small_body_is_sent_again_when_a_kept_connection_was_closed() -> None:
    async with Wire(hanging_up).listening() as wire, client_of(wire) as client:
        put = {"scope": NONE, "body": b"{}", "ok": (201,)}
        assert (await client.request("PUT", "/v2/", **put)).body == b"1"
        assert (await client.request("PUT", "/v2/again", **put)).body == b"2"
        assert client.retried == []


async def test_a_request_that_is_not_idempotent_is_not_retried() -> None:
    async with Wire(hanging_up).listening() as wire, client_of(wire) as client:
        await client.request("POST", "/v2/", scope=NONE, body=b"{}", ok=(201,))
        with pytest.raises(ReadFailed, match="before a response"):
            await client.request("POST", "/v2/again", scope=NONE, body=b"{}", ok=(201,))
    assert wire.connections == 1


@pytest.mark.parametrize("size", [JOINED, JOINED + 1, 1 << 20])
async def test_bodies_of_every_size_arrive(registry: ScriptedServer, size: int) -> None:
    async with ClientUnderTest(registry.host) as client:
        await client.request("PUT", "/v2/x/manifests/1", scope=NONE, body=b"x" * size)
    assert registry.seen[-1].body == b"x" * size


async def test_small_requests_and_blobs_share_connections() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with Wire(peer).listening() as wire, client_of(wire) as client:
        for _ in range(3):
            await client.request("GET", "/v2/", scope=NONE)
            reply = await client.open("/v2/x", scope=Scope.pull("x"))
            assert await reply.exchange.read(10) == b"ok"
    assert wire.connections == 1


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_the_answer_of_a_head_stands_though_its_body_breaks(status: int) -> None:
    """Else the Location of an upload session would be lost, and the session left open."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d\r\nLocation: /here\r\nContent-Length: 10\r\n\r\nab" % status)
        await writer.drain()
        writer.write_eof()

    async with Wire(cut).listening() as wire, client_of(wire) as client:
        reply = await client.request("POST", "/v2/", scope=NONE, body=b"", ok=(status,))
    assert reply.headers.get("Location") == "/here"
