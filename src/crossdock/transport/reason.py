"""Reasons of the operating system's errors, worded the same under every event loop."""

from __future__ import annotations

import errno
import os
import socket

# The codes by which the name service says that there is no address; others mean that it does not know.
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def os_reason(error: Exception) -> str:
    """The operating system's own words: "Connection refused", not asyncio's "Connect call failed (…)"."""
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def is_refused(error: Exception) -> bool:
    """Whether the connection was refused: the port is closed."""
    return isinstance(error, OSError) and error.errno == errno.ECONNREFUSED


def is_unknown_name(error: Exception) -> bool:
    """Whether the host certainly does not exist: a malformed name, or NXDOMAIN."""
    return isinstance(error, UnicodeError) or (
        isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME
    )
