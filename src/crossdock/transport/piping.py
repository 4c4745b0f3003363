"""Moves bytes between pipes and sockets that an event loop owns.

Event loops neither offer splice(2) nor let others wait for their sockets. So the loop keeps receiving and
sending a small share of the bytes, which reports that a socket is readable or writable, or has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossdock.errors import ReadFailed
from crossdock.transport.reason import os_reason

if TYPE_CHECKING:
    from crossdock.transport.base import Pipe

BESIDE = 4096  # bytes that go through the loop


def fill(pipe: Pipe, socket: int, most: int) -> int:
    """As `Pipe.fill`. Raises `ReadFailed`."""
    try:
        return pipe.fill(socket, most)
    except OSError as error:
        raise ReadFailed(f"the connection broke in the body: {os_reason(error)}") from error


def drain(pipe: Pipe, socket: int) -> tuple[int, memoryview]:
    """Move bytes into the socket. Returns how many left the pipe, and the bytes that the loop has to send.

    The loop has to send some if the socket accepts none now.
    """
    try:
        count = pipe.drain(socket)
    except OSError:  # the loop will report the error
        count = 0
    if count:
        return count, memoryview(b"")
    block = memoryview(pipe.take(BESIDE))
    return len(block), block
