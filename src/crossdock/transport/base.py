"""The interface of the transfer core: a request, the head of its response, and the exchange between them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from crossdock.url import Url

Headers = Sequence[tuple[str, str]]


class TlsSettings(Struct, frozen=True):
    """How to talk TLS with a host, for engines that cannot read everything out of an `ssl.SSLContext`."""

    context: ssl.SSLContext
    client_pairs: tuple[tuple[Path, Path], ...] | None = None
    """The (certificate, key) files that `context` has loaded; empty: none; None: not known."""
    entry: tuple[str, str] = ("", "")
    """File and entry of the inventory where the certificate authority belongs, for advice."""


TlsFor = Callable[[str, int], "ssl.SSLContext | TlsSettings"]
"""Gives the TLS settings for a host and port; a context alone stands for settings with unknown pairs.

Called once per origin and cached."""

ProxyFor = Callable[[str, str, int], str | None]
"""``(scheme, host, port)`` → the proxy's URL (``http://[user:password@]host:port``, or with https, socks5 or
socks5h), or None: go direct."""


ServedAt = Callable[[str, int], tuple[str, int] | None]
"""``(host, port)`` of a URL → the host and port to connect to, or None: those. Names in TLS and in requests
stay those of the URL, as with curl's ``--connect-to``."""


CheckAddresses = Callable[[str, int, Sequence[str] | None], None]
"""``(host, port, addresses)``: raises `AddressRefused`; as `options.AddressGuard.check`, for one registry."""


class Sink(Protocol):
    """Where body bytes land; structurally `content.ByteSink`."""

    def get_buffer(self) -> memoryview | None:
        """Writable memory for the next bytes, never empty; None when full."""

    def received(self, count: int) -> None:
        """The first `count` bytes of the last buffer are filled."""


class Pipe(Protocol):
    """Bytes that stay in the kernel between two sockets; `transfer.splice` has them."""

    @property
    def room(self) -> int:
        """How many more bytes it takes."""

    def __len__(self) -> int:
        """How many bytes are in it."""

    def fill(self, socket: int, most: int) -> int:
        """Move up to `most` bytes here; 0: the socket has none now, or ``room`` became 0. Raises OSError."""

    def put(self, data: memoryview) -> int:
        """Copy the first bytes of `data` here; returns how many, fewer when ``room`` has become 0."""

    def drain(self, socket: int) -> int:
        """Move bytes into the socket; 0: it takes none now. Raises OSError."""

    def take(self, count: int) -> bytes:
        """Copy the first bytes out, `count` of them or all."""


class Request(Struct, frozen=True):
    """One HTTP/1.1 request. ``Host``, ``User-Agent`` and the framing headers are added by the transport.

    ``content_length`` None means no body and no Content-Length header (GET, HEAD); 0 sends
    ``Content-Length: 0`` (U5); above 0, exactly that many bytes must be given to `Exchange.write`, unless
    they are in ``body``: then they leave together with the head, and are sent again when a kept connection
    turns out closed.
    """

    method: str
    url: Url
    headers: Headers = ()  # may hold Authorization
    content_length: int | None = None
    body: bytes = b""  # small, whole

    def __repr__(self) -> str:
        return f"<Request {self.method}>"


class ResponseHead(Struct, frozen=True):
    """Status line and headers of a response. Header names are lower case; order and repeats are kept."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]  # a Location or a cookie may be a secret
    content_length: int | None = None  # None: chunked, or ends with the connection
    by_name: dict[str, str] = field(default_factory=dict)  # repeats joined by ", "
    chunked: bool = False  # Transfer-Encoding: chunked
    keep_alive: bool = True  # the server means to keep the connection open

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"

    def get(self, name: str, default: str = "") -> str:
        """The header's value (name in lower case), repeats joined by ``, ``."""
        return self.by_name.get(name, default)


class Exchange(Protocol):
    """One request and its response on one connection. Always ends in `read`, `receive` or `close`."""

    @property
    def url(self) -> Url:
        """The request's URL."""

    @property
    def is_plain(self) -> bool:
        """Whether bytes can go between pipes and its socket: no TLS is between."""

    @property
    def authorization(self) -> str | None:
        """The request's ``Authorization``. It is a secret."""

    async def write(self, data: memoryview | Pipe) -> None:
        """Send the next body bytes; returns when `data` may be reused, or the pipe is empty.

        When the server responds before the body is complete, writing stops and returns early with
        ``responded_early`` set: read the head by `response`. Raises `WriteFailed`, `TimedOut`.
        """

    @property
    def responded_early(self) -> bool:
        """The response's head came before the request's body was complete."""

    async def response(self, timeout: float | None = None) -> ResponseHead:
        """The final response's head (1xx are skipped). `timeout` seconds for the first byte, default the
        options' ``timeout``. Raises `ReadFailed`, `TimedOut` (phase ``first byte``, or ``commit`` when a
        request with a length was given a `timeout`), `ProtocolError`.
        """

    async def receive(self, sink: Sink) -> int:
        """Deliver the whole body into `sink`; returns its length and gives the connection back.

        A sink that has ``get_pipe`` as well gets bytes into pipes where that can be: it returns where the
        next bytes go, with room, or None for memory.

        Raises `ReadFailed` (ended early; with a Content-Length or chunked framing this is never taken for
        the end), `TimedOut` (phase ``low speed``: under ``low_speed`` bytes a second over ``timeout``
        seconds while the sink had room), `ProtocolError`.
        """

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes (`LimitExceeded` over it), and give the connection back."""

    async def read_start(self, limit: int) -> bytes:
        """What can be had of the first `limit` bytes of the body, whatever becomes of the rest.

        For responses whose status counts. Raises nothing of the transport. `read` then returns the same.
        """

    def resume(self) -> None:
        """The sink has room again."""

    def close(self) -> None:
        """End the exchange whatever its state. A connection with bytes outstanding is closed, an idle
        one kept. Safe to call twice.
        """


class HttpClientInterface(Protocol):
    """Opens exchanges over pooled connections."""

    async def send(self, request: Request) -> Exchange:
        """Take or open a connection to the URL's origin and send the request's head.

        A kept connection that turns out closed before any byte of the response came is replaced once by
        a new one when the request has no body, or an idempotent method and a ``body``. Raises
        `ConnectFailed`, `TlsFailed`, `TimedOut`.
        """

    async def close(self) -> None:
        """Close every connection. Exchanges under way fail with `ReadFailed`."""
