"""A port that never responds, and waits that fail with a message."""

from __future__ import annotations

import socket
import threading
import time

from crossdock_testing.faultproxy import FaultProxy


class SilentPort:
    """Accepts connections and never sends a byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    @property
    def host(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop listening; the kernel resets the connections in the backlog."""
        self._listener.close()


def wait_set(event: threading.Event, what: str, timeout_s: float = 90.0) -> None:
    """Wait for the event. Raises `AssertionError` naming `what` when it does not come."""
    started = time.monotonic()
    if not event.wait(timeout_s):
        raise AssertionError(f"waited {time.monotonic() - started:.0f} s in vain for: {what}")


def patience(proxy: FaultProxy, impatient: str) -> tuple[str, str]:
    """``--timeout`` for a copy through `proxy`: short where a fault is silence, which has to be waited out.

    Else long: on a busy machine a response may take a second.
    """
    silent = any(
        fault.rate is not None
        or fault.head is not None  # which may promise more bytes than it sends
        or (fault.breaks is not None and fault.breaks.how == "stall")
        for fault in proxy.faults
    )
    return "--timeout", impatient if silent else "15s"
