"""Requests by way of a proxy."""

from __future__ import annotations

import asyncio
import base64
import ssl

import pytest

from crossdock.errors import ConnectFailed, InvalidInput, ReadFailed, TlsFailed, TransportError
from crossdock.options import NetworkOptions
from crossdock.transport.client import HttpClient
from crossdock.transport.route import parse_proxy
from unit.transport.wire import Memory, Peer, Server, always, ok, once, pattern, request_to

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
        exchange = await client.send(request_to("GET", url))
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
        (b"HTTP/1.1 200 OK\r\n\r\nwhat is this", "more than its response", True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "longer than", True),
        (b"", "before a response", True),
    ],
)
async def test_a_refused_tunnel_says_why(proxied, refusal, words, retryable):
    client = await proxied(Proxy(1, refusal) if refusal else gone)
    with pytest.raises(TransportError, match=words) as caught:
        await client.send(request_to("GET", "https://registry.example/"))
    assert caught.value.retryable is retryable
    assert "registry.example:443" in str(caught.value)
    if "407" in words:
        assert "proxy" in str(caught.value.advice)


async def gone(peer: Peer) -> None:
    await peer.request()


async def test_an_unreachable_proxy_is_named(stack, client_tls):
    client = HttpClient(NetworkOptions(), lambda *o: client_tls, lambda *o: "http://u:s3cr3t@127.0.0.1:1")
    stack.push_async_callback(client.close)
    with pytest.raises(
        ConnectFailed, match=r"registry\.example:443 through the proxy 127\.0\.0\.1:1"
    ) as caught:
        await client.send(request_to("GET", "https://registry.example/"))
    assert "s3cr3t" not in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value.advice)


async def test_a_proxy_whose_name_is_unknown_is_called_a_proxy(stack, client_tls):
    client = HttpClient(NetworkOptions(), lambda *o: client_tls, lambda *o: "http://u:s3cr3t@proxy.invalid:1")
    stack.push_async_callback(client.close)
    with pytest.raises(ConnectFailed, match=r"through a proxy: the host name proxy\.invalid could") as caught:
        await client.send(request_to("GET", "https://registry.example/"))
    assert "s3cr3t" not in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value.advice)


# -- by TLS ------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied_by_tls(stack, client_tls, server_tls):
    """As `proxied`, by a proxy that speaks TLS."""

    async def start(proxy, **options):
        server = await stack.enter_async_context(Server(proxy, server_tls))
        url = f"https://u:p@127.0.0.1:{server.port}"
        network = NetworkOptions(**{"connect_timeout": 10.0, "timeout": 20.0, **options})
        client = HttpClient(network, lambda host, port: client_tls, lambda *origin: url)
        stack.push_async_callback(client.close)
        return client

    return start


async def test_a_proxy_may_be_reached_by_tls(serve, proxied_by_tls, scheme):
    server = await serve(always(ok(BODY)))
    proxy = Proxy(server.port)
    client = await proxied_by_tls(proxy)
    url = "http://registry.example/v2/" if scheme == "http" else f"{server.url}/v2/"
    for _ in range(3):
        exchange = await client.send(request_to("GET", url))
        await exchange.response()
        sink = Memory(len(BODY))
        await exchange.receive(sink)
        assert sink.content == BODY
    (head,) = proxy.heads  # the connection is kept
    assert head.startswith(b"GET http://registry.example/" if scheme == "http" else b"CONNECT 127.0.0.1:")
    assert b"\r\nProxy-Authorization: Basic " in head


