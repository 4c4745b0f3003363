"""Small requests, answered whole: one try over the transfer core.

No redirects, cookies or retries happen here. They share the pool of the blob bodies; the gate keeps them from
taking it over.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from crossdock.errors import InvalidInput, InvalidOption, LimitExceeded, ProtocolError
from crossdock.protocol.contentcoding import can_decode, coding_of, decoded, decoded_start, most_encoded
from crossdock.protocol.errorcode import MAX_BODY, one_line
from crossdock.registry.http.gate import Gates
from crossdock.registry.http.headers import HeaderView
from crossdock.transport.base import Exchange, Headers, HttpClientInterface, Request
from crossdock.transport.redact import redact_url

JOINED = (
    64 * 1024
)  # bytes of a body that leaves in one piece with its head; larger ones go by the kernel's pace

_SAID_BY_HEAD = frozenset({201, 202, 204})  # of an upload or a manifest: whatever becomes of the body


class Reply(Struct, frozen=True):
    """A small answer, whole in memory. ``url`` is where it finally came from, not redacted."""

    status: int
    headers: HeaderView  # a Location or a cookie may be a secret
    body: bytes
    url: str

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"


class ControlHttp:
    """The small requests of one host's clients."""

    def __init__(self, core: Callable[[], HttpClientInterface], gates: Gates) -> None:
        """`core` gives the transfer core when the first request is sent."""
        self._core = core
        self._gates = gates

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        limit: int,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """One request, one answer of any status. `timeout`: seconds until the answer begins. # network

        Waits for the host's gate first and tells it what came. Raises `ConnectFailed`, `TlsFailed`,
        `TimedOut`, `ReadFailed`, `WriteFailed`, `ProtocolError`, `LimitExceeded` (a body over `limit` bytes),
        `RateLimited` (the gate).
        """
        gate = self._gates.of(url)
        await gate.enter()
        try:
            reply = await self._exchange(method, url, headers, body, limit, timeout)
        except InvalidOption:  # a certificate, key or proxy that the person named
            raise
        except InvalidInput:  # an address or header value made from the server's words
            raise ProtocolError(
                f"{method} {redact_url(url)}: the server's words make no valid request", retryable=False
            ) from None
        finally:
            gate.leave()
        gate.saw(reply.status, reply.headers)
        return reply

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        limit: int,
        timeout: float | None,
    ) -> Reply:
        if body is None:
            exchange = await self._core().send(Request(method, url, headers))
        elif len(body) <= JOINED:
            exchange = await self._core().send(Request(method, url, headers, len(body), body))
        else:
            exchange = await self._core().send(Request(method, url, headers, len(body)))
        try:
            if body is not None and len(body) > JOINED:
                await exchange.write(memoryview(body))
            head = await exchange.response(timeout)
            answer = HeaderView(head.headers)
            # A proxy that may have changed the content says 203 for 200 (RFC 9110 15.3.4); digests tell.
            status = 200 if head.status == 203 else head.status
            return Reply(status, answer, await _read(exchange, method, status, answer, limit), url)
        except BaseException:
            exchange.close()
            raise


async def _read(exchange: Exchange, method: str, status: int, headers: HeaderView, limit: int) -> bytes:
    """The body without the coding that a proxy put on it; at most `limit` bytes, encoded or not."""
    coding = headers.get("content-encoding", "")  # nearly always none
    if coding:
        coding = coding_of(", ".join(headers.getall("content-encoding")))
    if status >= 400 or status in _SAID_BY_HEAD:  # the status counts, whatever the rest is
        return decoded_start(coding, await exchange.read_start(MAX_BODY), MAX_BODY)
    if not coding or method == "HEAD":
        return await exchange.read(limit)
    what = f"{method} {redact_url(exchange.url)}"
    if not can_decode(coding):
        raise ProtocolError(f"{what}: answered in {one_line(coding)} though identity was asked for")
    body = await exchange.read(most_encoded(limit))
    try:
        return decoded(coding, body, limit)
    except ProtocolError as error:
        raise ProtocolError(f"{what}: {error}") from None
    except LimitExceeded as error:
        raise LimitExceeded(f"{what}: {error}", limit=limit) from None
