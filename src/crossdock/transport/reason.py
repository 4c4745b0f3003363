"""Why the operating system would not, in words that are the same under every event loop."""

from __future__ import annotations

import os
import socket


def os_reason(error: Exception) -> str:
    """What the operating system says: "Connection refused", not asyncio's "Connect call failed (…)"."""
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
