"""Over TLS no byte may go between a socket and a pipe: it would not be decrypted, or not be encrypted."""

from __future__ import annotations

import pytest

from crossdock.transfer.splice import IS_AVAILABLE, Pipe
from unit.transport.wire import Memory, Peer, always, ok, pattern, request_to

BODY = pattern(300_001)


class NeverPiped(Memory):
    def get_pipe(self) -> None:
        raise AssertionError("asked for a pipe")


async def test_a_body_over_tls_never_asks_for_a_pipe(serve, new_client, scheme):
    if scheme == "http":
        pytest.skip("see test_piping.py")
    server = await serve(always(ok(BODY)))
    exchange = await new_client().send(request_to("GET", server.url))
    await exchange.response()
    sink = NeverPiped(len(BODY))
    await exchange.receive(sink)
    assert sink.content == BODY


@pytest.mark.skipif(not IS_AVAILABLE, reason="splice(2) is Linux's")
async def test_a_pipe_that_is_written_all_the_same_is_encrypted(serve, new_client, scheme):
    bodies = []

    async def handler(peer: Peer) -> None:
        await peer.request()
        bodies.append(await peer.reader.readexactly(len(BODY)))
        await peer.send(ok(b""))
        await peer.closed()

    server = await serve(handler)
    pipe = Pipe()
    pipe.room = len(BODY)
    pipe.put(memoryview(BODY))
    exchange = await new_client().send(request_to("PUT", server.url, content_length=len(BODY)))
    assert exchange.is_plain == (scheme == "http")
    await exchange.write(pipe)
    assert (await exchange.response()).status == 200
    exchange.close()
    pipe.close()
    assert bodies == [BODY]
