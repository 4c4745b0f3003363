"""Blob bodies through aiohttp at full speed: requests into files, files into responses.

Receiving: aiohttp returns a request's body in the pieces that the socket delivered. They are collected to
`BATCH` bytes and written and hashed in a thread, while the loop collects the next batch. At most one
batch is in the thread and one being collected, so an upload holds about 2 × `BATCH` of memory.

Sending: over plain HTTP the kernel copies the file to the socket (sendfile(2)), in a thread, because a
slow disk would block the loop. uvloop has no ``loop.sendfile``, hence our own. Over TLS the file is read in
pieces and written like any response.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import time
from collections.abc import Callable

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from crossdock.embedded.responses import Refused
from crossdock.listening import GIVEN_UP_AFTER
from crossdock.tasks import in_thread

log = logging.getLogger(__name__)

BATCH = 1 << 20  # bytes collected for one call in a thread
PIECE = 1 << 20  # bytes sent, or read where sendfile cannot be used, by one call
SEND_TURN = 0.05  # seconds of sendfile before the thread is released to other requests
BRIEFLY_MS = 5  # wait this long in the thread for a full socket, which avoids most turns of the loop
STALLED_AFTER = GIVEN_UP_AFTER  # seconds without progress: the peer read nothing, or sent less than `LEAST`
LEAST = 4096  # bytes; a sender at 1 kbit/s is still fast enough
DRAINED_AFTER = 10.0  # seconds to read the rest of a refused body
WHOLE_AFTER = 300.0  # seconds to read a body into memory


class PeerGone(ConnectionError):
    """The peer disconnected in the middle of a body, or was too slow (`STALLED_AFTER`, `Pieces`)."""


class Pieces:
    """The body of a request, piece by piece; the sender must keep a minimum rate.

    Each `LEAST` bytes must arrive within `STALLED_AFTER` seconds of waiting, so a sender cannot hold its
    connection with an occasional byte. Only time spent waiting for the sender counts, not a slow disk.
    """

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._start()

    def _start(self) -> None:
        self._missing = LEAST
        self._patience = STALLED_AFTER

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises TimeoutError and the errors of aiohttp's reader."""
        started = time.monotonic()
        async with asyncio.timeout(self._patience):
            piece = await self._content.readany()
        self._missing -= len(piece)
        if self._missing <= 0:
            self._start()
        else:
            self._patience -= time.monotonic() - started
        return piece


async def receive(request: web.Request, take: Callable[[list[bytes]], None]) -> None:
    """Pass the body of `request` to `take` in a thread, in order, in lists of pieces of about `BATCH` bytes.

    Returns when the last call of `take` has returned. Raises `PeerGone` if the body broke off (`take` got all
    bytes that arrived), and the errors of `take`.
    """
    under_way: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    size = 0
    broken: Exception | None = None
    pieces = Pieces(request)
    try:
        while True:
            try:
                piece = await pieces.next()
            except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
                broken = error
                break
            if not piece:
                break
            batch.append(piece)
            size += len(piece)
            if size >= BATCH:
                if under_way is not None:
                    await under_way
                under_way = asyncio.ensure_future(in_thread(take, batch))
                batch, size = [], 0
        if under_way is not None:
            await under_way
        if batch:
            await in_thread(take, batch)
    finally:
        if under_way is not None and not under_way.done():  # after an error above
            await asyncio.gather(under_way, return_exceptions=True)
    if broken is not None:
        raise PeerGone("the request's body broke off") from broken


async def receive_whole(request: web.Request, limit: int, what: str) -> bytes:
    """A body in memory. Raises `Refused` (413) if it is over `limit` bytes, `PeerGone` if it stalls."""
    too_large = Refused("SIZE_INVALID", f"{what} has at most {limit} bytes", status=413)
    if (request.content_length or 0) > limit:
        raise too_large
    data, pieces = bytearray(), Pieces(request)
    try:
        async with asyncio.timeout(WHOLE_AFTER):
            while piece := await pieces.next():
                data += piece
                if len(data) > limit:
                    raise too_large
            return bytes(data)
    except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
        raise PeerGone("the request's body broke off") from error


async def drain(request: web.Request) -> None:
    """Read and discard the rest of a body. Raises `PeerGone` if it stalls."""
    try:
        async with asyncio.timeout(DRAINED_AFTER):
            await request.release()
    except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
        raise PeerGone("the request's body broke off") from error


async def send_file(
    request: web.Request, response: web.StreamResponse, descriptor: int, start: int, stop: int
) -> None:
    """Send bytes ``start``..``stop`` of the open file. `response` has all its headers, with Content-Length.

    If the peer disconnects or the file was truncated, the connection is closed: after the head, a short body
    is the only way to report it.
    """
    writer = await response.prepare(request)
    transport = request.transport
    if writer is None or transport is None:
        return
    try:
        connection = transport.get_extra_info("socket")
        if connection is None or transport.get_extra_info("sslcontext") is not None:
            await _send_by_reading(response, descriptor, start, stop)
        else:
            # The head may still be in the transport's buffer, and must be sent before the body.
            _set_buffer(transport, 0)
            await writer.drain()
            await _send_by_kernel(_own_descriptor(transport, connection), descriptor, start, stop)
            _set_buffer(transport, None)
        await response.write_eof()
    except OSError as error:  # time-outs too
        log.debug("%s %s: %s", request.method, request.path, error)
        transport.abort()
    except BaseException:
        transport.abort()
        raise


async def _send_by_reading(response: web.StreamResponse, descriptor: int, start: int, stop: int) -> None:
    at = start
    while at < stop:
        piece = await in_thread(os.pread, descriptor, min(PIECE, stop - at), at)
        if not piece:
            raise PeerGone("the file was truncated while it was sent")
        async with asyncio.timeout(STALLED_AFTER):
            await response.write(piece)
        at += len(piece)


def _set_buffer(transport: asyncio.WriteTransport, high: int | None) -> None:
    if transport.is_closing():  # uvloop raises RuntimeError then
        raise ConnectionResetError("the connection is gone")
    transport.set_write_buffer_limits(high)


def _own_descriptor(transport: asyncio.WriteTransport, connection: socket.socket) -> int:
    """A duplicate, which stays valid when the transport closes and which the loop may watch."""
    if transport.is_closing():  # its descriptor may already belong to another connection
        raise ConnectionResetError("the connection is gone")
    return os.dup(connection.fileno())


async def _send_by_kernel(out: int, descriptor: int, start: int, stop: int) -> None:
    try:
        at = start
        while at < stop:
            at, full = await in_thread(_pump, out, descriptor, at, stop)
            if full:
                await _writable(out)
    finally:
        os.close(out)


def _pump(out: int, descriptor: int, at: int, stop: int) -> tuple[int, bool]:
    """Send from `at` for `SEND_TURN`. Returns the new offset, and whether the socket is full."""
    over = time.monotonic() + SEND_TURN
    waiter = select.poll()
    waiter.register(out, select.POLLOUT)
    while at < stop and time.monotonic() < over:
        try:
            sent = os.sendfile(out, descriptor, at, min(PIECE, stop - at))
        except BlockingIOError:
            if not waiter.poll(BRIEFLY_MS):
                return at, True
            continue
        if not sent:
            raise PeerGone("the file was truncated while it was sent")
        at += sent
    return at, False


async def _writable(out: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(out, wake)
    try:
        async with asyncio.timeout(STALLED_AFTER):
            await ready
    finally:
        loop.remove_writer(out)
