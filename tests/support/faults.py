"""A proxy before a registry that breaks exactly what a test names, exactly as often as it says.

One thread per connection, HTTP/1.1, no timing: every fault is tied to a request and a byte, not to a clock.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HeaderList = list[tuple[str, str]]

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "proxy-connection",
}
_PIECE = 64 * 1024


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    at: float = field(default_factory=time.monotonic)  # when, to tell whether a Retry-After was waited for

    @property
    def range(self) -> str:
        """The Range header, or an empty string."""
        return self.headers.get("range", "")

    def is_blob_get(self, digest: str = "") -> bool:
        """A GET of a blob (of this digest)."""
        return self.method == "GET" and "/blobs/" in self.path and digest in self.path

    def is_upload_body(self) -> bool:
        """A PUT or PATCH of an upload session that carries bytes."""
        carries = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        return self.method in ("PUT", "PATCH") and "/blobs/uploads/" in self.path and carries

    def is_upload_start(self) -> bool:
        """The POST that opens an upload session."""
        return self.method == "POST" and "/blobs/uploads/" in self.path


@dataclass
class Fault:
    """What to do to the next `times` requests that `match` (None: to all of them).

    Offsets of a body count from its first byte sent, `flip_at` and those of blobs from the blob's start.
    """

    match: Callable[[Seen], bool]
    times: int | None = 1
    answer: tuple[int, dict[str, str], bytes] | None = None  # say this instead of asking the registry
    reset: bool = False  # break the connection instead of answering
    strip_range: bool = False  # forward without Range: 200 and everything
    head: Callable[[int, HeaderList], tuple[int, HeaderList]] | None = None  # rewrite the answer's head
    truncate_at: int | None = None  # break the connection after so many bytes of this answer's body
    flip_at: int | None = None  # invert the byte at this offset of the blob
    stall_at: int | None = None  # send so many bytes of the body, then nothing until the proxy closes
    stall_before_answer: bool = False  # take the request and say nothing until the proxy closes
    reset_upload_at: int | None = None  # break the connection after so many bytes of the request's body
    stall_upload_at: int | None = None  # read so many bytes of the request's body, then nothing more
    pace: float | None = None  # bytes a second, request and answer bodies alike
    reached: threading.Event = field(default_factory=threading.Event)  # set when the fault happens
    after: Callable[[], None] | None = None  # called when the fault happens, before it does


class FaultProxy:
    """A running proxy; `host` is what a reference starts with, `seen` every request in order."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault proxy")
        self._thread.start()

    @property
    def host(self) -> str:
        """``host:port`` as it stands in references."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def add(self, fault: Fault) -> Fault:
        """Plan a fault; the first planned that matches a request and is not used up is applied."""
        with self.lock:
            self.faults.append(fault)
        return fault

    def choose(self, request: Seen) -> Fault | None:
        """Record the request and take the fault for it."""
        with self.lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times != 0 and fault.match(request):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def count(self, match: Callable[[Seen], bool]) -> int:
        """How many requests so far match."""
        with self.lock:
            return sum(match(request) for request in self.seen)

    def close(self) -> None:
        """Stop listening, end stalls and wait for every connection's thread."""
        self.closing.set()
        self._server.shutdown()
        self._server.break_connections()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    proxy: FaultProxy

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


class _Broken(Exception):
    """The connection is to be broken now, by a reset (the peer cannot take it for an end)."""


