"""Requests by way of a proxy."""

from __future__ import annotations

import asyncio
import base64

import pytest

from crossdock.errors import ConnectFailed, InvalidInput, TransportError
from crossdock.options import NetworkOptions
from crossdock.transport.base import Request
from crossdock.transport.client import HttpClient
from unit.transport.wire import Memory, Peer, Server, always, ok, pattern

BODY = pattern(500_000)


class Proxy:
    """A proxy in forty lines: CONNECT, and plain requests in absolute form. Notes the heads it got."""

    def __init__(self, upstream: int, refusal: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self._upstream = upstream
        self._refusal = refusal

    async def __call__(self, peer: Peer) -> None:
        head = await peer.request()
        self.heads.append(head)
        if self._refusal:
            await peer.send(self._refusal)
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        if head.startswith(b"CONNECT "):
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            writer.write(head)
        directions = [
            asyncio.ensure_future(self._copy(peer.reader, writer)),
            asyncio.ensure_future(self._copy(reader, peer.writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.close()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def proxied(stack, client_tls):
    """Starts a proxy and makes a client that uses it for everything."""

    async def start(proxy, userinfo="", scheme="http://"):
        server = await stack.enter_async_context(Server(proxy))
        url = f"{scheme}{userinfo}127.0.0.1:{server.port}"
        client = HttpClient(NetworkOptions(), lambda host, port: client_tls, lambda *origin: url)
        stack.push_async_callback(client.close)
        return client

    return start


@pytest.mark.parametrize("prefix", ["http://", ""])
async def test_requests_go_by_the_proxy_and_connections_are_kept(serve, proxied, scheme, prefix):
    server = await serve(always(ok(BODY)))
    proxy = Proxy(server.port)
    client = await proxied(proxy, "user:p%40ss@", prefix)
    url = f"{scheme}://registry.example:5000/v2/?n=1" if scheme == "http" else f"{server.url}/v2/?n=1"
    for _ in range(2):
        exchange = await client.send(Request("GET", url))
        await exchange.response()
        sink = Memory(len(BODY))
        await exchange.receive(sink)
        assert sink.content == BODY
    (head,) = proxy.heads
    credentials = base64.b64encode(b"user:p@ss")
    assert b"\r\nProxy-Authorization: Basic " + credentials + b"\r\n" in head
    if scheme == "http":
        assert head.startswith(
            b"GET http://registry.example:5000/v2/?n=1 HTTP/1.1\r\nHost: registry.example:5000\r\n"
        )
    else:
        assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)


@pytest.mark.parametrize(
    ("refusal", "words", "retryable"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407 Proxy Auth", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "502 Bad Gateway", True),
        (b"HTTP/1.1 200 OK\r\n\r\nwhat is this", "more than its answer", True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "longer than", True),
        (b"", "before an answer", True),
    ],
)
async def test_a_refused_tunnel_says_why(proxied, refusal, words, retryable):
    client = await proxied(Proxy(1, refusal) if refusal else gone)
    with pytest.raises(TransportError, match=words) as caught:
        await client.send(Request("GET", "https://registry.example/"))
    assert caught.value.retryable is retryable
    assert "registry.example:443" in str(caught.value)
    if "407" in words:
        assert "proxy" in caught.value.hint


async def gone(peer: Peer) -> None:
    await peer.request()


async def test_an_unreachable_proxy_is_named(stack, client_tls):
    client = HttpClient(NetworkOptions(), lambda *o: client_tls, lambda *o: "http://u:s3cr3t@127.0.0.1:1")
    stack.push_async_callback(client.close)
    with pytest.raises(ConnectFailed, match=r"registry\.example:443 by the proxy 127\.0\.0\.1:1") as caught:
        await client.send(Request("GET", "https://registry.example/"))
    assert "s3cr3t" not in str(caught.value)


async def test_a_proxy_that_wants_tls_is_refused_in_words(stack, client_tls):
    client = HttpClient(NetworkOptions(), lambda *o: client_tls, lambda *o: "https://u:s3cr3t@proxy.example")
    stack.push_async_callback(client.close)
    with pytest.raises(InvalidInput, match="TLS to a proxy is not supported") as caught:
        await client.send(Request("GET", "https://registry.example/"))
    assert "http://" in caught.value.hint
