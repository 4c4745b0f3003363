"""One blob going up, as a state machine without sockets.

Theory. A registry takes a blob in a *session*, in order (U16): POST opens it, then either one PUT
carries everything (monolithic), or PATCHes carry *chunks* and a closing PUT ends them. What is acknowledged
can be relied on only at the ends of chunks. After any failure there are four places to resume at, tried in
this order:

1. where the response says (a 4xx with ``Range``, spec "Pushing a blob in chunks"; U10),
2. where ``GET <location>`` says (U9; this also repairs a stale ``_state`` of distribution 3),
3. our own count of acknowledged bytes, when the refusal came before the body was looked at (413, 401, 429),
4. byte 0 of a new session.

And three ways to go up: monolithic, chunked, and in smaller chunks. A refusal of the way itself (405, 411,
413 …) changes the way and costs no try, nor does a redirect; anything else costs one of `retries`, which
progress gives back. Progress is more bytes acknowledged than ever before, so a session that is lost at one
place every time ends.

The caller performs `Upload.step`, reports what came of it, and looks at `Upload.step` again::

    Open ──opened──> Send … Send ──answered──> Done
                      ↑ │
                      │ └ answered / broken ─> Ask (GET the session) ─┐
                      │                        Look (HEAD the blob)  ─┤ asked / looked
                      └───────────────────────────────────────────────┘  or Open again

A session of an earlier process begins with ``take_up ──> Ask ──taken_up──> Send`` or Open.

Chunks end at multiples of the chunk size, whatever the offset they begin at: there the caller keeps the
states of the digest from which another process can resume. A slow feeder gets shorter ones
(`Upload.shorten`), which end at multiples of `Upload.boundary`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum, auto

from msgspec import Struct

from crossdock.errors import RedirectRefused
from crossdock.protocol.byterange import content_range_for_chunk, parse_uploaded
from crossdock.protocol.endpoints import commit_location
from crossdock.protocol.headers import HeaderLookup, number
from crossdock.protocol.redirect import MAX_HOPS, RESENT
from crossdock.protocol.resume import GoOn, StartAgain, resumption
from crossdock.url import Url

MiB = 1 << 20

DEFAULT_CHUNK = 64 * MiB  # U2; containers/image and regclient use far less and pay a round trip for each
SMALLEST_CHUNK = 4 * MiB  # U2: GHCR's limit, the smallest known; under it the refusal means something else
MOST_SHORTENED = 16  # times that a chunk may be cut in for a slow feeder
LEAST_PROGRESS = MiB  # of a request that failed, for it not to count as a failure; else a trickle never ends
MANY_BYTES = 32 * MiB  # a break after this much of one request looks like a limit on requests (U2)

SESSION_GONE = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
# One request for everything is refused as such. 400 was seen from Docker Hub, 416 from ACR (U2).
WAY_REFUSED = frozenset({400, 405, 411, 413, 415, 416, 417, 501})


class UploadRules(Struct, frozen=True, kw_only=True):
    """The rules for uploads to one registry, as far as they are known before the first request."""

    may_chunk: bool = True  # GHCR, GAR and GCR take no chunks (U4)
    chunked: bool = False  # begin with chunks
    may_put: bool = True  # False: one PUT for everything would be refused
    chunk_size: int = DEFAULT_CHUNK  # bytes
    trust_range: bool = True  # False: `Range` of a 2xx stands still though bytes were stored (ECR, U9)
    last_in_put: bool = False  # the last chunk travels in the closing PUT (U11)
    least_chunk: int = 0  # bytes of all chunks but the last
    most_chunk: int | None = None  # bytes of any request, if that is configured
    chunk_multiple: int = 1  # chunks end at multiples of it
    range_end: str = "last"  # as `registry.kinds.UploadFacts.range_end`
    bad_request: str = "codes"  # as `registry.kinds.UploadFacts.bad_request`


class Open(Struct, frozen=True):
    """POST for a new session."""


class Send(Struct, frozen=True):
    """One request with the blob's bytes ``start``..``stop``; ``final`` closes the session."""

    method: str
    url: Url  # its query may be the session's permission
    start: int
    stop: int
    final: bool
    headers: tuple[tuple[str, str], ...]


