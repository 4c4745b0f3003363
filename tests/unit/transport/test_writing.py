"""Request bodies: drained before they are given back, stopped by an early answer, watched for stalls."""

from __future__ import annotations

import asyncio
import socket

import pytest

from crossdock.errors import InvalidInput, ReadFailed, TimedOut, WriteFailed
from unit.transport.wire import Memory, Peer, finish, ok, pattern, request_to

BODY = pattern(20 << 20)
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large"


async def put(client, url, size=20 << 20):
    return await client.send(request_to("PUT", f"{url}/upload?_state=s3cr3t", content_length=size))


async def test_a_body_arrives_whole_and_its_memory_may_be_reused_after_each_write(serve, new_client):
    bodies = []

    async def handler(peer: Peer) -> None:
        while head := await peer.request():
            assert b"Content-Length: %d\r\n" % len(BODY) in head
            bodies.append(await peer.reader.readexactly(len(BODY)))
            await peer.send(ok(b"done"))

    server = await serve(handler)
    client = new_client()
    for _ in range(2):
        exchange = await put(client, server.url)
        slot = bytearray(3_000_000)
        for start in range(0, len(BODY), len(slot)):
            piece = BODY[start : start + len(slot)]
            slot[: len(piece)] = piece
            await exchange.write(memoryview(slot)[: len(piece)])
            slot[:] = bytes(len(slot))
        assert (await exchange.response()).status == 200
        assert await exchange.read(100) == b"done"
        assert not exchange.responded_early
    assert bodies == [BODY, BODY]
    assert server.connections == 1


async def test_a_zero_length_body_is_declared(serve, new_client):
    heads = []

    async def handler(peer: Peer) -> None:
        while head := await peer.request():
            heads.append(head)
            await peer.send(ok(b""))

    server = await serve(handler)
    client = new_client()
    for size in (0, None):
        exchange = await put(client, server.url, size)
        await exchange.response()
        await exchange.read(0)
    assert b"Content-Length: 0\r\n" in heads[0]
    assert b"Content-Length" not in heads[1]


async def test_a_misuse_of_the_body_is_refused(serve, new_client):
    async def handler(peer: Peer) -> None:
        await peer.closed()

    server = await serve(handler)
    client = new_client()
    exchange = await put(client, server.url, 10)
    with pytest.raises(InvalidInput, match="11 body bytes given where 10 are left"):
        await exchange.write(memoryview(bytes(11)))
    exchange = await put(client, server.url, 10)
    with pytest.raises(InvalidInput, match="10 bytes of the request's body were not written"):
        await exchange.response()


@pytest.mark.parametrize("end", ["keep", "close", "reset"])
async def test_an_early_answer_stops_the_body_and_is_delivered(serve, new_client, end):
    async def refuses(peer: Peer) -> None:
        await peer.request()
        await peer.reader.readexactly(100_000)
        await peer.send(TOO_LARGE)
        if end == "close":
            await finish(peer)
        elif end == "reset":
            peer.writer.transport.abort()  # unread bytes make the kernel answer with a reset
        else:
            await over.wait()  # never reads again

    over = asyncio.Event()
    server = await serve(refuses)
    client = new_client()
    exchange = await put(client, server.url, 1 << 40)
    for _ in range(1000):
        await exchange.write(memoryview(BODY))
        if exchange.responded_early:
            break
    assert exchange.responded_early
    await exchange.write(memoryview(BODY))  # does nothing
    assert (await exchange.response()).status == 413
    assert await exchange.read(100) == b"too large"
    over.set()


async def test_an_early_answer_between_two_writes_is_seen_by_the_next(serve, new_client):
    async def refuses(peer: Peer) -> None:
        await peer.request()
        await peer.reader.readexactly(1000)
        await peer.send(TOO_LARGE)
        answered.set()
        await peer.closed()

    answered = asyncio.Event()
    server = await serve(refuses)
    exchange = await put(new_client(), server.url)
    await exchange.write(memoryview(BODY)[:1000])
    await answered.wait()
    for _ in range(1000):  # turns of the loop, until the answer is read
        if exchange.responded_early:
            break
        await asyncio.sleep(0)
    await exchange.write(memoryview(BODY)[1000:])
    assert (await exchange.response()).status == 413
    assert await exchange.read(100) == b"too large"