class _CutShort(_Broken):
    """The connection is to end now, politely: what was sent arrives, and nothing after it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Silence."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _CutShort:
            self.close_connection = True
        except _Broken:
            # SO_LINGER 0 makes close send RST: the peer sees a broken connection, not an end of body.
            with contextlib.suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        request = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        fault = self.server.proxy.choose(request) or Fault(lambda _: True)
        if fault.reset:
            self._happen(fault)
            raise _Broken
        if fault.stall_before_answer:
            self._happen(fault)
            self._stall()
        if fault.answer is not None:
            self._happen(fault)
            self._answer(*fault.answer)
        else:
            self._forward(request, fault)

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

    def _happen(self, fault: Fault) -> None:
        if fault.after is not None:
            fault.after()
        fault.reached.set()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.headers.get("Content-Length", "0") != "0":
            self.send_header("Connection", "close")  # the request's body was not read
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, request: Seen, fault: Fault) -> None:
        upstream = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP and not (fault.strip_range and name.lower() == "range"):
                    upstream.putheader(name, value)
            upstream.endheaders()
            for piece in self._request_body(fault):
                upstream.send(piece)
            with upstream.getresponse() as answer:
                self._relay(answer, fault)
        finally:
            upstream.close()

    def _request_body(self, fault: Fault) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Expect", "").lower() == "100-continue" and left:
            self.send_response_only(100)
            self.end_headers()
        taken = 0
        for limit, act in ((fault.reset_upload_at, self._break), (fault.stall_upload_at, self._stall)):
            if limit is not None and limit <= left:
                for piece in self._read(limit, fault.pace):
                    taken += len(piece)
                    yield piece
                self._happen(fault)
                act()
        yield from self._read(left - taken, fault.pace)

    def _break(self) -> None:
        raise _Broken

    def _cut_short(self) -> None:
        raise _CutShort

    def _stall(self) -> None:
        self.server.proxy.closing.wait(120)
        raise _Broken

    def _read(self, count: int, pace: float | None) -> Iterator[bytes]:
        while count:
            piece = self.rfile.read(min(count, _PIECE))
            if not piece:
                raise _Broken
            count -= len(piece)
            self._wait_for_pace(len(piece), pace)
            yield piece

    def _wait_for_pace(self, count: int, pace: float | None) -> None:
        if pace is not None and self.server.proxy.closing.wait(count / pace):
            raise _Broken

    def _relay(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        status = answer.status
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP]
        if fault.head is not None:
            self._happen(fault)
            status, headers = fault.head(status, headers)
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        bodyless = self.command == "HEAD" or status in (204, 304)
        if not bodyless and not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not bodyless:
            self._relay_body(answer, fault)

    def _relay_body(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        match = re.match(r"bytes (\d+)-", answer.getheader("Content-Range") or "")
        start = int(match[1]) if match else 0
        sent = 0
        while piece := bytearray(answer.read(_PIECE)):
            if fault.flip_at is not None and start + sent <= fault.flip_at < start + sent + len(piece):
                piece[fault.flip_at - start - sent] ^= 0xFF
                self._happen(fault)
            for limit, act in ((fault.truncate_at, self._cut_short), (fault.stall_at, self._stall)):
                if limit is not None and sent + len(piece) > limit:
                    self.wfile.write(piece[: limit - sent])
                    self._happen(fault)
                    act()
            self._wait_for_pace(len(piece), fault.pace)
            self.wfile.write(piece)
            sent += len(piece)


def retry_after(seconds: int, status: int = 429) -> tuple[int, dict[str, str], bytes]:
    """An answer that asks to come back later."""
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
    return status, {"Content-Type": "application/json", "Retry-After": str(seconds)}, body


def busy(status: int = 503) -> tuple[int, dict[str, str], bytes]:
    """An answer of a server that is not up to it now."""
    return status, {"Content-Type": "text/plain"}, b"try again"


def set_header(name: str, value: str, status: int | None = None) -> Callable[[int, HeaderList], Any]:
    """A `Fault.head` that replaces one header (and the status)."""

    def rewrite(was: int, headers: HeaderList) -> tuple[int, HeaderList]:
        kept = [(k, v) for k, v in headers if k.lower() != name.lower()]
        return status or was, [*kept, (name, value)]

    return rewrite


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


def wait_set(event: threading.Event, what: str, timeout_s: float = 30.0) -> None:
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