async def test_a_full_sink_stops_what_comes_through_tls_in_tls(serve, proxied_by_tls, scheme):
    body = pattern(8 << 20)
    server = await serve(always(ok(body)))
    client = await proxied_by_tls(Proxy(server.port))
    url = "http://registry.example/" if scheme == "http" else server.url
    exchange = await client.send(request_to("GET", url))
    await exchange.response()
    sink = Memory(len(body), 300_000)
    full = asyncio.Event()
    rooms = iter(range(1 << 30))
    original = sink.get_buffer

    def get_buffer():
        if next(rooms) % 3 == 2:
            full.set()
            return None
        return original()

    sink.get_buffer = get_buffer
    receiving = asyncio.ensure_future(exchange.receive(sink))
    while not receiving.done():
        waiting = asyncio.ensure_future(full.wait())
        await asyncio.wait({receiving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        full.clear()
        exchange.resume()
    await receiving
    assert sink.content == body


async def test_a_large_body_goes_up_through_tls_in_tls(serve, proxied_by_tls, scheme):
    body = pattern(4 << 20)
    came = bytearray()

    async def handler(peer: Peer) -> None:
        while await peer.request():
            came.extend(await peer.reader.readexactly(len(body)))
            await peer.send(ok(b"done"))

    server = await serve(handler)
    client = await proxied_by_tls(Proxy(server.port))
    url = "http://registry.example/" if scheme == "http" else server.url
    exchange = await client.send(request_to("PUT", url, content_length=len(body)))
    for start in range(0, len(body), 1 << 20):
        await exchange.write(memoryview(body)[start : start + (1 << 20)])
    await exchange.response()
    assert await exchange.read(10) == b"done"
    assert came == body


async def test_an_answer_that_is_cut_behind_a_proxy_is_not_taken_for_whole(serve, proxied_by_tls, scheme):
    server = await serve(once(ok(BODY)[:-100]))
    client = await proxied_by_tls(Proxy(server.port))
    url = "http://registry.example/" if scheme == "http" else server.url
    exchange = await client.send(request_to("GET", url))
    await exchange.response()
    with pytest.raises(ReadFailed, match="of 500000 bytes"):
        await exchange.receive(Memory(len(BODY)))


async def test_a_proxy_whose_certificate_is_not_trusted_is_refused(stack, serve, server_tls, scheme):
    server = await serve(always(ok(b"")))
    proxy = Proxy(server.port)
    front = await stack.enter_async_context(Server(proxy, server_tls))
    strange = ssl.create_default_context()
    client = HttpClient(
        NetworkOptions(), lambda host, port: strange, lambda *o: f"https://u:s3cr3t@127.0.0.1:{front.port}"
    )
    stack.push_async_callback(client.close)
    with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1 was refused") as caught:
        await client.send(request_to("GET", "https://registry.example/"))
    assert "s3cr3t" not in str(caught.value)
    assert proxy.heads == []


async def test_a_refused_tunnel_of_a_proxy_by_tls_says_why(proxied_by_tls, scheme):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    client = await proxied_by_tls(Proxy(1, refusal))
    with pytest.raises(ConnectFailed, match="407 Proxy Auth"):
        await client.send(request_to("GET", "https://registry.example/"))


# -- SOCKS5 ------------------------------------------------------------------------------------------------


class Socks:
    """A SOCKS5 proxy that connects every request to one port. Records users and addresses."""

    def __init__(
        self, upstream: int, *, login: bytes = b"", status: int = 0, says: bytes | None = None
    ) -> None:
        self.places: list[bytes] = []
        self._upstream = upstream
        self._login = login  # user:password that it wants
        self._status = status
        self._says = says  # instead of the first answer

    async def __call__(self, peer: Peer) -> None:
        reader = peer.reader
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        if self._says is not None:
            await peer.send(self._says)
            return
        method = 2 if self._login else 0
        if method not in methods:
            await peer.send(b"\x05\xff")
            return
        await peer.send(bytes((5, method)))
        if self._login:
            assert (await reader.readexactly(1)) == b"\x01"
            words = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
            is_right = b":".join(words) == self._login
            await peer.send(bytes((1, not is_right)))
            if not is_right:
                return
        assert (await reader.readexactly(3)) == b"\x05\x01\x00"
        (kind,) = await reader.readexactly(1)
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        self.places.append(await reader.readexactly(size) + b":" + await reader.readexactly(2))
        bound = b"\x03\x07a.local" if kind == 3 else b"\x01\0\0\0\0"
        await peer.send(bytes((5, self._status, 0)) + bound + b"\0\0")
        if self._status:
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        directions = [
            asyncio.ensure_future(Proxy._copy(reader, up_writer)),
            asyncio.ensure_future(Proxy._copy(up_reader, peer.writer)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up_writer.close()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", "us%65r:p%40ss"])
async def test_a_socks_proxy_carries_both_schemes(serve, proxied, scheme, kind, login):
    server = await serve(always(ok(BODY)))
    proxy = Socks(server.port, login=b"user:p@ss" if login else b"")
    client = await proxied(proxy, f"{login}@" if login else "", f"{kind}://")
    for _ in range(2):
        exchange = await client.send(request_to("GET", f"{scheme}://localhost:{server.port}/v2/"))
        await exchange.response()
        sink = Memory(len(BODY))
        await exchange.receive(sink)
        assert sink.content == BODY
    assert proxy.places == [b"localhost:" + server.port.to_bytes(2, "big")]


@pytest.mark.parametrize(
    ("host", "asked"),
    [("10.1.2.3", b"\x0a\x01\x02\x03"), ("[::1]", bytes(15) + b"\x01"), ("r.example", b"r.example")],
)
async def test_a_socks_proxy_is_given_addresses_and_names(stack, proxied, host, asked):
    server = await stack.enter_async_context(Server(always(ok(b"x"))))
    proxy = Socks(server.port)
    client = await proxied(proxy, "", "socks5://")
    exchange = await client.send(request_to("GET", f"http://{host}:5000/"))
    assert (await exchange.response()).status == 200
    exchange.close()
    assert proxy.places == [asked + b":" + (5000).to_bytes(2, "big")]


@pytest.mark.parametrize(
    ("proxy", "login", "words", "retryable"),
    [
        (Socks(1, status=1), "", "refused to connect to r.example:443: general failure", True),
        (Socks(1, status=2), "", "not allowed by its rules", False),
        (Socks(1, status=5), "", "Connection refused", True),
        (Socks(1, status=99), "", "SOCKS5 status 99", False),
        (Socks(1, login=b"user:right"), "user:s3cr3t@", "refused user and password", False),
        (Socks(1, login=b"user:right"), "", "wants another login", False),
        (Socks(1, login=b"user:right"), "user:@", "of 1 to 255 bytes", False),
        (Socks(1, says=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "", "does not speak SOCKS5", False),
        (Socks(1, says=b"\x05"), "", "closed the connection", True),
        (Socks(1, says=b""), "", "closed the connection", True),
    ],
)
async def test_a_socks_proxy_that_refuses_is_reported(proxied, proxy, login, words, retryable):
    client = await proxied(proxy, login, "socks5://")
    with pytest.raises(ConnectFailed, match=words) as caught:
        await client.send(request_to("GET", "https://r.example/"))
    assert caught.value.retryable is retryable
    assert "the proxy 127.0.0.1:" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_proxy_of_another_kind_is_refused_in_words(stack, client_tls):
    client = HttpClient(NetworkOptions(), lambda *o: client_tls, lambda *o: "socks4://u:s3cr3t@proxy.example")
    stack.push_async_callback(client.close)
    with pytest.raises(InvalidInput, match="unsupported kind of proxy") as caught:
        await client.send(request_to("GET", "https://registry.example/"))
    assert "s3cr3t" not in str(caught.value)
    assert "socks5" in str(caught.value.advice)


@pytest.mark.parametrize(
    ("url", "place", "login"),
    [
        ("https://p.example", ("p.example", 443), None),
        ("http://p.example", ("p.example", 80), None),
        ("socks5://p.example", ("p.example", 1080), None),
        ("SOCKS5h://a:b@p.example:80/", ("p.example", 80), ("a", "b")),
        ("https://a:b%3a@[::1]:8443", ("::1", 8443), ("a", "b:")),
    ],
)
def test_proxy_urls(url, place, login):
    proxy = parse_proxy(url)
    assert ((proxy.host, proxy.port), proxy.login) == (place, login)
    assert "b" not in repr(proxy).removeprefix("Proxy")
