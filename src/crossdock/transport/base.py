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
    """TLS settings for a host, for engines that cannot read everything from an `ssl.SSLContext`."""

    context: ssl.SSLContext
    client_pairs: tuple[tuple[Path, Path], ...] | None = None
    """The (certificate, key) files that `context` has loaded; empty: none; None: unknown."""
    entry: tuple[str, str] = ("", "")
    """File and entry of the inventory in which the certificate authority is set, for advice."""


TlsFor = Callable[[str, int], "ssl.SSLContext | TlsSettings"]
"""Gives the TLS settings for a host and port; a context alone stands for settings with unknown pairs.

Called once per origin and cached."""

ProxyFor = Callable[[str, str, int], str | None]
"""``(scheme, host, port)`` → the proxy's URL (``http://[user:password@]host:port``, or with https, socks5 or
socks5h), or None for a direct connection."""


ServedAt = Callable[[str, int], tuple[str, int] | None]
"""``(host, port)`` of a URL → the host and port to connect to instead, or None. TLS and requests still use
the names of the URL, as with curl's ``--connect-to``."""


CheckAddresses = Callable[[str, int, Sequence[str] | None], None]
"""``(host, port, addresses)``; raises `AddressRefused`. This is `options.AddressGuard.check` for one
registry."""


class Sink(Protocol):
    """Receives body bytes; structurally a `content.ByteSink`."""

    def get_buffer(self) -> memoryview | None:
        """Writable memory for the next bytes, never empty; None if full."""

    def received(self, count: int) -> None:
        """The first `count` bytes of the last buffer are filled."""


class Request(Struct, frozen=True):
    """One HTTP/1.1 request. ``Host``, ``User-Agent`` and the framing headers are added by the transport.

    ``content_length`` None means no body and no Content-Length header (GET, HEAD); 0 sends
    ``Content-Length: 0`` (U5). Above 0, exactly that many bytes must be given to `Exchange.write`, unless
    they are in ``body``, which is sent together with the head, and again if a kept connection turns out to be
    closed.
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
    headers: tuple[tuple[str, str], ...]  # a Location or cookie may contain a secret
    content_length: int | None = None  # None: chunked, or delimited by the end of the connection
    by_name: dict[str, str] = field(default_factory=dict)  # repeats joined by ", "
    chunked: bool = False  # Transfer-Encoding: chunked
    keep_alive: bool = True  # the server will keep the connection open

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"

    def get(self, name: str, default: str = "") -> str:
        """The header's value (name in lower case), repeats joined by ``, ``."""
        return self.by_name.get(name, default)


class Exchange(Protocol):
    """One request and its response on one connection. Must end with `read`, `receive` or `close`."""

    @property
    def url(self) -> Url:
        """The request's URL."""

    @property
    def authorization(self) -> str | None:
        """The request's ``Authorization``, which is a secret."""

    async def write(self, data: memoryview) -> None:
        """Send the next body bytes; returns when `data` may be reused.

        If the server responds before the body is complete, this stops and returns early with
        ``responded_early`` set; `response` returns the head. Raises `WriteFailed`, `TimedOut`.
        """

    @property
    def responded_early(self) -> bool:
        """The response's head came before the request's body was complete."""

    async def response(self, timeout: float | None = None) -> ResponseHead:
        """The final response's head (1xx are skipped).

        `timeout` seconds for the first byte, default the options' ``timeout``. Raises `ReadFailed`,
        `TimedOut` (phase ``first byte``, or ``commit`` for a request with a length and a `timeout`),
        `ProtocolError`.
        """

    async def receive(self, sink: Sink) -> int:
        """Deliver the whole body into `sink`; returns its length and releases the connection.

        Raises `ReadFailed` (the body ended early, which Content-Length or chunked framing always reveals),
        `TimedOut` (phase ``low speed``: under ``low_speed`` bytes per second over ``timeout`` seconds while
        the sink had room), `ProtocolError`.
        """

    async def read(self, limit: int) -> bytes:
        """Read the whole body, at most `limit` bytes (else `LimitExceeded`), and release the connection."""

    async def read_start(self, limit: int) -> bytes:
        """As many of the first `limit` body bytes as can be read, even if the rest fails.

        For responses whose status is what matters. Raises no transport errors. `read` then returns the same.
        """

    def resume(self) -> None:
        """The sink has room again."""

    def close(self) -> None:
        """End the exchange in any state. A connection with outstanding bytes is closed, an idle one is
        kept. Safe to call twice.
        """


class HttpClientInterface(Protocol):
    """Opens exchanges over pooled connections."""

    async def send(self, request: Request) -> Exchange:
        """Take or open a connection to the URL's origin and send the request's head.

        The head of a request with ``content_length`` bytes to be written leaves with the first of them.

        If a kept connection turns out to be closed before any byte of the response, it is replaced once by a
        new one, provided that the request has no body, or an idempotent method and a ``body``. Raises
        `ConnectFailed`, `TlsFailed`, `TimedOut`.
        """

    async def close(self) -> None:
        """Close every connection. Running exchanges fail with `ReadFailed`."""
