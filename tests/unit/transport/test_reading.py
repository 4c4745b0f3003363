"""Answers as servers send them, whole and broken."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.errors import LimitExceeded, ProtocolError, ReadFailed, TimedOut
from crossdock.transport.head import MAX_HEAD
from unit.transport.wire import Memory, Peer, always, ok, once, pattern, request_to

BODY = pattern(300_000)


async def fetch(client, url, size=300_000, method="GET", piece=1 << 30):
    exchange = await client.send(request_to(method, url))
    head = await exchange.response()
    sink = Memory(size, piece)
    count = await exchange.receive(sink)
    assert count == sink.filled
    return head, sink.content


async def test_a_body_lands_in_the_sink_and_the_connection_is_used_again(serve, new_client):
    server = await serve(always(ok(BODY, "X-Name: a", "x-name: b")))
    client = new_client()
    for piece in (1 << 30, 7, 65536):
        head, content = await fetch(client, server.url, piece=piece)
        assert (head.status, head.reason, head.content_length) == (200, "OK", len(BODY))
        assert head.get("x-name") == "a, b"
        assert content == BODY
    assert server.connections == 1


async def test_an_answer_in_single_bytes_is_the_same_answer(serve, new_client):
    answer = ok(BODY[:300], "Docker-Content-Digest: sha256:abc")

    async def drip(peer: Peer) -> None:
        while await peer.request():
            for index in range(len(answer)):
                await peer.send(answer[index : index + 1])
                await asyncio.sleep(0)

    server = await serve(drip)
    client = new_client()
    for _ in range(2):
        head, content = await fetch(client, server.url, 300)
        assert head.get("docker-content-digest") == "sha256:abc"
        assert content == BODY[:300]
    assert server.connections == 1


async def test_the_second_of_two_answers_to_one_request_never_reaches_a_sink(serve, new_client):
    server = await serve(once(ok(BODY) + ok(b"\xff" * 1000)))
    client = new_client()
    _, content = await fetch(client, server.url, len(BODY) + 2000)
    assert content == BODY
    _, content = await fetch(client, server.url, len(BODY) + 2000)
    assert content == BODY
    assert server.connections == 2


async def test_bytes_behind_a_small_body_close_the_connection(serve, new_client):
    server = await serve(once(ok(b"abc") + b"x"))
    client = new_client()
    for number in (1, 2):
        assert (await fetch(client, server.url, 10))[1] == b"abc"
        assert server.connections == number


async def test_an_empty_body_and_bodyless_statuses_and_head_need_no_bytes(serve, new_client):
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n",
    ]

    async def handler(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        await peer.closed()

    server = await serve(handler)
    client = new_client()
    for method, status in (("GET", 200), ("GET", 204), ("GET", 304), ("HEAD", 200)):
        head, content = await fetch(client, server.url, 10, method)
        assert (head.status, content) == (status, b"")
    assert head.content_length == 77
    assert server.connections == 1


@pytest.mark.parametrize("piece", [1 << 30, 1000])
async def test_a_chunked_body_is_decoded_and_the_connection_kept(serve, new_client, piece):
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:200_000]))
    chunks += b"%X\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY) - 200_000, BODY[200_000:])
    server = await serve(always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks))
    client = new_client()
    for _ in range(2):
        head, content = await fetch(client, server.url, piece=piece)
        assert head.content_length is None
        assert content == BODY
    assert server.connections == 1


async def test_a_body_that_ends_with_the_connection_is_whole(serve, new_client):
    server = await serve(once(b"HTTP/1.1 200 OK\r\n\r\n" + BODY))
    client = new_client()
    assert (await fetch(client, server.url))[1] == BODY
    assert (await fetch(client, server.url, piece=1000))[1] == BODY
    assert server.connections == 2


@pytest.mark.parametrize("fields", ["Connection: close", "connection: keep-alive, Close"])
async def test_connection_close_is_obeyed(serve, new_client, fields):
    server = await serve(always(ok(BODY, fields)))
    client = new_client()
    for number in (1, 2):
        await fetch(client, server.url)
        assert server.connections == number


async def test_interim_answers_are_skipped_but_not_without_end(serve, new_client):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    server = await serve(once(interim * 2 + ok(b"abc")))
    client = new_client()
    head, content = await fetch(client, server.url, 10)
    assert (head.status, content) == (200, b"abc")
    server = await serve(once(interim * 20 + ok(b"abc")))
    with pytest.raises(ProtocolError, match="interim"):
        await fetch(client, server.url, 10)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (ok(BODY)[:-1], ReadFailed, "299999 of 300000 bytes"),
        (ok(BODY)[:60], ReadFailed, "of 300000 bytes"),
        (ok(BODY)[:30], ReadFailed, "in the head"),
        (b"", ReadFailed, "before a response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", ReadFailed, "last chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ProtocolError, "chunk size"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            ProtocolError,
            "Content-Length",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ProtocolError, "SSH-2.0"),
        (b"\x1f\x8b\x08\x00layer\xff", ProtocolError, "begins with binary data"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD, ProtocolError, "longer than"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ProtocolError, "101"),
    ],
)
async def test_a_broken_answer_is_never_taken_for_a_whole_one(serve, new_client, answer, error, words):
    server = await serve(once(answer))
    client = new_client()
    with pytest.raises(error, match=words) as caught:
        await fetch(client, f"{server.url}/v2/x?X-Amz-Signature=s3cr3t")
    assert caught.value.method == "GET"
    assert "s3cr3t" not in str(caught.value)
    assert f"{server.url}/v2/x?X-Amz-Signature=…" in str(caught.value)
    assert caught.value.retryable


async def test_chunks_count_for_more_than_a_length_and_the_connection_is_not_kept(serve, new_client):
    both = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    )
    server = await serve(always(both))
    client = new_client()
    for _ in range(2):
        assert (await fetch(client, server.url))[1] == b"abcde"
    assert server.connections == 2


async def test_a_reset_in_the_middle_of_a_body_keeps_the_bytes_before_it(serve, new_client):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:-100_000])
        await reached.wait()
        peer.reset()

    reached = asyncio.Event()
    server = await serve(handler)
    client = new_client()
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    sink = Memory(len(BODY))
    original = sink.received

    def received(count: int) -> None:
        original(count)
        if sink.filled == len(BODY) - 100_000:
            reached.set()

    sink.received = received
    with pytest.raises(ReadFailed, match="200000 of 300000"):
        await exchange.receive(sink)
    assert sink.content == BODY[:-100_000]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_full_sink_stops_the_server_and_resume_continues(serve, new_client, framing):
    body = pattern(40 << 20)
    sent = 0

    async def handler(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        if framing == "length":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body))
        for start in range(0, len(body), 1 << 16):
            await peer.send(body[start : start + (1 << 16)])
            sent += 1 << 16
        if framing == "chunked":
            await peer.send(b"\r\n0\r\n\r\n")
        await peer.closed()

    server = await serve(handler)
    client = new_client()
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    sink = Memory(len(body))
    sink.limit = 100_001
    receiving = asyncio.ensure_future(exchange.receive(sink))
    await sink.full.wait()
    before = -1
    while before != sent:  # until the server is stopped by the kernel's buffers
        before = sent
        for _ in range(50):
            await asyncio.sleep(0)
    assert sink.filled == 100_001
    assert sent < len(body)
    while sink.limit < len(body):
        sink.full.clear()
        sink.limit = min(len(body), sink.limit + 3_000_000)
        exchange.resume()
        if sink.limit < len(body):
            await sink.full.wait()
    assert await receiving == len(body)
    assert sink.content == body


async def test_a_full_sink_is_not_called_slow(serve, new_client):
    server = await serve(always(ok(BODY)))
    client = new_client(timeout=0.1)
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    sink = Memory(len(BODY))
    sink.limit = 10
    receiving = asyncio.ensure_future(exchange.receive(sink))
    await sink.full.wait()
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(0.4, passed.set_result, None)
    await passed
    assert not receiving.done()
    sink.limit = len(BODY)
    exchange.resume()
    assert await receiving == len(BODY)


async def test_a_server_that_never_answers_times_out(serve, new_client):
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    server = await serve(silent)
    client = new_client(timeout=0.1)
    exchange = await client.send(request_to("GET", server.url))
    with pytest.raises(TimedOut, match=r"no response within 0\.1 s") as caught:
        await exchange.response()
    assert caught.value.phase == "first byte"
    exchange = await client.send(request_to("PUT", server.url, content_length=0))
    with pytest.raises(TimedOut) as caught:
        await exchange.response(timeout=0.05)
    assert caught.value.phase == "commit"


@pytest.mark.parametrize("start", [ok(BODY)[:20], ok(BODY)[:1000]])
async def test_a_stall_after_the_first_byte_times_out(serve, new_client, start):
    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.closed()

    server = await serve(stalls)
    client = new_client(timeout=0.1)
    with pytest.raises(TimedOut) as caught:
        await fetch(client, server.url)
    assert caught.value.phase == ("first byte" if len(start) < 40 else "low speed")


async def test_a_trickle_is_too_slow(serve, new_client):
    async def trickle(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:1000])
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    server = await serve(trickle)
    client = new_client(timeout=0.2, low_speed=10_000)
    with pytest.raises(TimedOut, match="under 10000 bytes a second") as caught:
        await fetch(client, server.url)
    assert caught.value.phase == "low speed"


async def test_read_gives_a_small_body_and_refuses_a_longer_one(serve, new_client):
    server = await serve(always(ok(BODY[:1000])))
    client = new_client()
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    assert await exchange.read(1000) == BODY[:1000]
    exchange = await client.send(request_to("GET", server.url))
    await exchange.response()
    with pytest.raises(LimitExceeded, match="over the limit of 999 bytes"):
        await exchange.read(999)
    assert server.connections == 1


async def test_an_error_of_the_sink_reaches_the_receiver(serve, new_client):
    class Broken(Memory):
        def received(self, count: int) -> None:
            raise RuntimeError("the sink is broken")

    server = await serve(always(ok(BODY)))
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    with pytest.raises(RuntimeError, match="the sink is broken"):
        await exchange.receive(Broken(len(BODY)))


async def test_closing_an_exchange_keeps_a_connection_only_when_nothing_is_outstanding(serve, new_client):
    answers = iter([ok(b""), ok(b"small"), ok(BODY), ok(b"")])

    async def handler(peer: Peer) -> None:
        while await peer.request():
            await peer.send(next(answers))

    server = await serve(handler)
    client = new_client()
    for connections in (1, 1, 1, 2):
        exchange = await client.send(request_to("GET", server.url))
        await exchange.response()
        exchange.close()
        exchange.close()
        assert server.connections == connections
    with pytest.raises(ReadFailed, match="has ended"):
        await exchange.response()


async def test_closing_an_exchange_ends_the_coroutine_that_reads_it(serve, new_client):
    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(BODY)[:1000])
        await peer.closed()

    server = await serve(stalls)
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    receiving = asyncio.ensure_future(exchange.receive(Memory(len(BODY))))
    await asyncio.sleep(0)
    exchange.close()
    with pytest.raises(ReadFailed, match="by this side"):
        await receiving


async def test_an_unframed_body_needs_an_orderly_end(serve, new_client, scheme):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:1000])
        await arrived.wait()
        peer.reset()  # over TLS: no close_notify

    arrived = asyncio.Event()
    server = await serve(handler)
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    arrived.set()
    with pytest.raises(ReadFailed, match="without the sign of its end"):
        await exchange.receive(Memory(len(BODY)))
