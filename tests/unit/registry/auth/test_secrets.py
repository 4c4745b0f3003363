"""Secrets that servers echo, complete, truncated or encoded, are not shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from crossdock.errors import CrossdockError, ProtocolError
from crossdock.options import Credentials, NetworkOptions, RegistryOptions
from crossdock.protocol.challenge import parse_challenges
from crossdock.registry.client import NONE, RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.http.refusal import refusal
from crossdock.url import Url

SECRET = "p@ss/w\u00f6rd+long"
PLAIN = RegistryOptions(credentials=Credentials("ann", SECRET), plain_http=True)
ONCE = Context(network=NetworkOptions(retries=0, timeout=5), environ={})


@pytest.mark.parametrize(
    "echo", [SECRET, "p%40ss%2Fw%C3%B6rd%2Blong", "x" * 190 + SECRET, '{"message": "no: ' + SECRET + '"}']
)
def test_an_echoed_secret_is_hidden_in_every_spelling(echo: str) -> None:
    error = refusal("POST", Url.parse("https://auth.test/token"), 400, echo.encode(), secrets=(SECRET,))
    assert "p@ss" not in str(error)
    assert "p%40ss" not in str(error)


def test_challenges_of_bytes_that_are_not_text_can_be_put_in_urls() -> None:
    (challenge,) = parse_challenges(['Bearer realm="https://a.test/\udcff",service="\udcfe"'])
    assert challenge.get("service") == "?"
    challenge.get("realm").encode()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A port that sends `answer` to every request; its ``host:port``."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*filter(None, serving))


@pytest.mark.parametrize(
    "answer",
    [
        b"GET /v2/ HTTP/1.1\r\nAuthorization: Basic c2VjcmV0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nAuthorization Basic c2VjcmV0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"c2VjcmV0" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc2VjcmV0\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_not_quoted(answer: bytes) -> None:
    async with answering(answer) as host:
        client = RegistryClient(host, "source", PLAIN, ONCE)
        try:
            with pytest.raises(CrossdockError) as caught:
                await client.request("GET", "/v2/?sig=s1gn", scope=NONE)
        finally:
            await client.close()
    shown = str(caught.value)
    chained = caught.value.__cause__
    assert "c2VjcmV0" not in shown + str(chained)
    assert "s1gn" not in shown + str(chained)


async def test_a_header_that_cannot_be_sent_is_the_servers_fault_and_no_crash() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as host:
        client = RegistryClient(host, "target", PLAIN, ONCE)
        try:
            with pytest.raises(ProtocolError, match="cannot be used"):
                await client.request("PUT", "/v2/", scope=NONE, headers=(("If-Match", "a\nb"),), body=b"")
        finally:
            await client.close()
