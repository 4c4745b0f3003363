"""Bodies that pass through pipes: the same bytes, the same failures, and nothing of the next answer."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

import pytest

from crossdock.errors import ReadFailed, TimedOut, WriteFailed
from crossdock.transfer.splice import IS_AVAILABLE, Pipe
from unit.transport.wire import Memory, Peer, always, ok, once, pattern, request_to

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="splice(2) is Linux's")

BODY = pattern(3_000_001)
SEGMENT = 70_000


@pytest.fixture(params=["http"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Over TLS sockets carry something else; see the end."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_pipe_is_left(serve, new_client):
    before = open_pipes()
    yield
    assert open_pipes() == before, "a pipe was not closed"


def open_pipes() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    return found


class Piped(Memory):
    """A sink with pipes of `room` bytes, which are emptied at once unless `keeps` is set."""

    def __init__(self, size: int, room: int = 1 << 20) -> None:
        super().__init__(size)
        self._room = room
        self._pipe: Pipe | None = None
        self.by_pipe = 0
        self.is_held = False

    def get_pipe(self) -> Pipe | None:
        if self._pipe is not None and not self._pipe.room:
            self.let_go()
        if self._pipe is None and not self.is_held:
            self._pipe = Pipe()
            self._pipe.room = self._room
        return self._pipe

    def get_buffer(self) -> memoryview | None:
        if self.is_held:
            self.full.set()
            return None
        return super().get_buffer()

    def received(self, count: int) -> None:
        if self._pipe is None:
            super().received(count)
            return
        data = self._pipe.take(count)
        assert len(data) == count
        self._memory[self.filled : self.filled + count] = data
        self.filled += count
        self.by_pipe += count

    def let_go(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


async def fetch(client, url, sink):
    exchange = await client.send(request_to("GET", url))
    await exchange.response()
    try:
        return await exchange.receive(sink)
    finally:
        sink.let_go()


@pytest.mark.parametrize("room", [1 << 20, 65536, 4097, 333])
async def test_a_body_comes_by_pipes_and_the_connection_is_used_again(serve, new_client, room):
    body = BODY[: room * 2 + 5]
    server = await serve(always(ok(body)))
    client = new_client()
    for _ in range(3):
        sink = Piped(len(BODY), room)
        assert await fetch(client, server.url, sink) == len(body)
        assert sink.content == body
        assert sink.by_pipe == sink.filled
    assert server.connections == 1


async def test_a_body_in_segments_of_any_size_is_the_same_body(serve, new_client):
    async def drip(peer: Peer) -> None:
        while await peer.request():
            await peer.send(ok(BODY)[:100])
            answer, size = memoryview(ok(BODY))[100:], 1
            while answer:
                await peer.send(bytes(answer[:size]))
                answer, size = answer[size:], size * 3 % SEGMENT + 1
                await asyncio.sleep(0)

    server = await serve(drip)
    client = new_client()
    for _ in range(2):
        sink = Piped(len(BODY))
        await fetch(client, server.url, sink)
        assert sink.content == BODY
    assert server.connections == 1


async def test_nothing_of_what_follows_a_body_gets_into_a_pipe(serve, new_client):
    server = await serve(once(ok(BODY) + ok(b"\xff" * 1000)))
    sink = Piped(len(BODY) + 2000)
    assert await fetch(new_client(), server.url, sink) == len(BODY)
    assert sink.content == BODY


@pytest.mark.parametrize("how", ["ended", "reset"])
async def test_a_body_that_breaks_has_delivered_a_good_part(serve, new_client, how):
    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:2_000_000])
        await taken.wait()
        if how == "reset":
            peer.reset()

    taken = asyncio.Event()

    class Watched(Piped):
        def received(self, count: int) -> None:
            super().received(count)
            if self.filled > 1_900_000:
                taken.set()

    server = await serve(breaks)
    sink = Watched(len(BODY))
    with pytest.raises(ReadFailed, match=r"after 19\d+ of 3000001 bytes|broke in the body"):
        await fetch(new_client(), server.url, sink)
    assert 1_900_000 < sink.filled < 2_000_000
    assert sink.content == BODY[: sink.filled]


async def test_a_full_sink_makes_the_source_wait_and_continues_in_a_pipe(serve, new_client):
    server = await serve(always(ok(BODY)))
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    sink = Piped(len(BODY))
    sink.is_held = True
    receiving = asyncio.ensure_future(exchange.receive(sink))
    await sink.full.wait()
    assert sink.filled == 0
    sink.is_held = False
    exchange.resume()
    assert await receiving == len(BODY)
    assert sink.content == BODY
    assert sink.by_pipe == len(BODY)
    sink.let_go()


async def test_a_source_that_falls_silent_is_given_up(serve, new_client):
    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:100_000])
        await peer.closed()

    server = await serve(stalls)
    with pytest.raises(TimedOut, match="bytes a second"):
        await fetch(new_client(timeout=0.3), server.url, Piped(len(BODY)))


async def test_a_body_framed_otherwise_lands_in_memory(serve, new_client):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(BODY),
        BODY,
    )
    server = await serve(always(chunked))
    sink = Piped(len(BODY))
    await fetch(new_client(), server.url, sink)
    assert sink.content == BODY
    assert sink.by_pipe == 0


# -- requests ------------------------------------------------------------------------------------------------


def filled(data: bytes) -> Pipe:
    pipe = Pipe()
    pipe.room = len(data)
    assert pipe.put(memoryview(data)) == len(data)
    return pipe


async def test_a_request_is_sent_out_of_pipes(serve, new_client):
    bodies = []

    async def handler(peer: Peer) -> None:
        while await peer.request():
            bodies.append(await peer.reader.readexactly(len(BODY)))
            await peer.send(ok(b"done"))

    server = await serve(handler)
    client = new_client()
    for size in (1 << 20, 100_000, 65537):
        exchange = await client.send(request_to("PUT", server.url, content_length=len(BODY)))
        assert exchange.is_plain
        for start in range(0, len(BODY), size):
            data = BODY[start : start + size]
            if start // size % 3 == 2:  # memory and pipes take turns
                await exchange.write(memoryview(data))
                continue
            pipe = filled(data)
            await exchange.write(pipe)
            assert not len(pipe)
            pipe.close()
        assert (await exchange.response()).status == 200
        await exchange.read(100)
    assert bodies == [BODY] * 3
    assert server.connections == 1


async def write_on(exchange) -> None:
    """Until the target answers."""
    while not exchange.responded_early:
        pipe = filled(BODY[: 1 << 20])
        try:
            await exchange.write(pipe)
        finally:
            pipe.close()


async def test_a_target_that_takes_nothing_is_given_up(serve, new_client):
    async def stalls(peer: Peer) -> None:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.writer.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    server = await serve(stalls)
    exchange = await new_client(timeout=0.3).send(request_to("PUT", server.url, content_length=1 << 40))
    with pytest.raises(TimedOut, match="accepted nothing"):
        await write_on(exchange)
    over.set()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large"])
async def test_a_target_that_resets_is_told_with_what_it_answered(serve, new_client, says):
    async def resets(peer: Peer) -> None:
        await peer.request()
        await peer.reader.readexactly(100_000)
        await peer.send(says) if says else None
        peer.writer.transport.abort()  # unread bytes make the kernel send a reset

    server = await serve(resets)
    exchange = await new_client().send(request_to("PUT", server.url, content_length=1 << 40))
    if not says:
        with pytest.raises(WriteFailed):
            await write_on(exchange)
        return
    await write_on(exchange)
    assert (await exchange.response()).status == 413
    assert await exchange.read(100) == b"too large"


async def test_a_cancelled_write_ends_the_connection(serve, new_client):
    async def stalls(peer: Peer) -> None:
        await peer.request()
        asked.set()
        peer.writer.transport.pause_reading()
        await over.wait()

    asked, over = asyncio.Event(), asyncio.Event()
    server = await serve(stalls)
    exchange = await new_client().send(request_to("PUT", server.url, content_length=1 << 40))
    writing = asyncio.ensure_future(write_on(exchange))
    await asked.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    over.set()
