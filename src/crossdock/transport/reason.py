"""Why the operating system would not, in words that are the same under every event loop."""

from __future__ import annotations

import errno
import os
import socket

# The name service says that there is no address; any other code means that it could not tell.
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def os_reason(error: Exception) -> str:
    """The operating system's own words: "Connection refused", not asyncio's "Connect call failed (…)"."""
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def is_refused(error: Exception) -> bool:
    """Whether the port is closed."""
    return isinstance(error, OSError) and error.errno == errno.ECONNREFUSED


def is_unknown_name(error: Exception) -> bool:
    """Whether the name is certainly of no host: malformed, or not known to the name service (NXDOMAIN)."""
    return isinstance(error, UnicodeError) or (
        isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME
    )
