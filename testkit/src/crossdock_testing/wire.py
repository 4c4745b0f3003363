"""One end of an HTTP/1.1 connection for the fault proxy: bytes, TLS in memory, and every way to end it.

TLS runs over `ssl.MemoryBIO`, because a server with a TLS stream cannot send half a record, or a FIN without
close_notify. Requests are parsed strictly on purpose: a client with careless framing must fail its tests
here, not at a registry that parses it differently.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from crossdock.transport.state import unacknowledged

PIECE = 64 * 1024
MAX_HEAD = 64 * 1024
LINGER_S = 1.0  # time for a peer that is still sending to read our last bytes
TICK_S = 0.001  # between polls of the kernel's send queue

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_NAME}) ([\x21-\x7e]+) HTTP/1\.1")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([0-9]{3})(?: (.*))?")
_FIELD = re.compile(rf"({_NAME}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class BadRequest(Exception):
    """The client broke a rule of HTTP/1.1, which the message names."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or response; names of headers as they were sent."""

    first: str  # the method, or the status
    second: str  # the target, or the reason
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Every value of the header."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str:
        """The first value, or an empty string."""
        return next(iter(self.all(name)), "")

    @property
    def is_chunked(self) -> bool:
        """Whether the body is chunked."""
        return self.get("transfer-encoding").lower() == "chunked"

    @property
    def length(self) -> int | None:
        """The Content-Length, if any."""
        value = self.get("content-length")
        return int(value) if value else None


def parse_request(data: bytes) -> Head:
    """The head of a request. Raises `BadRequest` for anything that RFC 9112 forbids clients to send."""
    first, fields = _lines(data)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest(f"not a request line: {first[:80]!r}")
    head = Head(match[1], match[2], fields)
    if not re.match(r"/|https?://", head.second) or "#" in head.second:
        raise BadRequest("a target that is neither a path nor an absolute URL, or has a fragment")
    if len(head.all("host")) != 1:
        raise BadRequest(f"{len(head.all('host'))} Host headers")
    lengths, codings = head.all("content-length"), head.all("transfer-encoding")
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]+", value) for value in lengths):
        raise BadRequest(f"Content-Length: {', '.join(lengths)}")
    if codings and (lengths or [value.lower() for value in codings] != ["chunked"]):
        raise BadRequest(f"Transfer-Encoding: {', '.join(codings)}, {len(lengths)} Content-Length")
    if head.first in _WITH_BODY and not lengths and not codings:
        raise BadRequest(f"a {head.first} without Content-Length (RFC 9110 section 8.6)")
    if head.first not in _WITH_BODY and (head.length or codings):
        raise BadRequest(f"a {head.first} with a body")
    return head


def parse_answer(data: bytes) -> Head:
    """The head of a response."""
    first, fields = _lines(data)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise BadRequest(f"not a status line: {first[:80]!r}")
    return Head(match[1], match[2] or "", fields)


