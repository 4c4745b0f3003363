"""Bytes between sockets and pipes, beside an event loop that owns the sockets.

An event loop does not offer splice(2), nor waits for its own sockets. So it keeps receiving and
sending, but only a few of the bytes in question: so it tells that a socket has more, takes more, or broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdock.errors import ReadFailed
from crossdock.transport.reason import os_reason

if TYPE_CHECKING:
    from crossdock.transport.base import Pipe

BESIDE = 4096  # bytes that pass through the loop


def fill(pipe: Pipe, socket: int, most: int) -> int:
    """As `Pipe.fill`. Raises `ReadFailed`."""
    try:
        return pipe.fill(socket, most)
    except OSError as error:
        raise ReadFailed(f"the connection broke in the body: {os_reason(error)}") from error


def drain(pipe: Pipe, socket: int) -> tuple[int, memoryview]:
    """Move bytes into the socket. Returns how many have left the pipe, and those that the loop has to send.

    It has to where the socket takes none.
    """
    try:
        count = pipe.drain(socket)
    except OSError:  # the loop finds out what it is
        count = 0
    if count:
        return count, memoryview(b"")
    block = memoryview(pipe.take(BESIDE))
    return len(block), block
