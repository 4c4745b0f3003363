"""Other ends of the wire that a test needs besides `crossdock_testing.faultproxy`."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from crossdock_testing.faultproxy import FaultProxy

_PIECE = 64 * 1024


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news here."""


class SilentPort:
    """Accepts connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    @property
    def host(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Stop listening; the kernel resets what waited in the backlog."""
        self._listener.close()


def wait_set(event: threading.Event, what: str, timeout_s: float = 90.0) -> None:
    """Wait for the event; an `AssertionError` naming `what` when it never comes."""
    started = time.monotonic()
    if not event.wait(timeout_s):
        raise AssertionError(f"waited {time.monotonic() - started:.0f} s in vain for: {what}")


class Tunnel:
    """A forward proxy that knows CONNECT alone, and leads every tunnel to one place."""

    def __init__(self, upstream: str) -> None:
        self.asked: list[str] = []  # what each CONNECT named
        self.authorizations: list[str] = []  # each CONNECT's Proxy-Authorization
        host, _, port = upstream.rpartition(":")
        tunnel = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                """Silence."""

            def do_CONNECT(self) -> None:
                tunnel.asked.append(self.path)
                tunnel.authorizations.append(self.headers.get("Proxy-Authorization", ""))
                with socket.create_connection((host, int(port))) as onward:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=_pump, args=(onward, self.connection))
                    back.start()
                    _pump(self.connection, onward)
                    back.join()
                self.close_connection = True

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="tunnel")
        self._thread.start()

    @property
    def host(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening and break every tunnel."""
        self._server.shutdown()
        self._server.break_connections()
        self._server.server_close()
        self._thread.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def patience(proxy: FaultProxy, impatient: str) -> tuple[str, str]:
    """``--timeout`` for a copy through `proxy`: short where silence is planned, which has to be waited out.

    Else long: on a machine that is busy an answer may well take a second.
    """
    silent = any(
        fault.rate is not None
        or fault.head is not None  # which may promise more bytes than come
        or (fault.breaks is not None and fault.breaks.how == "stall")
        for fault in proxy.faults
    )
    return "--timeout", impatient if silent else "15s"
