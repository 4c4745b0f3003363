"""One blob coming down: ranges of it, from the registry or from where the registry sends us.

Rules:

1. Only the registry's own origin sees ``Authorization`` (R4). The URL that a redirect leads to serves every
   range (R5) until it expires or is refused; one task resolves it anew for all (R6).
2. A 206 is compared with the request (R8). A wrong range may be right the next time; a wrong total means
   another blob.
3. When ranges turn out to be unusable here (416 on a tiny blob, a compressed 206, several wrong ones), all
   later responses carry the whole blob; the caller sees that in ``Body.start`` and ``Body.stop``.
4. What a proxy compressed is decoded (`decoding`), as one stream. 203 is what such a proxy says for 200; the
   digest tells whether it changed the content (RFC 9110 15.3.4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.content import ByteSink
from crossdock.errors import (
    Advice,
    CrossdockError,
    LimitExceeded,
    ProtocolError,
    ReadFailed,
    RedirectRefused,
    SizeMismatch,
    TransportError,
    was_refused,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.protocol import endpoints
from crossdock.protocol.byterange import parse_content_range, range_header, unsatisfied_total
from crossdock.protocol.contentcoding import AMBIGUOUS, can_decode, coding_of, decoded_start
from crossdock.protocol.errorcode import MAX_BODY, one_line
from crossdock.protocol.redirect import REDIRECTS, next_hop
from crossdock.redact import redact_url
from crossdock.registry.blobs.expiry import refresh_after, server_time

if TYPE_CHECKING:
    from crossdock.registry.blobs.decoding import DecodingSink
    from crossdock.registry.handle import Repository
    from crossdock.registry.http.reply import Stream
    from crossdock.transport.base import Exchange, Headers, ResponseHead
    from crossdock.url import Url

WRONG_RANGES = 3  # consecutive wrong 206s after which no ranges are requested
_WHOLE = (200, 203)
_IDENTITY = ("Accept-Encoding", "identity")  # offsets have no meaning in encoded bytes (2.3)
_OVERFLOW = 4096  # bytes; where bytes land that follow the end of a body
# What storage says when a signed URL ran out: 403 (S3, Azure, CloudFront), 401, or 400 (GCS: ExpiredToken).
_EXPIRED = frozenset({400, 401, 403})
_EXISTS = (200, 204, *sorted(REDIRECTS))
_EXISTS_OR_NOT = (*_EXISTS, 404)  # not an error here, so no error object is built


async def blob_exists(repository: Repository, descriptor: Descriptor) -> bool:
    """Whether the repository has the blob, with the descriptor's size where the answer states one. # network

    A redirect is a yes: distribution redirects only to what it has, and its target is never asked, because
    storage answers 403 to a HEAD on a URL signed for GET (R3). A refusal is a no, since uploads may work all
    the same: storage, Nexus and narrow rights answer 400, 401, 403, 405 or 500. Raises `TransportError`,
    `RateLimited`, and `ServerBusy` for a server that asks to wait.
    """
    memory, path = repository.memory, endpoints.blob(repository.path, descriptor.digest)
    # A 500 that stayed through all retries is not waited for again.
    ok = _EXISTS_OR_NOT if memory.answers_blob_head else (*_EXISTS_OR_NOT, 500)
    try:
        reply = await repository.request("HEAD", path, ok=ok)
    except CrossdockError as error:
        if not was_refused(error):
            raise
        if error.__cause__:
            memory.note("blob_head", False)
        return False
    if reply.status not in _EXISTS:
        return False
    stated = reply.headers.get("Content-Length", "").strip()
    if reply.status != 200 or coding_of(reply.headers.get("Content-Encoding", "")):
        return True
    return not stated.isdigit() or int(stated) == descriptor.size


class _Resolved(Struct, frozen=True):
    """The place that ranges are read from."""

    url: Url  # its query may be a permission
    is_authorized: bool  # the registry's own origin, which may see Authorization
    refresh_at: float | None  # on the loop's clock; None: no redirect, so nothing that runs out

    def __repr__(self) -> str:
        return f"<_Resolved is_authorized={self.is_authorized}>"


class RegistryBlob:
    """`content.BlobSource` of one blob in one repository."""

    def __init__(self, repository: Repository, descriptor: Descriptor, *, url: str = "") -> None:
        """`url` is where else the blob is (`foreign`); neither it nor its redirects see ``Authorization``."""
        self._client = repository.client
        self._memory = repository.memory if not url else None  # its URLs are of other hosts
        self._url = url
        self._path = endpoints.blob(repository.path, descriptor.digest)
        self._first: Url | None = None  # where the blob is, before redirects
        self._descriptor = descriptor
        self._scope = repository.scope
        self._resolved: _Resolved | None = None
        self._resolving = asyncio.Lock()
        self._resolutions = 0  # begun so far
        self._unresolved: TransportError | None = None  # what ended the last one
        self._wrong = 0  # consecutive 206s that did not match the request
        self._ranges = self._memory is None or self._memory.has_ranges

    async def open(self, start: int, stop: int) -> RegistryBody:
        """Ask for ``start``..``stop``; returns when the head is checked. # network

        One call is one try; only what costs the caller nothing is mended here: an expired URL or token is
        replaced once, and ranges that cannot be had become one request for everything. Raises as
        `content.BlobSource.open` says.
        """
        size = self._descriptor.size
        if not (0 <= start < stop <= size or start == stop == size == 0):
            raise ValueError(f"{start}..{stop} is no range of {size} bytes")
        # The whole blob is requested without Range: the response is the same, with fewer ways to differ.
        ranged = self._ranges and (start, stop) != (0, size)
        reply, used = await self._answer(range_header(start, stop) if ranged else "")
        if ranged and self._memory is not None and reply.status in (200, 206):
            self._memory.range_answered(whole=reply.status == 200)
        if ranged and await self._is_range_refused(reply, used):
            self._ranges = False
            reply, used = await self._answer("")
        try:
            return await self._checked(reply.exchange, reply.head, used, start, stop)
        except BaseException:
            reply.exchange.close()
            raise

    # -- where from ----------------------------------------------------------------------------------

    async def _answer(self, wanted: str) -> tuple[Stream, _Resolved]:
        """The response to ``Range: wanted``. A URL that ran out is replaced once, for all ranges (R6).

        One that redirects now is replaced as well: zot serves ranges itself and redirects plain requests.
        """
        reply, used, is_fresh = await self._ask(wanted, None)
        ran_out = reply.status in _EXPIRED and used.refresh_at is not None
        if not is_fresh and (ran_out or reply.status in REDIRECTS):
            await reply.discard()
            reply, used, _ = await self._ask(wanted, used)
        return reply, used

    async def _ask(self, wanted: str, refused: _Resolved | None) -> tuple[Stream, _Resolved, bool]:
        """A response, where from, and whether that was resolved just now. `refused` must not be used."""
        resolved = self._resolved
        if resolved is None or resolved is refused or self._is_stale(resolved):
            begun = self._resolutions
            async with self._resolving:
                if self._resolved is resolved:
                    if self._unresolved is not None and self._resolutions > begun:
                        # Begun while we waited. Thirty tasks that time out one after the other take minutes.
                        raise self._unresolved
                    return *await self._resolve(wanted), True  # whose response is this range's own
                resolved = self._resolved
                assert resolved is not None
        scope = self._scope if not self._url else None
        return (
            await self._client.open(resolved.url, scope=scope, headers=_headers(wanted), follow=False),
            resolved,
            False,
        )

    async def _resolve(self, wanted: str) -> tuple[Stream, _Resolved]:
        """Follow the registry's redirects to a response, and remember where it came from if it is of use."""
        self._resolutions += 1
        try:
            reply = await self._open(wanted)
        except TransportError as error:
            self._unresolved = error
            raise
        self._unresolved = None
        own = reply.url.origin == self._client.origin and not self._url
        refresh_at = None
        if reply.url != self._first:
            now = server_time(reply.head.get("date"), time.time())
            refresh_at = asyncio.get_running_loop().time() + refresh_after(reply.url, now)
        resolved = _Resolved(reply.url, own, refresh_at)
        if reply.status in (*_WHOLE, 206):
            self._resolved = resolved
        return reply, resolved

    async def _open(self, wanted: str) -> Stream:
        if self._first is None:
            blob = (await self._client.base_url()).with_target(self._path)
            self._first = self._elsewhere(blob) if self._url else blob
        scope = self._scope if not self._url else None
        return await self._client.open(self._first, scope=scope, headers=_headers(wanted))  # network

    def _elsewhere(self, blob: Url) -> Url:
        """The layer's own URL, by the rules of redirects: the registry served the manifest that names it."""
        try:
            return next_hop(blob, self._url, registry=blob.origin)
        except RedirectRefused as error:
            raise RedirectRefused(f"the layer's URL {redact_url(self._url)} is not used: {error}") from None

    def _is_stale(self, resolved: _Resolved) -> bool:
        now = asyncio.get_running_loop().time()
        return resolved.refresh_at is not None and now >= resolved.refresh_at

    # -- what came -----------------------------------------------------------------------------------

    async def _is_range_refused(self, reply: Stream, used: _Resolved) -> bool:
        """Whether the blob must be requested again without a range (R2, R11). Then `reply` is over."""
        head = reply.head
        if head.status == 206 and _encoding(head):
            reply.exchange.close()  # unread: it may be large
            return True
        if head.status == 416 or (head.status == 400 and used.refresh_at is not None):
            await reply.discard()
            total = unsatisfied_total(head.get("content-range"))
            if total is not None and total != self._descriptor.size:
                raise self._other_size(total, used.url)
            return True
        return False

    async def _checked(
        self, exchange: Exchange, head: ResponseHead, used: _Resolved, start: int, stop: int
    ) -> RegistryBody:
        size = self._descriptor.size
        if head.status == 206:
            self._check_range(exchange.url, head, start, stop)
            return RegistryBody(exchange, head, start, stop, self._descriptor)
        if head.status in _WHOLE:
            return RegistryBody(exchange, head, 0, size, self._descriptor, self._coding(exchange, head))
        text = b""
        if head.status >= 400:  # else it may be the layer's bytes, which belong in no message
            with suppress(TransportError, LimitExceeded):  # the status counts, whatever becomes of its text
                text = decoded_start(_encoding(head), await exchange.read(MAX_BODY), MAX_BODY)
        error = self._client.error_from(head.status, head.headers, text, "GET", exchange.url, self._scope)
        if not used.is_authorized:  # it never saw our credentials, so they are not what is wrong
            raise error.replace(advice=Advice("retry-elsewhere"))
        if head.status == 416:
            why = "the registry refuses a range of its own blob: it may not be RFC 7233 compliant"
            raise error.replace(advice=Advice("report", why))
        raise error

    def _coding(self, exchange: Exchange, head: ResponseHead) -> str:
        """The Content-Encoding to remove from a whole body; none if it has the blob's own length."""
        coding = _encoding(head)
        if head.content_length == self._descriptor.size:
            return coding if self._descriptor.size <= AMBIGUOUS and can_decode(coding) else ""
        if can_decode(coding):
            if not coding and head.content_length is not None:
                raise self._other_size(head.content_length, exchange.url)
            return coding
        if head.content_length is None:
            return ""
        raise ProtocolError(
            f"GET {exchange.url}: the response is in {one_line(coding)} although identity was requested",
            retryable=False,
            advice=Advice("turn-off-compression"),
        )

    def _check_range(self, url: Url, head: ResponseHead, start: int, stop: int) -> None:
        """A 206 must carry exactly the requested range of exactly this blob, or none of it is used (R8)."""
        stated = head.get("content-range")
        given = parse_content_range(stated)
        if given is not None and given.total not in (None, self._descriptor.size):
            raise self._other_size(given.total or 0, url)
        is_multipart = head.get("content-type").lower().startswith("multipart/")  # RFC 9110 section 14.6
        fits = head.content_length in (None, stop - start) and not is_multipart
        if given is not None and (given.start, given.stop) == (start, stop) and fits:
            self._wrong = 0
            return
        self._wrong += 1
        if self._wrong >= WRONG_RANGES:
            self._ranges = False
            if self._memory is not None:
                self._memory.note("ranges", "wrong")
        length = "" if fits else f" and {'multipart' if is_multipart else head.content_length} bytes"
        raise ProtocolError(
            f"GET {url}: requested bytes {start}-{stop - 1}, but the response has "
            f"{f'Content-Range {one_line(stated)}' if stated else 'no Content-Range'}{length}",
            method="GET",
            url=str(url),
        )

    def _other_size(self, stated: int, url: Url) -> SizeMismatch:
        expected = self._descriptor.size
        return SizeMismatch(
            f"GET {url}: the source states {stated} bytes for {self._descriptor.digest}, "
            f"its manifest {expected}",
            expected=expected,
            received=stated,
        )