def _lines(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadRequest(f"not a header field: {line[:40]!r}")
        fields.append((match[1], match[2].rstrip(" \t")))
    return first, fields


class Wire:
    """A connection of asyncio streams, plain or TLS, with a buffer of bytes that were not read yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        writer.transport.set_write_buffer_limits(high=0)  # so drain() returns when the kernel has everything

    @property
    def buffered(self) -> bool:
        """Whether bytes wait to be read."""
        return bool(self._buffer)

    # -- TLS -----------------------------------------------------------------------------------------------

    async def hello(self) -> None:
        """Wait for the first bytes of the TLS handshake."""
        self._in.write(await self._reader.read(PIECE))

    async def accept_tls(
        self, context: ssl.SSLContext, send: Callable[[bytes], Awaitable[None]] | None = None
    ) -> None:
        """Do the handshake as the server. `send` may alter its bytes and sends them by `send_raw`.

        Raises `ssl.SSLError`, `ConnectionError`.
        """
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush(send)
                data = await self._reader.read(PIECE)
                if not data:
                    raise ConnectionResetError("the client left during the handshake") from None
                self._in.write(data)
        await self._flush(send)

    async def _flush(self, send: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        data = self._out.read()
        if data and send is not None:
            await send(data)
        else:
            await self.send_raw(data)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes below TLS. Returns when the kernel has them."""
        if data:
            self._writer.write(data)
        await self._writer.drain()

    # -- reading -------------------------------------------------------------------------------------------

    async def fill(self) -> bool:
        """Wait for more bytes. Returns False at the end."""
        data = await (self._reader.read(PIECE) if self._tls is None else self._decrypted(self._tls))
        self._buffer += data
        return bool(data)

    async def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        while True:
            try:
                return tls.read(PIECE)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                data = await self._reader.read(PIECE)
                if not data:
                    return b""
                self._in.write(data)

    async def is_ahead(self) -> bool:
        """Whether bytes, or the end, have arrived already."""
        if not self._buffer:
            filling = asyncio.ensure_future(self.fill())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            filling.cancel()
            await asyncio.wait((filling,))
            if not filling.cancelled():
                filling.result()
        return bool(self._buffer)

    async def until(self, separator: bytes, limit: int) -> bytes:
        """Everything up to and including `separator`; empty when the connection ends before the first byte.

        Raises `BadRequest` if it is not within `limit` bytes, `ConnectionResetError` at an early end.
        """
        searched = 0
        while (found := self._buffer.find(separator, max(0, searched - len(separator)))) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise BadRequest(f"no end of a line or head within {limit} bytes")
            if not await self.fill():
                if not self._buffer:
                    return b""
                raise ConnectionResetError("the peer left in the middle of a line")
        return self._take(found + len(separator))

    async def some(self, limit: int) -> bytes:
        """From 1 to `limit` bytes. Raises `ConnectionResetError` at the end."""
        if not self._buffer and not await self.fill():
            raise ConnectionResetError("the peer left in the middle of a body")
        return self._take(min(limit, PIECE, len(self._buffer)))

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The body that `head` frames, in pieces; without framing it is empty, see `rest`."""
        if head.is_chunked:
            while size := await self._chunk_size():
                async for piece in self._exactly(size):
                    yield piece
                if await self.until(b"\r\n", 2) != b"\r\n":
                    raise BadRequest("a chunk is longer than its size")
            while await self.until(b"\r\n", MAX_HEAD) != b"\r\n":
                pass  # trailers
        else:
            async for piece in self._exactly(head.length or 0):
                yield piece

    async def rest(self) -> AsyncIterator[bytes]:
        """Everything until the connection ends."""
        while self._buffer or await self.fill():
            yield self._take(min(PIECE, len(self._buffer)))

    async def _exactly(self, count: int) -> AsyncIterator[bytes]:
        while count:
            piece = await self.some(count)
            count -= len(piece)
            yield piece

    async def _chunk_size(self) -> int:
        line = (await self.until(b"\r\n", 100)).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", line):
            raise BadRequest(f"not a chunk size: {line!r}")
        return int(line, 16)

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    # -- writing and ending --------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send bytes. Returns when the kernel has them."""
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if self._tls is None:
                self._writer.write(piece)
            else:
                self._tls.write(piece)
            await self._flush()

    async def begin_record(self) -> None:
        """Over TLS: send an incomplete record. Nothing may be sent after it."""
        if self._tls is not None:
            self._tls.write(bytes(200))
            self._writer.write(self._out.read()[:-50])
            await self._writer.drain()

    async def close(self, *, notify: bool = True) -> None:
        """Send FIN, over TLS after close_notify if `notify`; then read for `LINGER_S`."""
        try:
            if self._tls is not None and notify:
                try:
                    self._tls.unwrap()
                except ssl.SSLError:
                    pass  # it waits for the peer's close_notify; ours is in the buffer
                await self._flush()
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await self._reader.read(PIECE):
                    pass
        except (OSError, TimeoutError):
            pass
        finally:
            self.drop()

    async def reset(self) -> None:
        """Send RST, after the peer's kernel has acknowledged everything."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        for _ in range(round(LINGER_S / TICK_S)):
            if not unacknowledged(sock):
                break
            await asyncio.sleep(TICK_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    def drop(self) -> None:
        """Close the socket."""
        self._writer.transport.abort()