class Ask(Struct, frozen=True):
    """GET the session's state."""

    url: Url


class Look(Struct, frozen=True):
    """HEAD the blob: the closing PUT may have worked although its response did not say so (U6, U13)."""


class Done(Struct, frozen=True):
    """The target has the blob."""


Step = Open | Send | Ask | Look | Done


class Verdict(Enum):
    """The meaning of a response."""

    TAKEN = auto()  # it was done; continue with the next step
    AGAIN = auto()  # it failed in a way that the next steps mend
    REFUSED = auto()  # the upload is over; the response is the reason


class Upload:
    """The dialogue of one blob of `size` bytes.

    `resolve` turns ``(base URL, Location)`` into the URL to use, or raises when it must not be used.
    """

    def __init__(
        self,
        digest: str,
        size: int,
        rules: UploadRules,
        *,
        retries: int,
        resolve: Callable[[Url, str], Url] = Url.join,
    ) -> None:
        self.digest = digest
        self.size = size
        self.step: Step = Open()
        self.acknowledged = 0  # bytes that the target said it holds
        self.failures = 0  # in a row, without progress
        self.lost = False  # acknowledged bytes must be given again; the caller announces and clears it
        self.abandoned: list[Url] = []  # locations of sessions that were left open; the caller deletes them
        # What is learned on the way, for the next blob of this host.
        self.chunked = rules.chunked
        self.chunk_size = rules.chunk_size
        self._least_chunk = max(SMALLEST_CHUNK, rules.least_chunk)  # or OCI-Chunk-Min-Length, if that is more
        self._min_length = rules.least_chunk  # or that header
        self.trust_range = rules.trust_range
        self.put_refused = 0  # the status that refused one PUT for everything, 0 for none
        self.chunks_refused = False
        self.cut_chunk_lost = False  # with its whole session, as distribution 2 does (S2)
        self.chunk_lowered = False  # by a 413, or by a limit that the registry states
        self._rules = rules
        self._retries = retries
        self._resolve = resolve
        self._location: Url | None = None
        self._hops = 0  # redirects of the present `Send`
        self._best = 0
        self._renewed = False
        self._stated: int | None = None  # a 2xx's `Range` that differs from our count; being queried
        self._sent: Send | None = None  # the request that Ask and Look are about
        self._after_look: tuple[Verdict, Step] = (Verdict.TAKEN, Open())

    @property
    def location(self) -> Url | None:
        """The running session's newest URL."""
        return self._location

    @property
    def offset(self) -> int:
        """The offset of the next byte to send."""
        if isinstance(self.step, Send):
            return self.step.start
        return self.size if isinstance(self.step, Done) else 0

    @property
    def boundary(self) -> int | None:
        """Chunks end at multiples of this, except at the blob's end; None: one request for the whole blob."""
        if not self.chunked:
            return None
        size, multiple = self.chunk_size, self._rules.chunk_multiple
        least = max(MiB, self.chunk_size // MOST_SHORTENED)
        while size % (2 * multiple) == 0 and size // 2 >= least:
            size //= 2
        return size

    # -- a session of an earlier process ---------------------------------------------------------------

    def take_up(self, location: Url, acknowledged: int, chunk_size: int, *, trust_range: bool) -> None:
        """Resume a session, given its saved state; must be called before any other step."""
        self.chunked = True
        if self._rules.most_chunk is None:
            self.chunk_size = min(self.chunk_size, chunk_size)
        self.trust_range = self.trust_range and trust_range
        self.acknowledged = acknowledged
        self._location = location
        self.step = Ask(location)

    def taken_up(self, status: int, headers: HeaderLookup) -> GoOn | StartAgain:
        """The response to the `Ask` after `take_up`; status 0 when there was none. The caller announces."""
        trust, range_end = self.trust_range, self._rules.range_end
        found = resumption(
            self.acknowledged, self.size, status, headers, trust_range=trust, range_end=range_end
        )
        if isinstance(found, GoOn):
            self._follow(headers)
            self._acknowledge(found.offset)
        else:
            self._restart()
            self.lost = False
        return found

    def shorten(self, most: int) -> None:
        """Let the next chunk have no more than `most` bytes, or one `boundary` where that is more."""
        send, boundary = self.step, self.boundary
        if not isinstance(send, Send) or send.final or boundary is None:
            return
        stop = max((send.start + most) // boundary, send.start // boundary + 1) * boundary
        if send.start + self._min_length <= stop < send.stop:
            self._send_from(send.start, stop, send.url)

    # -- responses -------------------------------------------------------------------------------------

    def opened(self, headers: HeaderLookup, url: Url) -> None:
        """POST (or a mount that was turned into a session) was accepted with a ``Location``."""
        self._location = self._resolve(url, headers.get("location", ""))
        self._stated = None
        self.acknowledged = 0
        smallest, largest = number(headers, "oci-chunk-min-length"), number(headers, "oci-chunk-max-length")
        smallest = max(smallest, self._rules.least_chunk)
        if self._rules.most_chunk is not None:
            smallest = min(smallest, self._rules.most_chunk)
        self._least_chunk = max(SMALLEST_CHUNK, smallest)
        self._min_length = smallest
        self.chunk_size = max(self.chunk_size, smallest)
        if largest:
            # Less would take for ever; a registry that means it responds with 413, which ends the upload.
            largest = max(largest, MiB)
            self.chunk_lowered = self.chunk_lowered or largest < self.chunk_size
            self.chunk_size = min(self.chunk_size, largest)
            if self.size > largest and self._rules.may_chunk and not self.chunks_refused:
                self.chunked = True  # Cloudflare's registry says so before it responds with 413
        self._send_from(0)

    def posted(self) -> None:
        """A POST with the whole blob brought the blob's location (end-4b): there is nothing more to do."""
        self.step = Done()

    def answered(self, status: int, headers: HeaderLookup, sent: int, codes: Collection[str] = ()) -> Verdict:
        """The response to a `Send` of which `sent` bytes had been written."""
        send = self._current()
        if status in RESENT:
            return self._redirected(send, headers)
        if not 200 <= status < 300:
            return self._refused(send, status, headers, sent, codes)
        if sent < send.stop - send.start:  # it took what it cannot have seen
            return self._recover(send, sent)
        if send.final:  # 201, and 202 and 204 of some (U6)
            self.step = Done()
            return Verdict.TAKEN
        self._follow(headers)
        return self._chunk_taken(send, parse_uploaded(headers.get("range", "")))

    def broken(self, sent: int) -> Verdict:
        """A `Send` of which `sent` bytes had been written got no response."""
        return self._recover(self._current(), sent)

    def left(self) -> Verdict:
        """The caller gave up a `Send` of a chunk, having no more bytes for too long. Costs no try."""
        return self._ask(self._current())

    def asked(self, status: int, headers: HeaderLookup) -> Verdict:
        """The response to an `Ask`; status 0 when there was none."""
        assert self._sent is not None
        held = self._held(headers) if 200 <= status < 300 else None
        if self._stated is not None:
            return self._doubt_settled(self._sent, self._stated, held)
        if held is None:
            self.cut_chunk_lost = self.cut_chunk_lost or status == 404
            return self._restart()
        self._follow(headers)
        return self._go_to(self._sent, held)

    def looked(self, present: bool) -> Verdict:
        """The response to a `Look`."""
        if present:
            self.abandoned.clear()  # that session no longer exists
            self.step = Done()
            return Verdict.TAKEN
        verdict, self.step = self._after_look
        return verdict

    def _redirected(self, send: Send, headers: HeaderLookup) -> Verdict:
        """The same request again, elsewhere. Costs no try; `MAX_HOPS` bounds how many follow each other."""
        self._hops += 1
        if self._hops > MAX_HOPS:
            raise RedirectRefused(f"more than {MAX_HOPS} redirects")
        url = self._resolve(send.url, headers.get("location", ""))
        self.step = Send(send.method, url, send.start, send.stop, send.final, send.headers)
        return Verdict.AGAIN

    # -- a chunk was taken ---------------------------------------------------------------------------

    def _chunk_taken(self, send: Send, held: int | None) -> Verdict:
        """202, or 201 on ECR and 204 on others. `held` is what its ``Range`` says."""
        if held is None or held == send.stop or not self.trust_range:
            return self._acknowledge(send.stop)
        self._stated, self._sent = held, send
        self.step = Ask(self._session())
        return Verdict.TAKEN

    def _doubt_settled(self, send: Send, stated: int, held: int | None) -> Verdict:
        """Handle a 2xx whose offset differs from our count, after a query of the session."""
        self._stated = None
        if held is None or held == send.stop:
            return self._acknowledge(send.stop)
        if held == stated and held <= send.start:
            # Stood still twice while responses are 2xx: the bytes are stored (ECR, roadmap#2831). If they are
            # not, the next chunk gets 416 or the closing PUT refuses the digest: nothing wrong can be kept.
            self.trust_range = False
            return self._acknowledge(send.stop)
        return self._count_failure() or self._go_to(send, held)

    def _acknowledge(self, offset: int) -> Verdict:
        self.acknowledged = offset
        if offset > self._best:
            self._best = offset
            self.failures = 0
            self._renewed = False
        self._send_from(offset)
        return Verdict.TAKEN

    # -- a request failed ----------------------------------------------------------------------------

    def _refused(
        self, send: Send, status: int, headers: HeaderLookup, sent: int, codes: Collection[str]
    ) -> Verdict:
        whole = sent >= send.stop - send.start
        if "DIGEST_INVALID" in codes or status == 403:
            return Verdict.REFUSED
        if status == 401:
            return self._again_with_new_token(send)
        if status == 429:
            return self._count_failure() or self._again_from_acknowledged()
        if status == 413 and self.chunked:
            return self._smaller_chunks(send.stop - send.start)
        if status == 408 or (status >= 500 and status != 501):
            return self._recover(send, sent)
        return self._unless_present(send, whole, self._refused_for_cause(send, status, headers, codes))

    def _refused_for_cause(
        self, send: Send, status: int, headers: HeaderLookup, codes: Collection[str]
    ) -> Verdict:
        if self.failures and not self._best and self.chunked and self._rules.may_put and not self.put_refused:
            return self._other_way(status)  # it took no first chunk twice (Artifactory, Nexus: U3)
        if status == 400 and self._is_way_refused():
            return self._other_way(status)
        if not SESSION_GONE.isdisjoint(codes) or (status == 404 and not codes):
            return self._count_failure() or self._restart()
        if not self.chunked:
            return self._other_way(status) if status in WAY_REFUSED else Verdict.REFUSED
        held = self._held(headers)
        if held is not None and (status == 416 or headers.get("location", "")):
            self._follow(headers)
            return self._count_failure() or self._go_to(send, held)
        if status in (400, 416):
            return self._count_failure() or self._ask(send)
        if status in WAY_REFUSED:
            return self._other_way(status)
        return Verdict.REFUSED

    def _held(self, headers: HeaderLookup) -> int | None:
        return parse_uploaded(headers.get("range", ""), self._rules.range_end)

    def _is_way_refused(self) -> bool:
        """Whether a 400 to a whole blob refuses the way: always at some kinds, elsewhere the second time."""
        if self.chunked or not self._rules.may_chunk or self.chunks_refused:
            return False
        return self._rules.bad_request == "way" or (self.failures > 0 and not self._best)

    def _recover(self, send: Send, sent: int) -> Verdict:
        """The connection broke, the server failed, or it sent nonsense."""
        whole = sent >= send.stop - send.start
        if self._count_failure():
            verdict = Verdict.REFUSED
        elif self.chunked:
            verdict = self._ask(send)
        else:
            if sent >= MANY_BYTES and self._rules.may_chunk and not self.chunks_refused:
                self.chunked = True
            verdict = self._restart()
        return self._unless_present(send, whole, verdict)

    def _unless_present(self, send: Send, whole: bool, verdict: Verdict) -> Verdict:
        """Before a closing PUT that was sent completely is abandoned or repeated, check whether it worked."""
        if send.final and whole:
            self._after_look, self.step = (verdict, self.step), Look()
            return Verdict.AGAIN
        return verdict

    def _again_with_new_token(self, send: Send) -> Verdict:
        """401: the token ran out. A second one without progress means that tokens do not help."""
        if self._renewed:
            return Verdict.REFUSED
        self._renewed = True
        return self._again_from_acknowledged()

    def _again_from_acknowledged(self) -> Verdict:
        """Refused before the body was looked at. A whole PUT leaves its session in doubt."""
        if not self.chunked:
            return self._restart()
        self._send_from(self.acknowledged)
        return Verdict.AGAIN

    def _smaller_chunks(self, refused: int) -> Verdict:
        """413 to a chunk of `refused` bytes. Below the smallest size it is not the size that is refused."""
        if self.chunk_size <= self._least_chunk:
            return Verdict.REFUSED
        self._lower_chunk(refused)
        return self._again_from_acknowledged()

    def _lower_chunk(self, refused: int) -> None:
        """Halve until a chunk is smaller than the request that was over the limit (U2)."""
        while self.chunk_size >= refused and self.chunk_size > self._least_chunk:
            half = self.chunk_size // 2 // self._rules.chunk_multiple * self._rules.chunk_multiple
            self.chunk_size = max(self._least_chunk, half)
            self.chunk_lowered = True

    def _other_way(self, status: int) -> Verdict:
        """The target does not take a blob this way: monolithic ↔ chunked, each left at most once."""
        if self.chunked:
            self.chunks_refused = True
            most = self._rules.most_chunk
            if self.put_refused or (most is not None and self.size > most):
                return Verdict.REFUSED
        else:
            self.put_refused = status
            if self.chunks_refused or not self._rules.may_chunk:
                return Verdict.REFUSED
            if status == 413:
                self._lower_chunk(self.size)
        self.chunked = not self.chunked
        return self._restart()

    # -- where to resume -----------------------------------------------------------------------------

    def _ask(self, send: Send) -> Verdict:
        self._sent = send
        self.step = Ask(self._session())
        return Verdict.AGAIN

    def _go_to(self, send: Send, held: int) -> Verdict:
        """The target says that it holds `held` bytes. It cannot resume at 0, or beyond the bytes sent."""
        if not 0 < held <= send.stop:
            return self._restart()
        self.lost = self.lost or held < self.acknowledged
        progress = held > self._best and held >= min(self._best + LEAST_PROGRESS, send.stop)
        failures = 0 if progress else self.failures
        self._acknowledge(held)
        self.failures = failures
        return Verdict.AGAIN

    def _restart(self) -> Verdict:
        if self._location:  # even one reported as lost, since a proxy may have reported it
            self.abandoned.append(self._location)
        self.lost = self.lost or self.acknowledged > 0
        self.acknowledged = 0
        self._location = None
        self.step = Open()
        return Verdict.AGAIN

    def _send_from(self, offset: int, stop: int | None = None, url: Url | None = None) -> None:
        """The next `Send`; `url` is where it is known to be redirected to, if it is."""
        if url is None:
            self._hops = 0
        if stop is None:
            stop = self._chunk_end(offset) if self.chunked else self.size
        final = not self.chunked or offset == self.size or (self._rules.last_in_put and stop == self.size)
        headers = [("Content-Type", "application/octet-stream")]
        if self.chunked and offset < stop:
            headers.append(("Content-Range", content_range_for_chunk(offset, stop)))
        if url is None:
            url = commit_location(self._session(), self.digest) if final else self._session()
        self.step = Send("PUT" if final else "PATCH", url, offset, stop, final, tuple(headers))

    def _chunk_end(self, offset: int) -> int:
        end = (offset // self.chunk_size + 1) * self.chunk_size
        return min(max(end, offset + self._min_length), self.size)

    def _follow(self, headers: HeaderLookup) -> None:
        """Every response may move the session; the newest Location is the one to use (U7)."""
        if location := headers.get("location", ""):
            base = self.step.url if self._hops and isinstance(self.step, Send) else self._session()
            self._location = self._resolve(base, location)

    def _session(self) -> Url:
        assert self._location is not None, f"there is no session while the next step is {self.step}"
        return self._location

    def _count_failure(self) -> Verdict | None:
        self.failures += 1
        return Verdict.REFUSED if self.failures > self._retries else None

    def _current(self) -> Send:
        assert isinstance(self.step, Send), f"a response came while the next step was {self.step}"
        return self.step
