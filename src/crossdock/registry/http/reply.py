"""Responses: small ones whole in memory, others with a body that is still on its way."""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct

from crossdock.errors import LimitExceeded, ProtocolError, TransportError
from crossdock.protocol.contentcoding import can_decode, coding_of, decoded, decoded_start, most_encoded
from crossdock.protocol.errorcode import MAX_BODY, one_line
from crossdock.registry.http.headers import HeaderView
from crossdock.transport.base import Exchange, ResponseHead
from crossdock.url import Url

_SAID_BY_HEAD = frozenset({201, 202, 204})  # of an upload or a manifest: whatever becomes of the body


class Reply(Struct, frozen=True):
    """A response whose body is in memory."""

    status: int
    headers: HeaderView  # a Location or a cookie may be a secret
    body: bytes
    url: Url  # where it came from, after redirects

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"


class Stream(Struct, frozen=True):
    """A response whose body has not been read. ``exchange`` must be read or closed."""

    status: int
    headers: HeaderView
    url: Url
    head: ResponseHead
    exchange: Exchange

    def __repr__(self) -> str:
        return f"<Stream {self.status}>"

    async def discard(self) -> None:
        """Read the small body of a response that is of no use, so that its connection can be used again."""
        try:
            with suppress(TransportError, LimitExceeded):
                await self.exchange.read(MAX_BODY)
        finally:
            self.exchange.close()


async def read_body(exchange: Exchange, method: str, status: int, headers: HeaderView, limit: int) -> bytes:
    """The body without the coding that a proxy put on it; at most `limit` bytes, encoded or not.

    Of an error, and where the status says everything, what can be had of its start. Raises `ProtocolError`
    for a coding that cannot be decoded, `LimitExceeded`, and what the transport raises.
    """
    coding = headers.get("content-encoding", "")  # nearly always none
    if coding:
        coding = coding_of(", ".join(headers.getall("content-encoding")))
    if status >= 400 or status in _SAID_BY_HEAD:
        return decoded_start(coding, await exchange.read_start(MAX_BODY), MAX_BODY)
    if not coding or method == "HEAD":
        return await exchange.read(limit)
    if not can_decode(coding):
        raise ProtocolError(
            f"{method} {exchange.url}: the response is in {one_line(coding)} although identity was requested"
        )
    body = await exchange.read(most_encoded(limit))
    try:
        return decoded(coding, body, limit)
    except ProtocolError as error:
        raise ProtocolError(f"{method} {exchange.url}: {error}") from None
    except LimitExceeded as error:
        raise LimitExceeded(f"{method} {exchange.url}: {error}", limit=limit) from None