class RegistryBody:
    """`content.Body`: one answer's bytes, counted, so that none is longer or shorter than it said."""

    def __init__(
        self,
        exchange: Exchange,
        head: ResponseHead,
        start: int,
        stop: int,
        descriptor: Descriptor,
        coding: str = "",
    ) -> None:
        """`coding` is what the bytes are to be freed from on their way to the sink."""
        self._exchange = exchange
        self._head = head
        self._start = start
        self._stop = stop
        self._descriptor = descriptor
        self._coding = coding
        self._decoding: DecodingSink | None = None

    @property
    def start(self) -> int:
        """First offset that will be delivered."""
        return self._start

    @property
    def stop(self) -> int:
        """Offset after the last byte that will be delivered."""
        return self._stop

    async def receive(self, sink: ByteSink) -> None:
        """Deliver every byte into `sink`. # network

        Raises `TransportError`, and `SizeMismatch` when the whole blob ends in order with another size.
        """
        expected = self._stop - self._start
        if self._head.content_length is None or self._coding:  # nothing but our own count ends it in time
            sink = _Exactly(sink, expected, self._mismatch)
        count = await (self._decode(sink) if self._coding else self._exchange.receive(sink))
        if count != expected:
            raise self._mismatch(count)

    async def _decode(self, sink: ByteSink) -> int:
        from crossdock.registry.blobs.decoding import DecodingSink  # few proxies compress layers

        url, length = str(self._exchange.url), self._head.content_length
        self._decoding = DecodingSink(sink, self._coding, self._descriptor, url, length)
        await self._exchange.receive(self._decoding)
        return await self._decoding.finish()

    def resume(self) -> None:
        """The sink has room again."""
        self._exchange.resume()
        if self._decoding is not None:
            self._decoding.resume()

    def close(self) -> None:
        """Give the body up. Safe to call twice and after the end."""
        self._exchange.close()
        if self._decoding is not None:
            self._decoding.close()

    def _mismatch(self, count: int) -> CrossdockError:
        """A body that ends with its last chunk is complete by the source's statement; any other end may be a
        fault."""
        expected = self._stop - self._start
        url = str(self._exchange.url)
        is_whole = expected == self._descriptor.size
        if is_whole and (count > expected or self._head.get("transfer-encoding") or self._coding):
            encoding = "" if self._coding else _encoding(self._head)
            return SizeMismatch(
                f"GET {url}: {count}{' or more' if count > expected else ''} bytes came of {expected}",
                advice=Advice("turn-off-compression", why=f"the source sends it compressed ({encoding})")
                if encoding
                else None,
                expected=expected,
                received=count,
            )
        return ReadFailed(f"GET {url}: {count} bytes came of {expected}", method="GET", url=url)


class _Exactly:
    """A sink that takes `expected` bytes and raises at the first one after them."""

    def __init__(self, sink: ByteSink, expected: int, error: Callable[[int], CrossdockError]) -> None:
        self._sink = sink
        self._expected = expected
        self._left = expected
        self._error = error

    def get_buffer(self) -> memoryview | None:
        if not self._left:
            return memoryview(bytearray(_OVERFLOW))
        room = self._sink.get_buffer()
        return room if room is None or len(room) <= self._left else room[: self._left]

    def received(self, count: int) -> None:
        if not self._left:
            raise self._error(self._expected + count)
        self._left -= count
        self._sink.received(count)


def _encoding(head: ResponseHead) -> str:
    """The content coding, empty for none."""
    return coding_of(head.get("content-encoding"))


def _headers(wanted: str) -> Headers:
    return (_IDENTITY, ("Range", wanted)) if wanted else (_IDENTITY,)
