"""One blob coming down: ranges of it, from the registry or from where the registry sends us.

Rules:

1. Redirects are followed here, one hop at a time, and only the registry's own origin sees ``Authorization``
   (R4). The final URL then serves every range (R5) until it expires or is refused; one task resolves it anew
   for all (R6).
2. Whatever a 206 says is compared with what was asked (R8). Two kinds of lies differ: a wrong place may be
   right the next time, a wrong total means another blob.
3. When ranges turn out to be unusable here (416 on a tiny blob, a compressed 206, several wrong ones), all
   later answers carry the whole blob; the caller sees that in ``Body.start`` and ``Body.stop``.
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
from crossdock.protocol.redirect import MAX_HOPS, REDIRECTS, next_hop
from crossdock.registry.blobs.expiry import refresh_after, server_time
from crossdock.transport.redact import redact_url

if TYPE_CHECKING:
    from crossdock.registry.blobs.decoding import DecodingSink
    from crossdock.registry.client import RegistryClient, Scope
    from crossdock.transport.base import Exchange, ResponseHead

WRONG_RANGES = 3  # wrong 206s in a row after which ranges are not asked for any more
_WHOLE = (200, 203)
_OVERFLOW = 4096  # bytes; where a body lands that goes on after its end
# What storage says when a signed URL ran out: 403 (S3, Azure, CloudFront), 401, or 400 (GCS: ExpiredToken).
_EXPIRED = frozenset({400, 401, 403})
_EXISTS = (200, 204, *sorted(REDIRECTS))
_EXISTS_OR_NOT = (*_EXISTS, 404)  # which is no error here, and need not be made one


async def blob_exists(client: RegistryClient, repository: str, descriptor: Descriptor, scope: Scope) -> bool:
    """Whether the repository has the blob, with the descriptor's size where the answer states one. # network

    A redirect is a yes: distribution redirects only to what it has, and its target is never asked, because
    storage answers 403 to a HEAD on a URL signed for GET (R3). A refusal is a no, since uploads may work all
    the same: storage, Nexus and narrow rights answer 400, 401, 403, 405 or 500. Raises `TransportError`,
    `RateLimited`, and `ServerBusy` for a server that asks to wait.
    """
    path = endpoints.blob(repository, descriptor.digest)
    # A 500 that stayed through all retries is not waited for again.
    ok = _EXISTS_OR_NOT if client.memory.answers_blob_head else (*_EXISTS_OR_NOT, 500)
    try:
        reply = await client.request("HEAD", path, scope=scope, ok=ok)
    except CrossdockError as error:
        if not was_refused(error):
            raise
        client.memory.answers_blob_head = client.memory.answers_blob_head and not error.__cause__
        return False
    if reply.status not in _EXISTS:
        return False
    stated = reply.headers.get("Content-Length", "").strip()
    if reply.status != 200 or coding_of(reply.headers.get("Content-Encoding", "")):
        return True
    return not stated.isdigit() or int(stated) == descriptor.size


class _Resolved(Struct, frozen=True):
    """Where ranges are read from."""

    url: str  # its query may be a permission
    is_authorized: bool  # the registry's own origin, which may see Authorization
    refresh_at: float | None  # on the loop's clock; None: no redirect, so nothing that runs out

    def __repr__(self) -> str:
        return f"<_Resolved is_authorized={self.is_authorized}>"


class RegistryBlob:
    """`content.BlobSource` of one blob in one repository."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        descriptor: Descriptor,
        scope: Scope,
        *,
        url: str = "",
    ) -> None:
        """`url` is where else the blob is (`foreign`); neither it nor its redirects see ``Authorization``."""
        self._client = client
        self._url = url
        self._path = endpoints.blob(repository, descriptor.digest)
        self._descriptor = descriptor
        self._scope = scope
        self._resolved: _Resolved | None = None
        self._resolving = asyncio.Lock()
        self._resolutions = 0  # begun so far
        self._unresolved: TransportError | None = None  # what ended the last one
        self._wrong = 0  # 206s in a row that were not what was asked
        self._ranges = True

    async def open(self, start: int, stop: int) -> RegistryBody:
        """Ask for ``start``..``stop``; returns when the head is checked. # network

        One call is one try; only what costs the caller nothing is mended here: an expired URL or token is
        replaced once, and ranges that cannot be had become one request for everything. Raises as
        `content.BlobSource.open` says.
        """
        size = self._descriptor.size
        if not (0 <= start < stop <= size or start == stop == size == 0):
            raise ValueError(f"{start}..{stop} is no range of {size} bytes")
        # The whole blob is asked for without Range: the answer is the same, and fewer things can differ.
        ranged = self._ranges and (start, stop) != (0, size)
        exchange, head, used = await self._answer(range_header(start, stop) if ranged else "")
        if ranged and await self._is_range_refused(exchange, head, used):
            self._ranges = False
            exchange, head, used = await self._answer("")
        try:
            return await self._checked(exchange, head, used, start, stop)
        except BaseException:
            exchange.close()
            raise

    # -- where from ----------------------------------------------------------------------------------

    async def _answer(self, wanted: str) -> tuple[Exchange, ResponseHead, _Resolved]:
        """The answer to ``Range: wanted``. A URL that ran out is replaced once, for all ranges (R6).

        One that redirects now is replaced as well: zot answers ranges itself and redirects plain requests.
        """
        exchange, head, used, is_fresh = await self._ask(wanted, None)
        ran_out = head.status in _EXPIRED and used.refresh_at is not None
        if not is_fresh and (ran_out or head.status in REDIRECTS):
            await _read_away(exchange)
            exchange, head, used, _ = await self._ask(wanted, used)
        return exchange, head, used

    async def _ask(
        self, wanted: str, refused: _Resolved | None
    ) -> tuple[Exchange, ResponseHead, _Resolved, bool]:
        """One answer, where from, and whether that was resolved just now. `refused` must not be asked."""
        resolved = self._resolved
        if resolved is None or resolved is refused or self._is_stale(resolved):
            begun = self._resolutions
            async with self._resolving:
                if self._resolved is resolved:
                    if self._unresolved is not None and self._resolutions > begun:
                        # Begun while we waited. Thirty tasks that time out one after the other take minutes.
                        raise self._unresolved
                    return *await self._resolve(wanted), True  # whose answer is this range's own
                resolved = self._resolved
                assert resolved is not None
        return *await self._fetch(resolved.url, resolved.is_authorized, wanted), resolved, False

    async def _resolve(self, wanted: str) -> tuple[Exchange, ResponseHead, _Resolved]:
        """Follow the registry's redirects to an answer, and remember where it came from if it is of use."""
        self._resolutions += 1
        try:
            resolved = await self._follow(wanted)
        except TransportError as error:
            self._unresolved = error
            raise
        self._unresolved = None
        return resolved

    async def _follow(self, wanted: str) -> tuple[Exchange, ResponseHead, _Resolved]:
        registry_url = await self._client.base_url()
        url, is_authorized, is_redirected = registry_url + self._path, True, False
        if self._url:
            url, is_authorized = self._elsewhere(url, registry_url), False
        for _ in range(MAX_HOPS + 1):
            exchange, head = await self._fetch(url, is_authorized, wanted)
            if head.status not in REDIRECTS:
                break
            await _read_away(exchange)
            try:
                hop = next_hop(
                    url, head.get("location"), registry_url=registry_url, inside=self._client.is_inside
                )
            except RedirectRefused as error:
                raise RedirectRefused(f"GET {redact_url(url)}: {error}") from None
            url, is_authorized, is_redirected = hop.url, hop.authorized and not self._url, True
        else:
            raise RedirectRefused(f"GET {redact_url(url)}: more than {MAX_HOPS} redirects for one blob")
        refresh_at = None
        if is_redirected:
            now = server_time(head.get("date"), time.time())
            refresh_at = asyncio.get_running_loop().time() + refresh_after(url, now)
        resolved = _Resolved(url, is_authorized, refresh_at)
        if head.status in (*_WHOLE, 206):
            self._resolved = resolved
        return exchange, head, resolved

    def _elsewhere(self, path: str, registry_url: str) -> str:
        """The layer's own URL, by the rules of redirects: the registry served the manifest that names it."""
        try:
            return next_hop(path, self._url, registry_url=registry_url).url
        except RedirectRefused as error:
            raise RedirectRefused(f"the layer's URL {redact_url(self._url)} is not asked: {error}") from None

    async def _fetch(self, url: str, is_authorized: bool, wanted: str) -> tuple[Exchange, ResponseHead]:
        headers = [("Accept-Encoding", "identity")]  # offsets have no meaning in encoded bytes (2.3)
        if wanted:
            headers.append(("Range", wanted))
        scope = self._scope if is_authorized else None
        return await self._client.fetch(  # network
            "GET", url, scope=scope, headers=headers, as_guest=not self._url
        )

    def _is_stale(self, resolved: _Resolved) -> bool:
        now = asyncio.get_running_loop().time()
        return resolved.refresh_at is not None and now >= resolved.refresh_at

    # -- what came -----------------------------------------------------------------------------------

    async def _is_range_refused(self, exchange: Exchange, head: ResponseHead, used: _Resolved) -> bool:
        """Whether the blob must be asked for again without a range (R2, R11). Then `exchange` is over."""
        if head.status == 206 and _encoding(head):
            exchange.close()  # unread: it may be large
            return True
        if head.status == 416 or (head.status == 400 and used.refresh_at is not None):
            await _read_away(exchange)
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
        """What the body of a whole answer must be freed from. The blob's own length says: nothing."""
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
            f"GET {redact_url(exchange.url)}: answered in {one_line(coding)} though identity was asked for",
            retryable=False,
            advice=Advice("turn-off-compression"),
        )

    def _check_range(self, url: str, head: ResponseHead, start: int, stop: int) -> None:
        """A 206 carries exactly what was asked of exactly this blob, or nothing of it is used (R8)."""
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
        length = "" if fits else f" and {'multipart' if is_multipart else head.content_length} bytes"
        raise ProtocolError(
            f"GET {redact_url(url)}: bytes {start}-{stop - 1} were asked for, "
            f"answered was {one_line(stated) or 'no Content-Range'}{length}",
            method="GET",
            url=redact_url(url),
        )

    def _other_size(self, stated: int, url: str) -> SizeMismatch:
        expected = self._descriptor.size
        return SizeMismatch(
            f"GET {redact_url(url)}: the source states {stated} bytes for {self._descriptor.digest}, "
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

        url, length = redact_url(self._exchange.url), self._head.content_length
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
        """A body that ends by its last chunk is the source's word; any other end may be an accident."""
        expected = self._stop - self._start
        url = redact_url(self._exchange.url)
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


async def _read_away(exchange: Exchange) -> None:
    """Take the small body of an answer that is of no use, so that its connection can be used again."""
    try:
        with suppress(TransportError, LimitExceeded):
            await exchange.read(MAX_BODY)
    finally:
        exchange.close()
