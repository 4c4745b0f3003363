"""What a connection is doing, and what the kernel knows of its socket.

NEW (being set up) → IDLE → SENDING (request body incomplete) → HEAD (response awaited, or its head known and
its body not requested) → BODY → IDLE; CLOSED from everywhere. What was received of a response before the end,
head and buffered body, can still be read in CLOSED: peers that refuse an upload respond and reset.
"""

from __future__ import annotations

import array
import enum
import fcntl
import select
import socket


class State(enum.Enum):
    """What a connection is doing; see the top of the module."""

    NEW = "new"
    IDLE = "idle"
    SENDING = "sending"
    HEAD = "head"
    BODY = "body"
    CLOSED = "closed"


def silent(sock: socket.socket) -> bool:
    """Whether the socket holds nothing that the loop has not reported: neither bytes nor the end."""
    poll = select.poll()  # an exception, which `recv` would raise for good news, costs six times as much
    try:
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)
    except (OSError, ValueError):  # closed meanwhile
        return False


def unacknowledged(sock: socket.socket) -> int:
    """Bytes given to the kernel that the peer's kernel has not taken (tcp(7), SIOCOUTQ)."""
    import termios  # of connections that stall

    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return count[0]


def left_over(sock: socket.socket, memory: memoryview) -> int:
    """Receive bytes that the kernel still holds of a connection that is over; 0: no more are to be had."""
    try:
        return sock.recv_into(memory)
    except OSError:
        return 0
