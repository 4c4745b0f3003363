"""The states of a connection, and the kernel's view of its socket.

NEW (being set up) → IDLE → SENDING (request body incomplete) → HEAD (response awaited, or its head known and
its body not requested) → BODY → IDLE; CLOSED from everywhere. Head and buffered body that arrived before the
end can still be read in CLOSED, since peers that refuse an upload respond and then reset the connection.
"""

from __future__ import annotations

import array
import enum
import fcntl
import select
import socket


class State(enum.Enum):
    """The state of a connection; see the top of the module."""

    NEW = "new"
    IDLE = "idle"
    SENDING = "sending"
    HEAD = "head"
    BODY = "body"
    CLOSED = "closed"


def silent(sock: socket.socket) -> bool:
    """Whether the socket has no event that the loop has not reported: neither bytes nor the end."""
    poll = select.poll()  # `recv` would raise in the usual case, which costs six times as much
    try:
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)
    except (OSError, ValueError):  # closed meanwhile
        return False


def unacknowledged(sock: socket.socket) -> int:
    """Bytes given to the kernel that the peer's kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    import termios  # only needed for connections that stall

    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return count[0]


def left_over(sock: socket.socket, memory: memoryview) -> int:
    """Receive bytes that the kernel still holds of a closed connection; 0: there are no more."""
    try:
        return sock.recv_into(memory)
    except OSError:
        return 0
