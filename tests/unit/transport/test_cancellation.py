"""Cancelled at any wait, an exchange leaves no task, socket, timer or place behind (`stack` looks)."""

from __future__ import annotations

import asyncio
import socket

import pytest

from crossdock.errors import ConnectFailed, ReadFailed
from unit.transport.wire import Memory, Peer, always, ok, pattern, request_to

BODY = pattern(4 << 20)


async def whole_exchange(client, url, body=BODY) -> None:
    """Every kind of wait: connect, handshake, write, answer, body."""
    exchange = await client.send(request_to("PUT", url, content_length=len(body)))
    await exchange.write(memoryview(body))
    await exchange.response()
    await exchange.receive(Memory(len(BODY)))


async def test_cancellation_after_any_number_of_turns_leaves_nothing(serve, new_client):
    async def echo(peer: Peer) -> None:
        while await peer.request():
            body = await peer.reader.readexactly(len(BODY))
            await peer.send(ok(body))

    server = await serve(echo)
    client = new_client(connections_per_host=1)  # a place that is not given back blocks all that follow
    turns = 0
    while True:
        task = asyncio.ensure_future(whole_exchange(client, server.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            await task
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        turns += 1 if turns < 60 else turns // 8
    await whole_exchange(client, server.url)
    assert "0 busy" in repr(client)


@pytest.mark.parametrize("stage", ["write", "response", "receive"])
async def test_cancellation_at_each_wait_ends_it_at_once(serve, new_client, stage):
    async def handler(peer: Peer) -> None:
        await peer.request()
        if stage == "write":
            peer.writer.transport.pause_reading()
        else:
            await peer.reader.readexactly(len(BODY))
        if stage == "receive":
            await peer.send(ok(BODY)[:-1])
        reached.set()
        await over.wait()

    reached = asyncio.Event()
    over = asyncio.Event()
    server = await serve(handler)
    client = new_client(connections_per_host=1)
    task = asyncio.ensure_future(whole_exchange(client, server.url, BODY * 9 if stage == "write" else BODY))
    await reached.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "busy" not in repr(client)
    over.set()


@pytest.mark.parametrize("turns", range(12))
async def test_cancellation_while_connecting_leaves_nothing(stack, new_client, turns):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connects, by the kernel, and never says a word
        client = new_client(connections_per_host=1)
        url = f"https://127.0.0.1:{mute.getsockname()[1]}"
        task = asyncio.ensure_future(client.send(request_to("GET", url)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "busy" not in repr(client)


async def test_a_cancelled_write_gives_its_memory_back(serve, new_client):
    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    server = await serve(deaf)
    exchange = await new_client().send(request_to("PUT", server.url, content_length=len(BODY) * 9))
    slot = bytearray(BODY * 9)

    async def write() -> None:
        with memoryview(slot) as view:
            await exchange.write(view)

    task = asyncio.ensure_future(write())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slot.clear()  # BufferError while anything holds a view
    over.set()


async def test_a_cancelled_waiter_for_a_place_lets_the_next_one_in(serve, new_client):
    server = await serve(always(ok(b"x")))
    client = new_client(connections_per_host=1)
    first = await client.send(request_to("GET", server.url))
    second = asyncio.ensure_future(client.send(request_to("GET", server.url)))
    third = asyncio.ensure_future(client.send(request_to("GET", server.url)))
    await asyncio.sleep(0)
    assert "1 busy, 0 idle, 2 waiting" in repr(client)
    await first.response()
    await first.read(10)
    second.cancel()  # in the turn in which the place was given to it
    with pytest.raises(asyncio.CancelledError):
        await second
    exchange = await third
    await exchange.response()
    assert await exchange.read(10) == b"x"
    assert "0 busy, 1 idle, 0 waiting" in repr(client)


async def test_closing_the_client_fails_what_is_under_way(serve, new_client):
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    server = await serve(silent)
    client = new_client(connections_per_host=1)
    exchange = await client.send(request_to("GET", server.url))
    answer = asyncio.ensure_future(exchange.response())
    waiting = asyncio.ensure_future(client.send(request_to("GET", server.url)))
    for _ in range(5):
        await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ReadFailed):
        await answer
    with pytest.raises(ConnectFailed, match="closed"):
        await waiting
    with pytest.raises(ConnectFailed, match="closed"):
        await client.send(request_to("GET", server.url))
    await client.close()
