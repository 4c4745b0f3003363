"""Keep-alive, places, and addresses."""

from __future__ import annotations

import asyncio
import math
import socket

import pytest

from crossdock import descriptors
from crossdock.descriptors import affordable
from crossdock.errors import (
    Advice,
    ConnectFailed,
    InvalidInput,
    ReadFailed,
    TimedOut,
)
from crossdock.transport import pool as pool_module
from crossdock.transport.client import ORIGINS
from crossdock.transport.connect import Connector, Resolver
from unit.transport.wire import Memory, Peer, Server, always, finish, ok, pattern, request_to

BODY = pattern(100_000)
ULIMIT = Advice("raise-open-files")


async def get(client, url, **request):
    exchange = await client.send(request_to("GET", url, **request))
    await exchange.response()
    return await exchange.read(1 << 20)


async def test_a_kept_connection_that_died_is_replaced_once_without_a_word(serve, new_client):
    """The server takes the second request and closes before a byte of an answer."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"%d" % peer.number))
        await peer.request()
        await finish(peer)

    server = await serve(handler)
    client = new_client()
    assert await get(client, server.url) == b"1"
    assert await get(client, server.url) == b"2"
    exchange = await client.send(request_to("PUT", server.url, content_length=0))
    await exchange.response()
    assert await exchange.read(9) == b"3"
    assert server.connections == 3


async def test_a_dead_connection_is_not_replaced_for_a_request_with_a_body_nor_when_it_is_new(
    serve, new_client
):
    async def handler(peer: Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.send(ok(b"1"))
        await peer.request()
        await finish(peer)

    server = await serve(handler)
    client = new_client()
    await get(client, server.url)
    exchange = await client.send(request_to("PUT", server.url, content_length=3))
    await exchange.write(memoryview(b"abc"))
    with pytest.raises(ConnectionError):
        await exchange.response()
    assert server.connections == 1
    with pytest.raises(ReadFailed, match="before a response"):
        await get(client, server.url)
    assert server.connections == 2


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_closing_an_exchange_never_makes_a_connection_for_it(serve, new_client, turns):
    """Neither while it waits on a kept connection, nor in the middle of its replacement."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(ok(b""))
            await peer.request()
            if turns % 2:
                await finish(peer)
        await peer.closed()

    server = await serve(handler)
    client = new_client()
    await get(client, server.url)
    exchange = await client.send(request_to("GET", server.url))
    answer = asyncio.ensure_future(exchange.response())
    for _ in range(turns):
        await asyncio.sleep(0)
    exchange.close()
    await asyncio.gather(answer, return_exceptions=True)
    assert repr(client) == "<HttpClient <Pool >>"


async def test_unsolicited_bytes_close_an_idle_connection(serve, new_client):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"%d" % peer.number))
        await go.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await peer.closed()
        closed.set()

    go, closed = asyncio.Event(), asyncio.Event()
    server = await serve(handler)
    client = new_client()
    assert await get(client, server.url) == b"1"
    assert "1 idle" in repr(client)
    go.set()
    await closed.wait()
    assert "idle" not in repr(client)


async def test_idle_connections_are_closed_after_a_while(serve, new_client, monkeypatch):
    monkeypatch.setattr(pool_module, "IDLE_FOR", 0.05)

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"x"))
        await peer.closed()
        closed.set()

    closed = asyncio.Event()
    server = await serve(handler)
    client = new_client()
    await get(client, server.url)
    await closed.wait()
    assert "idle" not in repr(client)


async def test_no_more_connections_than_allowed_and_the_queue_is_fair(serve, new_client):
    order = []

    async def handler(peer: Peer) -> None:
        while head := await peer.request():
            order.append(int(head.split()[1][1:]))
            await peer.send(ok(BODY))

    server = await serve(handler)
    client = new_client(connections_per_host=3)
    results = await asyncio.gather(*(get(client, f"{server.url}/{n}") for n in range(30)))
    assert results == [BODY] * 30
    assert server.connections == 3
    assert sorted(order) == list(range(30))
    assert "0 busy, 3 idle, 0 waiting" in repr(client)


async def test_a_queue_that_moves_nothing_is_given_up(serve, new_client):
    async def silent(peer: Peer) -> None:
        await peer.closed()

    server = await serve(silent)
    client = new_client(connections_per_host=1, commit_timeout=0.1, timeout=0.1)
    held = await client.send(request_to("GET", server.url))
    with pytest.raises(TimedOut, match="all 1 connections") as caught:
        await client.send(request_to("GET", server.url))
    assert caught.value.phase == "pool"
    held.close()