async def test_an_early_answer_without_its_end_is_waited_for_only_a_little(serve, new_client, monkeypatch):
    monkeypatch.setattr("crossdock.transport.connection.EARLY_RESPONSE_GRACE", 0.05)

    async def refuses(peer: Peer) -> None:
        await peer.request()
        peer.writer.transport.pause_reading()
        await peer.send(TOO_LARGE[:-3])
        await over.wait()

    over = asyncio.Event()
    server = await serve(refuses)
    exchange = await put(new_client(timeout=0.5), server.url)
    await exchange.write(memoryview(BODY))
    assert exchange.responded_early
    assert (await exchange.response()).status == 413
    # Closed if the request's memory was still in use, else given the time that any body has.
    with pytest.raises((ReadFailed, TimedOut), match=r"6 (of 9 )?bytes"):
        await exchange.read(100)
    over.set()


async def test_memory_of_an_early_answered_write_is_free_when_it_returns(serve, new_client):
    async def refuses(peer: Peer) -> None:
        await peer.request()
        peer.writer.transport.pause_reading()
        await peer.send(TOO_LARGE)
        await over.wait()

    over = asyncio.Event()
    server = await serve(refuses)
    exchange = await put(new_client(), server.url)
    slot = bytearray(BODY)
    with memoryview(slot) as view:
        await exchange.write(view)
    assert exchange.responded_early
    slot.clear()  # BufferError while anything holds a view
    over.set()
    exchange.close()


async def test_a_connection_that_breaks_in_a_write_says_how_far_it_came(serve, new_client):
    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.reader.readexactly(100_000)
        peer.reset()

    server = await serve(breaks)
    exchange = await put(new_client(), server.url)
    with pytest.raises(WriteFailed, match=f"of {len(BODY)} bytes sent") as caught:
        await write_pieces(exchange)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.retryable


async def write_pieces(exchange) -> None:
    for start in range(0, len(BODY), 1 << 20):
        await exchange.write(memoryview(BODY)[start : start + (1 << 20)])


async def test_a_peer_that_takes_nothing_times_out(serve, new_client):
    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    server = await serve(deaf)
    exchange = await put(new_client(timeout=0.2), server.url)
    with pytest.raises(TimedOut, match=r"the peer accepted nothing for 0\.2 s") as caught:
        await exchange.write(memoryview(BODY))
    assert caught.value.phase == "write"
    over.set()


async def test_a_peer_that_takes_nothing_of_what_the_kernel_holds_times_out(serve, new_client):
    """A small body is in the kernel's buffers at once; the patience for an answer is not for its sending."""

    async def deaf(peer: Peer) -> None:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.writer.transport.pause_reading()
        await over.wait()

    over = asyncio.Event()
    server = await serve(deaf)
    exchange = await put(new_client(timeout=0.2), server.url, 1 << 20)
    await exchange.write(memoryview(BODY)[: 1 << 20])
    with pytest.raises(TimedOut, match=r"the peer accepted nothing for 0\.2 s") as caught:
        await exchange.response(3600)
    over.set()
    assert caught.value.phase == "write"


async def test_the_answer_to_a_whole_body_is_not_early(serve, new_client):
    async def handler(peer: Peer) -> None:
        while await peer.request():
            await peer.reader.readexactly(5)
            await peer.send(ok(b""))

    server = await serve(handler)
    client = new_client()
    for _ in range(20):
        exchange = await put(client, server.url, 5)
        await exchange.write(memoryview(b"12345"))
        assert (await exchange.response()).status == 200
        assert not exchange.responded_early
        await exchange.receive(Memory(1))
    assert server.connections == 1
