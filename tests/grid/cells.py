"""The fault grid as data: how crossdock behaves at each place, with each fault, on each side.

Each cell is one word, in the order of `PLACES`:

- ``read``: crossdock recovers if the fault occurs once. If it persists, the copy fails with this class of
  error (see `KINDS`) and leaves nothing behind.
- ``!unknown``: the copy fails with this class at the first occurrence.
- ``ok``: crossdock recovers even if the fault persists.
- ``-…``: does not apply, for the reason in `REASONS`.

docs/faults.md is generated from this table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from crossdock.errors import Side

PLACES = {
    "connect": "a connection, right after it was accepted",
    "TLS": "the TLS handshake",
    "request": "a request before its response: GET of a small blob, POST for an upload session",
    "head": "the head of that response",
    "first byte": "the request that carries the first byte of a large blob",
    "middle": "the request that carries the middle of the blob",
    "last byte": "the request that carries its last byte",
    "commit": "the response to the PUT that closes the upload",
    "manifest": "source: the GET of an image's manifest by digest; target: the response to its PUT",
    "tag": "source: resolving the tag; target: the PUT of the tagged manifest, before its body is complete",
}
IN_CHUNKS = ("first byte", "middle", "last byte", "commit")
SIDES: tuple[Side, ...] = ("source", "target")
FAULTS = {
    "drop": "the connection is closed",
    "reset": "the connection is reset",
    "stall": "the peer neither sends nor receives",
    "truncate": "fewer bytes than requested or sent, with framing that matches them",
    "flip a bit": "one bit of the content is flipped",
    "throttle": "one byte per second",
    "wrong length": "a Content-Length that differs from the body's",
    "wrong range": "a Content-Range, or an upload's Range, that differs from what was requested or sent",
    "200 for 206": "the whole blob instead of the requested range",
    "401": "unauthorized; the challenge names a token service that issues a token to anyone",
    "403": "forbidden; blobs of a source are refused by the storage behind a redirect, as after expiry",
    "404": "blob, manifest, repository or upload session unknown",
    "413": "content too large",
    "416": "range not satisfiable",
    "429": "too many requests, with a Retry-After that crossdock waits for",
    "500": "internal error",
    "502": "bad gateway",
    "503": "service unavailable",
    "redirect": "307 to another host with the same content",
    "no close_notify": "the connection is closed without TLS close_notify",
    "cancellation": "the caller cancels the copy at this place",
}

KINDS = {
    "read": "ReadFailed",
    "open": "ReadFailed|ConnectFailed",  # a reset may come before connect(2) has returned
    "write": "WriteFailed|ReadFailed",  # depends on the kernel's buffers
    "time": "TimedOut",
    "tls": "TlsFailed",
    "proto": "ProtocolError",
    "size": "SizeMismatch",
    "digest": "DigestMismatch",
    "json": "InvalidManifest",
    "auth": "Unauthorized",
    "denied": "Denied",
    "unknown": "NotFound",
    "rate": "RateLimited",
    "busy": "ServerBusy",
    "reject": "UploadRejected",
    "refuse": "RegistryError",
    "cancel": "Cancelled",
}
REASONS = {
    "-commit": "nothing is committed at a source",
    "-early": "no request has been sent that could get a response",
    "-bytes": "no content is transferred here",
    "-head": "a response starts with its head, which is the next place",
    "-length": "the response has no content whose length could be wrong",
    "-range": "no ranges are requested, sent or acknowledged here",
    "-small": "the request has no body that could be too large",
    "-plain": "TLS has not started",
    "-rate": "an idle connection or a request of one packet has no rate",
}


@dataclass(frozen=True)
class Fails:
    """The copy fails with this class of error: at once, or only if the fault persists."""

    kind: str  # of `crossdock.errors`; several with | between them
    at_once: bool


@dataclass(frozen=True)
class Recovers:
    """The copy is exact however often the fault occurs."""


@dataclass(frozen=True)
class NotApplicable:
    """This combination is impossible."""

    reason: str


Outcome = Fails | Recovers | NotApplicable


@dataclass(frozen=True)
class Cell:
    """One combination, and the expected behaviour."""

    place: str
    fault: str
    side: Side
    outcome: Outcome
    in_chunks: bool = False  # the large layer is uploaded in chunks, so that it can be resumed

    @property
    def way(self) -> str:
        """The side, and whether the blob is uploaded in chunks."""
        return f"{self.side} in chunks" if self.in_chunks else self.side

    def __str__(self) -> str:
        return f"{self.way}, {self.place}, {self.fault}"


#               connect  TLS      request  head     first    middle   last     commit   manifest tag
SOURCE = """
drop            read     tls      read     read     read     read     read     -commit  read     read
reset           open     tls      read     read     read     read     read     -commit  read     read
stall           time     time     time     time     time     time     time     -commit  time     time
truncate        -bytes   tls      -bytes   size     proto    proto    proto    -commit  size     json
flip a bit      -bytes   tls      -bytes   digest   digest   digest   digest   -commit  digest   -bytes
throttle        -rate    time     -rate    time     time     time     time     -commit  time     time
wrong length    -early   -early   -head    size     proto    proto    proto    -commit  size     ok
wrong range     -early   -early   -head    -range   proto    proto    proto    -commit  -range   -range
200 for 206     -early   -early   -head    -range   ok       ok       ok       -commit  -range   -range
401             -early   -early   -head    auth     auth     auth     auth     -commit  auth     auth
403             -early   -early   -head    !denied  !denied  denied   denied   -commit  !denied  denied
404             -early   -early   -head    !unknown !unknown !unknown !unknown -commit  !unknown unknown
413             -early   -early   -head    -small   -small   -small   -small   -commit  -small   -small
416             -early   -early   -head    -range   ok       ok       ok       -commit  -range   -range
429             -early   -early   -head    rate     rate     rate     rate     -commit  rate     rate
500             -early   -early   -head    busy     busy     busy     busy     -commit  busy     busy
502             -early   -early   -head    busy     busy     busy     busy     -commit  busy     busy
503             -early   -early   -head    busy     busy     busy     busy     -commit  busy     busy
redirect        -early   -early   -head    ok       ok       ok       ok       -commit  ok       ok
no close_notify -plain   tls      read     read     read     read     read     -commit  read     read
cancellation    !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  -commit  !cancel  !cancel
"""

TARGET = """
drop            read     tls      read     read     write    write    write    ok       ok       read
reset           open     tls      read     read     write    write    write    ok       ok       read
stall           time     time     time     time     time     time     time     ok       ok       time
truncate        -bytes   tls      -bytes   -bytes   reject   reject   reject   -bytes   refuse   refuse
flip a bit      -bytes   tls      -bytes   -bytes   reject   reject   reject   -bytes   refuse   refuse
throttle        -rate    time     -rate    time     time     time     time     ok       ok       time
wrong length    -early   -early   -head    ok       -length  -length  -length  ok       ok       ok
wrong range     -early   -early   -head    -range   -range   -range   -range   -range   -range   -range
200 for 206     -early   -early   -head    -range   -range   -range   -range   -range   -range   -range
401             -early   -early   -head    auth     auth     auth     auth     auth     auth     auth
403             -early   -early   -head    !denied  !denied  !denied  !denied  !denied  !denied  !denied
404             -early   -early   -head    !unknown unknown  unknown  unknown  unknown  !unknown !unknown
413             -early   -early   -head    -small   reject   reject   reject   reject   !refuse  !refuse
416             -early   -early   -head    -range   reject   reject   reject   reject   -range   -range
429             -early   -early   -head    rate     rate     rate     rate     rate     rate     rate
500             -early   -early   -head    busy     busy     busy     busy     busy     busy     busy
502             -early   -early   -head    busy     busy     busy     busy     busy     busy     busy
503             -early   -early   -head    busy     busy     busy     busy     busy     busy     busy
redirect        -early   -early   -head    ok       ok       ok       ok       ok       ok       ok
no close_notify -plain   tls      read     read     write    write    write    ok       ok       read
cancellation    !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  !cancel  !cancel
"""

#               first    middle   last     commit
TARGET_IN_CHUNKS = """
drop            write    write    write    ok
reset           write    write    write    ok
stall           time     time     time     ok
truncate        reject   ok       ok       -bytes
flip a bit      reject   reject   reject   -bytes
throttle        time     time     time     ok
wrong length    ok       ok       ok       ok
wrong range     ok       ok       ok       -range
200 for 206     -range   -range   -range   -range
401             auth     auth     auth     auth
403             !denied  !denied  !denied  !denied
404             unknown  unknown  unknown  unknown
413             !reject  !reject  !reject  !reject
416             reject   reject   reject   reject
429             rate     rate     rate     rate
500             busy     busy     busy     busy
502             busy     busy     busy     busy
503             busy     busy     busy     busy
redirect        ok       ok       ok       ok
no close_notify write    write    write    ok
cancellation    !cancel  !cancel  !cancel  !cancel
"""


def _read(table: str, side: Side, places: Collection[str]) -> Iterator[Cell]:
    for line in table.strip().splitlines():
        fault, *words = line.rsplit(maxsplit=len(places))
        for place, word in zip(places, words, strict=True):
            yield Cell(place, fault.strip(), side, _outcome(word), in_chunks=places is IN_CHUNKS)


def _outcome(word: str) -> Outcome:
    if word.startswith("-"):
        return NotApplicable(REASONS[word])
    if word == "ok":
        return Recovers()
    return Fails(KINDS[word.removeprefix("!")], word.startswith("!"))


CELLS = (
    *_read(SOURCE, "source", PLACES),
    *_read(TARGET, "target", PLACES),
    *_read(TARGET_IN_CHUNKS, "target", IN_CHUNKS),
)