async def test_the_request_on_the_wire_is_what_was_asked(serve, new_client):
    heads = []

    async def handler(peer: Peer) -> None:
        while head := await peer.request():
            heads.append(head.decode())
            await peer.send(ok(b""))

    server = await serve(handler)
    client = new_client()
    await get(client, f"{server.url}/v2/a%2Fb/é x?sig=a+b%3D&c=/#frag", headers=[("Range", "bytes=0-1")])
    assert heads[0].splitlines() == [
        "GET /v2/a%2Fb/%C3%A9%20x?sig=a+b%3D&c=/ HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: crossdock",
        "Accept-Encoding: identity",
        "Range: bytes=0-1",
        "",
    ]


@pytest.mark.parametrize(
    ("url", "headers", "words"),
    [
        ("ftp://host/", (), "not an absolute"),
        ("/v2/", (), "not an absolute"),
        ("http://host:99999/", (), "not a URL"),
        ("http://host/\r\nX: y", (), "control character"),
        ("http://127.0.0.1:1/", [("X", "a\r\nb")], "header X"),
        ("http://127.0.0.1:1/", [("X Y", "a")], "not a header name"),
        ("http://127.0.0.1:1/", [("content-length", "1")], "sets these headers itself: content-length"),
    ],
)
async def test_content_that_cannot_be_sent_is_refused_before_anything_is_sent(
    stack, new_client, url, headers, words
):
    client = new_client()
    with pytest.raises(InvalidInput, match=words):
        await client.send(request_to("GET", url, headers))
    assert repr(client) == "<HttpClient <Pool >>"


async def test_nobody_listening_and_an_unknown_name_are_connect_failures(stack, new_client):
    client = new_client()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"cannot connect to 127.0.0.1:{port}: ") as caught:
        await client.send(request_to("GET", f"http://127.0.0.1:{port}/"))
    assert caught.value.retryable
    assert caught.value.is_closed
    with pytest.raises(ConnectFailed, match=r"host name registry\.invalid could not be resolved"):
        await client.send(request_to("GET", "http://registry.invalid/"))
    assert repr(client) == "<HttpClient <Pool >>"


async def test_a_port_that_was_open_before_is_being_restarted(stack, new_client):
    client = new_client()
    async with Server(always(ok(b"x", "Connection: close"))) as server:
        assert await get(client, server.url) == b"x"
    with pytest.raises(ConnectFailed) as caught:
        await client.send(request_to("GET", server.url))
    assert caught.value.retryable
    assert not caught.value.is_closed


LOOKUPS = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
    (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), False),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
    (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), True),
    (UnicodeError("label empty or too long"), False),
]


@pytest.mark.parametrize(("error", "retryable"), LOOKUPS)
async def test_only_a_name_that_is_certainly_none_is_final(stack, new_client, monkeypatch, error, retryable):
    monkeypatch.setattr(Resolver, "_ask", refuses(error))
    with pytest.raises(ConnectFailed, match=r"the host name registry\.example could not be") as caught:
        await new_client().send(request_to("GET", "http://registry.example/"))
    assert caught.value.retryable is retryable
    assert (caught.value.advice == Advice("check-host-name")) is not retryable


async def test_a_name_that_was_known_before_may_be_known_again(stack, serve, scheme, new_client, monkeypatch):
    server = await serve(always(ok(b"x", "Connection: close")))
    client = new_client()
    url = f"{scheme}://localhost:{server.port}/"
    monkeypatch.setattr(Resolver, "_ask", resolves_to("127.0.0.1", port=server.port))
    assert await get(client, url) == b"x"
    client._connector._resolver.forget("localhost", server.port)
    monkeypatch.setattr(Resolver, "_ask", refuses(LOOKUPS[0][0]))
    with pytest.raises(ConnectFailed) as caught:
        await client.send(request_to("GET", url))
    assert caught.value.retryable


def refuses(error: Exception):
    async def ask(self, host, port):
        raise error

    return ask


# -- few descriptors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "wanted", "connections"),
    [(40, 96, 4), (8, 96, 2), (64, 96, 10), (256, 96, 58), (1024, 96, 96), (1 << 20, 96, 96), (64, 3, 3)],
)
def test_few_files_mean_few_connections(monkeypatch, limit, wanted, connections):
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda which: (limit, limit))
    assert affordable(wanted, per=ORIGINS, least=2) == connections


