"""The fault grid as data: how crossdock behaves at each place, with each fault, on each side.

A word for each cell, in the order of `PLACES`:

- ``read``: the fault once is recovered from. If it never ends, the copy ends with this class of error (see
  `KINDS`), and nothing is left of it.
- ``!unknown``: the copy ends so at the first occurrence already.
- ``ok``: recovered from, even if the fault never ends.
- ``-…``: cannot apply, for the reason in `REASONS`.

docs/faults.md is this table for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from crossdock.errors import Side

PLACES = {
    "connect": "a connection that was accepted",
    "TLS": "the TLS handshake",
    "request": "a request whose answer has not begun: GET of a small blob, POST for an upload session",
    "head": "the head of its answer",
    "first byte": "of a large blob, in the request that carries it",
    "middle": "the same, amid the blob",
    "last byte": "the same, at its end",
    "commit": "the answer to the PUT that closes the upload",
    "manifest": "of an image, by digest; at the target, breaks are in the answer to its PUT",
    "tag": "source: resolving it; target: the PUT of what it names, breaks before all of it has come",
}
IN_CHUNKS = ("first byte", "middle", "last byte", "commit")
SIDES: tuple[Side, ...] = ("source", "target")
FAULTS = {
    "drop": "the connection ends in order",
    "reset": "the connection is reset",
    "stall": "nothing is sent or taken any more",
    "truncate": "less than was asked for or sent, framed as if it were all",
    "flip a bit": "one bit of the content is another",
    "throttle": "one byte a second",
    "wrong length": "a Content-Length that is not that of the body",
    "wrong range": "a Content-Range, or a Range of an upload, that is not what was asked or sent",
    "200 for 206": "everything, though a range was asked for",
    "401": "with a challenge to a token service that gives everybody a token",
    "403": "blobs of a source: from the storage that the registry sent us to, as for an expired URL",
    "404": "the blob, manifest, repository or upload session is unknown",
    "413": "too large",
    "416": "range not satisfiable",
    "429": "with Retry-After, which is waited for",
    "500": "internal error",
    "502": "bad gateway",
    "503": "service unavailable",
    "redirect": "307 to another host, which has what the first one has",
    "no close_notify": "over TLS, the connection ends without a word of TLS",
    "cancellation": "the caller cancels the copy there",
}

KINDS = {
    "read": "ReadFailed",
    "open": "ReadFailed|ConnectFailed",  # a reset may come before connect(2) has returned
    "write": "WriteFailed|ReadFailed",  # which one, the kernel's buffers decide
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
    "-commit": "a source commits nothing",
    "-early": "there is no request yet that could be answered",
    "-bytes": "no content passes here",
    "-head": "an answer begins with its head, which is the next place",
    "-length": "the answer has no content whose length could be wrong",
    "-range": "nothing is asked for, sent or acknowledged in ranges here",
    "-small": "the request carries nothing that could be too large",
    "-plain": "TLS has not begun",
    "-rate": "a connection alone, or a request of one packet, has no rate",
}


@dataclass(frozen=True)
class Fails:
    """The copy ends with an error of this class: at once, or only if the fault does not end."""

    kind: str  # of `crossdock.errors`; several with | between them
    at_once: bool


@dataclass(frozen=True)
class Recovers:
    """The copy is right to the byte, however often the fault happens."""


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
    in_chunks: bool = False  # the large layer goes up in chunks, as one does that can be resumed

    @property
    def way(self) -> str:
        """The side, or that of a blob in chunks."""
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
