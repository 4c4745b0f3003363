"""The other end of the wire: servers made of one coroutine, and sinks made of one bytearray."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from crossdock.transport.base import Headers, Request
from crossdock.url import Url

Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """A connection as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number  # 1 for the first connection

    async def request(self) -> bytes:
        """The next request's head; b"" at the end of the connection."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End with RST, unsent bytes lost."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()

    async def closed(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass


class Server:
    """Listens on loopback while the context lasts. Errors of handlers other than lost connections surface."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self.port = 0
        self._handler = handler
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._handler(Peer(reader, writer, self.connections))
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:
            self._errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not self._errors, self._errors


def always(answer: bytes) -> Handler:
    """Answers every request of every connection with these bytes."""

    async def handler(peer: Peer) -> None:
        while await peer.request():
            await peer.send(answer)

    return handler


def once(answer: bytes) -> Handler:
    """Answers one request with these bytes, then ends the connection in order."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await finish(peer)

    return handler


async def finish(peer: Peer) -> None:
    """End the connection in order: over TLS with close_notify."""
    peer.writer.close()
    await peer.writer.wait_closed()


def ok(body: bytes, *fields: str) -> bytes:
    """A 200 with Content-Length."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Memory:
    """A sink over one bytearray of `size` bytes, offered in pieces of at most `piece`.

    Bytes other than the received ones must not change: `intact` checks the guard behind the end.
    """

    GUARD = b"\xaa" * 4096

    def __init__(self, size: int, piece: int = 1 << 30) -> None:
        self.size = size
        self.filled = 0
        self.limit = size  # beyond it the sink is full
        self.full = asyncio.Event()
        self._memory = bytearray(size) + bytearray(self.GUARD)
        self._piece = piece
        self._offered = 0

    def get_buffer(self) -> memoryview | None:
        end = min(self.limit, self.filled + self._piece)
        if end == self.filled:
            self.full.set()
            return None
        self._offered = end - self.filled
        return memoryview(self._memory)[self.filled : end]

    def received(self, count: int) -> None:
        assert 0 < count <= self._offered
        self.filled += count

    @property
    def content(self) -> bytes:
        assert self._memory.endswith(self.GUARD)
        assert not any(self._memory[self.filled : self.size])
        return bytes(self._memory[: self.filled])


def pattern(size: int) -> bytes:
    """Bytes in which neighbouring positions differ."""
    return (bytes(range(1, 252)) * (size // 251 + 1))[:size]


def request_to(
    method: str, url: str, headers: Headers = (), content_length: int | None = None, body: bytes = b""
) -> Request:
    """A request to the URL that `url` is."""
    return Request(method, Url.parse(url), headers, content_length, body)