def test_no_limit_on_files_is_none_on_connections(monkeypatch):
    unlimited = descriptors.resource.RLIM_INFINITY
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda which: (unlimited, unlimited))
    assert affordable(96, per=ORIGINS) == 96


@pytest.fixture
def lacking(monkeypatch):
    """Lets so many connections fail for want of a descriptor."""

    def fail(times: float) -> list[int]:
        tries: list[int] = []
        dial = Connector._dial

        async def dials(self, origin):
            tries.append(1)
            if len(tries) <= times:
                raise ConnectFailed("Too many open files", advice=ULIMIT, lacks_descriptors=True)
            return await dial(self, origin)

        monkeypatch.setattr(Connector, "_dial", dials)
        monkeypatch.setattr("crossdock.transport.client.PAUSES_S", (0.0,) * 3)
        return tries

    return fail


async def test_a_descriptor_that_lacks_is_waited_for(serve, new_client, lacking):
    server = await serve(always(ok(b"x")))
    tries = lacking(2)
    assert await get(new_client(), server.url) == b"x"
    assert len(tries) == 3


async def test_without_any_descriptor_the_error_says_what_to_do(serve, new_client, lacking):
    server = await serve(always(ok(b"x")))
    tries = lacking(math.inf)
    client = new_client()
    with pytest.raises(ConnectFailed, match="Too many open files") as caught:
        await client.send(request_to("GET", server.url))
    assert len(tries) == 4
    assert caught.value.advice == ULIMIT
    assert repr(client) == "<HttpClient <Pool >>"


async def test_idle_connections_make_room_also_those_of_another_client(stack, serve, new_client, lacking):
    server, other = await serve(always(ok(b"x"))), await serve(always(ok(b"y")))
    clients = new_client(), new_client()
    assert await get(clients[0], server.url) == b"x"
    assert "1 idle" in repr(clients[0])
    lacking(1)
    assert await get(clients[1], other.url) == b"y"
    assert repr(clients[0]) == "<HttpClient <Pool >>"
    assert await get(clients[0], server.url) == b"x"


async def test_after_a_lack_there_are_fewer_connections_and_then_more_again(
    stack, serve, new_client, lacking, monkeypatch
):
    monkeypatch.setattr("crossdock.transport.pool.GROWS_AFTER", 2)
    server = await serve(always(ok(b"x")))
    client = new_client(connections_per_host=3)
    lacking(1)
    assert await get(client, server.url) == b"x"
    assert client._pool._limit == 1
    assert await asyncio.gather(*(get(client, server.url) for _ in range(30))) == [b"x"] * 30
    assert client._pool._limit == 3
    assert "0 waiting" in repr(client)


async def test_a_host_whose_first_address_refuses_is_reached_by_the_next(
    serve, new_client, scheme, monkeypatch
):
    server = await serve(always(ok(b"x")))
    monkeypatch.setattr(Resolver, "_look_up", resolves_to("127.0.0.2", "127.0.0.1", port=server.port))
    client = new_client()
    for _ in range(2):
        assert await get(client, f"{scheme}://localhost:{server.port}/") == b"x"


async def test_connections_spread_over_all_addresses(stack, new_client, monkeypatch):
    async def handler(peer: Peer) -> None:
        used.append(peer.writer.get_extra_info("sockname")[0])
        while await peer.request():
            await peer.send(ok(b"x", "Connection: close"))

    used: list[str] = []
    server = await stack.enter_async_context(Server(handler, host="0.0.0.0"))
    monkeypatch.setattr(
        Resolver, "_look_up", resolves_to("127.0.0.1", "127.0.0.2", "127.0.0.3", port=server.port)
    )
    client = new_client()
    for _ in range(6):
        await get(client, f"http://storage.example:{server.port}/")
    assert sorted(used) == ["127.0.0.1"] * 2 + ["127.0.0.2"] * 2 + ["127.0.0.3"] * 2


def resolves_to(*hosts: str, port: int):
    async def look_up(self, host, _):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return look_up


async def test_a_sink_is_never_touched_after_receive_has_failed(serve, new_client):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:50_000])
        await peer.closed()

    server = await serve(handler)
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    sink = Memory(len(BODY))
    task = asyncio.ensure_future(exchange.receive(sink))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = sink.filled
    sink.get_buffer = sink.received = None
    exchange.resume()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sink.filled == before
