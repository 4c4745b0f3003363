"""Clients that are slow, many or no clients at all."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from crossdock.listening import serve_app
from crossdock.service.web import imports
from crossdock.service.web.app import make_app
from unit.service.web.doubles import IMPORT, client_of, make_service

HELLO = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(*, idle: float = 60.0, connections: int = 100) -> AsyncIterator[int]:
    """The service behind `serve_app`; its port."""
    stopping = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_app(
            make_app(make_service()),
            "127.0.0.1",
            0,
            on_ready=port.set_result,
            stopping=stopping,
            grace=1,
            idle=idle,
            connections=connections,
        )
    )
    try:
        yield await port
    finally:
        stopping.set()
        await serving


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


async def asked(streams: Streams, request: bytes) -> bytes:
    """The status line of the response; empty if the connection was closed."""
    reader, writer = streams
    writer.write(request)
    return await asyncio.wait_for(reader.readline(), 20)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: local", b"GET"])
async def test_a_head_that_does_not_come_closes_the_connection(sent: bytes) -> None:
    async with served(idle=0.2) as port, connected(port) as streams:
        assert await asked(streams, sent) == b""


async def test_a_connection_that_was_used_is_closed_when_nothing_follows() -> None:
    async with served(idle=0.2) as port, connected(port) as streams:
        assert await asked(streams, HELLO) == b"HTTP/1.1 200 OK\r\n"
        assert b"status" in await asyncio.wait_for(streams[0].read(), 20)  # to its end


async def test_a_connection_too_many_is_closed_and_the_others_are_served() -> None:
    async with served(connections=2) as port, connected(port) as one, connected(port) as two:
        assert await asked(one, HELLO) == await asked(two, HELLO) == b"HTTP/1.1 200 OK\r\n"
        async with connected(port) as three:
            try:
                assert await asked(three, HELLO) == b""
            except ConnectionError:
                pass
        assert b"HTTP/1.1" not in await two[0].readuntil(b"}")
        assert await asked(two, HELLO) == b"HTTP/1.1 200 OK\r\n"


async def test_a_body_that_does_not_come_ends_in_an_error_that_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imports, "BODY_TIMEOUT", 0.1)
    async with served() as port, connected(port) as streams:
        head = f"POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{".encode()
        assert await asked(streams, head) == b"HTTP/1.1 400 Bad Request\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"no http\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: 1\r\n" % each for each in range(300)) + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["no HTTP", "a long field", "many fields", "two lengths"],
)
async def test_an_invalid_request_is_400(request_: bytes) -> None:
    async with served() as port, connected(port) as streams:
        assert b" 400 " in await asked(streams, request_)


async def test_a_chunked_body_over_the_limit_is_413() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 8192

    async with client_of(make_service()) as client:
        answer = await client.post(IMPORT, data=endless())
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "RequestEntityTooLarge")


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    body = b'{"source": {"registryUri": "docker.io", "sourceImage": "library/x"}}'
    head = (
        f"POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    ).encode()
    async with served() as port, connected(port) as streams:
        assert await asked(streams, head) == b"HTTP/1.1 100 Continue\r\n"
        await streams[0].readline()
        assert await asked(streams, body) == b"HTTP/1.1 202 Accepted\r\n"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b" " * (1 << 24))),
        ("deflate", b"broken"),
        ("br", b"anything"),
        ("zstd", b"anything"),
        ("GZIP", b""),
        ("gzip, gzip", b"{}"),
    ],
)
async def test_a_body_with_a_coding_is_415_and_not_decompressed(coding: str, body: bytes) -> None:
    async with client_of(make_service()) as client:
        answer = await client.post(IMPORT, data=body, headers={"Content-Encoding": coding})
        assert answer.status == 415
        assert (await answer.json())["error"]["code"] == "UnsupportedMediaType"
