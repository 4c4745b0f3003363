"""A registry that responds only to the expected requests of a test. Others fail the test."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.options import NetworkOptions
from crossdock.registry.repository import RegistryRepository

BLOB_TYPE = "application/vnd.oci.image.layer.v1.tar"


class PatientNetwork(NetworkOptions):
    """The options with no waits between tries."""

    __slots__ = ()

    def backoff_s(self, failures: int, chance: float | None = None) -> float:
        return 0.0


def content(size: int, seed: int = 0) -> bytes:
    """Bytes in which no two aligned blocks are equal, so that a wrong offset shows."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, n)).digest() for n in range(-(-size // 32)))
    return block[:size]


def describe(data: bytes, media_type: str = BLOB_TYPE, algorithm: str = "sha256") -> Descriptor:
    return Descriptor(media_type, Digest.of(data, algorithm), len(data))


@dataclass
class Answer:
    """``length`` None: the body's own; -1: no Content-Length, the end of the connection ends the body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    drop: bool = False  # close the connection after it, whatever was promised

    def encode(self, method: str) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        bodiless = self.status in (204, 304) or "transfer-encoding" in {name.lower() for name in self.headers}
        if self.length != -1 and not bodiless and "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head if method == "HEAD" else head + self.body


@dataclass
class Seen:
    """One request as the server got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    reader: asyncio.StreamReader | None = field(default=None, repr=False)
    unread: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def range(self) -> tuple[int, int] | None:
        """The requested range, half-open; it must be one closed range."""
        value = self.headers.get("range")
        if value is None:
            return None
        first, last = value.removeprefix("bytes=").split("-")
        return int(first), int(last) + 1

    async def read(self, count: int | None = None) -> bytes:
        """The next `count` bytes of the body, or all that are left."""
        assert self.reader is not None
        count = self.unread if count is None else min(count, self.unread)
        piece = await self.reader.readexactly(count)
        self.body += piece
        self.unread -= count
        return piece


Handler = Callable[[Seen], Awaitable[Answer | None]]
Connect = Callable[..., RegistryRepository]  # the fixture `connect`


class ScriptedRegistry:
    """Serves `handler`, or the expectations in their order. ``None`` from a handler drops the connection."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.problems: list[str] = []
        self.expected: list[tuple[str, str, Handler]] = []
        self.handler: Handler = self._by_script
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def expect(self, method: str, target: str, answer: Answer | Handler | None) -> None:
        """The next request must be this one. A plain answer reads the body first."""

        async def plain(seen: Seen) -> Answer | None:
            await seen.read()
            assert answer is None or isinstance(answer, Answer)
            return answer

        self.expected.append(
            (method, target, plain if answer is None or isinstance(answer, Answer) else answer)
        )

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        # Accepted sockets inherit it: what nobody reads must not vanish in the kernel's growing buffers.
        self._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()

    def check(self) -> None:
        """Nothing unexpected came, and everything expected did."""
        assert not self.problems, self.problems
        assert not self.expected, [entry[:2] for entry in self.expected]

    async def _by_script(self, seen: Seen) -> Answer | None:
        if not self.expected or self.expected[0][:2] != (seen.method, seen.target):
            due = self.expected[0][:2] if self.expected else "nothing"
            self.problems.append(f"{seen.method} {seen.target} came where {due} was expected")
            return Answer(599)
        return await self.expected.pop(0)[2](seen)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (seen := await self._next(reader)) is not None:
                self.seen.append(seen)
                try:
                    answer = await self.handler(seen)
                except (AssertionError, KeyError, ValueError) as error:
                    self.problems.append(f"{seen.method} {seen.target}: {error!r}")
                    answer = Answer(599)
                if answer is None:
                    writer.transport.abort()
                    return
                writer.write(answer.encode(seen.method))
                await writer.drain()
                if answer.drop or answer.length == -1:
                    return
                if seen.unread:  # refused early: take the rest away, as a server that lingers does
                    with suppress(asyncio.IncompleteReadError):
                        await reader.readexactly(seen.unread)
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> Seen | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method in ("POST", "PUT", "PATCH") and "content-length" not in headers:
            self.problems.append(f"{method} {target} has no Content-Length")  # U5
        return Seen(method, target, headers, reader=reader, unread=int(headers.get("content-length", "0")))


class Collector:
    """A `ByteSink` that keeps everything, in buffers of `room` bytes."""

    def __init__(self, room: int = 4096) -> None:
        self.data = bytearray()
        self._room = memoryview(bytearray(room))

    def get_buffer(self) -> memoryview | None:
        return self._room

    def received(self, count: int) -> None:
        self.data += self._room[:count]
