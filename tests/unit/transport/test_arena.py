"""Bodies through slots of the real arena, in debug mode: it notices whoever writes to a freed slot."""

from __future__ import annotations

import asyncio

import pytest

from crossdock._kernels import Arena
from unit.transport.wire import Peer, always, ok, pattern, request_to

BODY = pattern(3_000_000)
SLOT = 256 * 1024


class Slots:
    """A sink over slots, handed to the writer one by one when full; `room` slots at a time."""

    def __init__(self, arena: Arena, size: int) -> None:
        self.arena = arena
        self.left = size
        self.filled: asyncio.Queue[tuple] = asyncio.Queue()
        self.slot = arena.acquire()
        self.at = 0

    def get_buffer(self) -> memoryview | None:
        if self.slot is None:
            self.slot = self.arena.acquire()
        return None if self.slot is None else self.slot.view[self.at :]

    def received(self, count: int) -> None:
        self.at += count
        self.left -= count
        if self.at == len(self.slot.view) or not self.left:
            self.filled.put_nowait((self.slot, self.at))
            self.slot, self.at = None, 0


@pytest.fixture
def arena():
    arena = Arena(4 * SLOT, SLOT, debug=True)
    yield arena
    arena.close()


async def test_a_relay_through_few_slots_is_exact(serve, new_client, arena):
    got = []

    async def handler(peer: Peer) -> None:
        while head := await peer.request():
            if head.startswith(b"GET"):
                await peer.send(ok(BODY))
            else:
                got.append(await peer.reader.readexactly(len(BODY)))
                await peer.send(ok(b""))

    server = await serve(handler)
    client = new_client()
    for _ in range(3):
        source = await client.send(request_to("GET", server.url))
        await source.response()
        target = await client.send(request_to("PUT", server.url, content_length=len(BODY)))
        sink = Slots(arena, len(BODY))
        receiving = asyncio.ensure_future(source.receive(sink))
        sent = 0
        while sent < len(BODY):
            slot, stop = await sink.filled.get()
            await target.write(slot.view[:stop])
            sent += stop
            slot.release()
            source.resume()
        assert await receiving == len(BODY)
        await target.response()
        await target.read(0)
    assert got == [BODY] * 3
    assert server.connections == 2


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 9, 14, 30])
async def test_slots_may_be_freed_as_soon_as_a_cancelled_receive_is_over(serve, new_client, arena, turns):
    server = await serve(always(ok(BODY)))
    client = new_client()
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    sink = Slots(arena, len(BODY))
    task = asyncio.ensure_future(exchange.receive(sink))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if sink.slot is not None:
        sink.slot.release()
    while not sink.filled.empty():
        sink.filled.get_nowait()[0].release()
    for _ in range(20):
        await asyncio.sleep(0)
    slots = [arena.acquire() for _ in range(4)]  # BufferError when a freed one was written to
    for slot in slots:
        slot.release()
