"""The rows of the journal as values, and the check that keeps a damaged one from being used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from crossdock._kernels import Sha256
from crossdock.locks import number_of

KEPT_STATES = 8  # digest states at the last acknowledged offsets: the registry may hold less than it said
CHECK_SIZE = 16  # bytes of SHA-256; against damage, not against an enemy

_YEAR_10000 = 253_402_300_800.0  # seconds since 1970; datetime knows no later one

FinishedKind = Literal["blob", "manifest"]


@dataclass(frozen=True, slots=True, order=True)
class UploadKey:
    """What one row is about: a blob on its way into one repository."""

    registry: str  # host[:port]
    repository: str
    digest: str

    @property
    def target(self) -> str:
        """``host:port/repository``."""
        return f"{self.registry}/{self.repository}"

    def number(self) -> int:
        """A number of 62 bits that stands for the key; equal keys have equal ones."""
        return number_of(self.registry, self.repository, self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedUpload:
    """One upload session as it was after the target's last acknowledgement."""

    key: UploadKey
    size: int  # of the whole blob, bytes
    source: str  # ``host:port/repository@digest`` the bytes came from; any source of the digest will do
    location: str = field(repr=False)  # the session's newest URL; its query may be the permission to write
    acknowledged: int  # bytes the target said it holds
    # What `export_state` gave at rising offsets, the newest last. Empty for digests that have no state.
    states: tuple[bytes, ...] = field(default=(), repr=False)
    chunk_size: int  # bytes of one request
    trust_range: bool = True  # False: this registry's ``Range`` stands still (U9)
    created: float  # seconds since 1970
    updated: float
    pid: int  # who wrote it; for people only, the lock says who has it

    def offsets(self) -> tuple[int, ...]:
        """The offsets whose digest states are kept."""
        return tuple(Sha256(state).length for state in self.states)

    def nearest_state(self, offset: int) -> tuple[int, bytes | None]:
        """The last kept state at or before `offset`, behind its own offset; ``(0, None)`` without any."""
        for state in reversed(self.states):
            if (length := Sha256(state).length) <= offset:
                return length, state
        return 0, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Something that a run brought to a target."""

    run: str
    kind: FinishedKind
    target: str
    digest: str
    size: int
    at: float  # seconds since 1970


def to_row(saved: SavedUpload) -> tuple[Any, ...]:
    """The columns of `saved`, its check last. States are stored as they are, each behind its length."""
    states = b"".join(bytes((len(state),)) + state for state in saved.states)
    key = saved.key
    fields = (
        key.registry,
        key.repository,
        key.digest,
        saved.size,
        saved.source,
        saved.location,
        saved.acknowledged,
        states,
        saved.chunk_size,
        int(saved.trust_range),
        saved.created,
        saved.updated,
        saved.pid,
    )
    return *fields, _check(fields)


def from_row(row: tuple[Any, ...]) -> SavedUpload | None:
    """The value of a row; None when it is damaged or was not written by `to_row`.

    States that the present kernel does not take (another version) are left out: without any, the bytes before
    the offset must be read and hashed, but not sent, again.
    """
    *fields, check = row
    if check != _check(tuple(fields)):
        return None
    registry, repository, digest, size, source, location, acknowledged, states, *rest = fields
    chunk_size, trust_range, created, updated, pid = rest
    return SavedUpload(
        key=UploadKey(registry, repository, digest),
        size=size,
        source=source,
        location=location,
        acknowledged=acknowledged,
        states=tuple(_usable(states, acknowledged)),
        chunk_size=chunk_size,
        trust_range=bool(trust_range),
        created=created,
        updated=updated,
        pid=pid,
    )


def finished_from_row(row: tuple[Any, ...]) -> Finished | None:
    """The value of a row of finished content; None when it is damaged so that it cannot be shown.

    Such rows are for people alone and have no check.
    """
    run, kind, target, digest, size, at = row
    texts = all(isinstance(text, str) for text in (run, target, digest)) and kind in ("blob", "manifest")
    if not texts or not isinstance(size, int) or not isinstance(at, float) or not 0 <= at < _YEAR_10000:
        return None
    return Finished(run=run, kind=kind, target=target, digest=digest, size=size, at=at)


def _usable(packed: bytes, acknowledged: int) -> Iterable[bytes]:
    last = 0
    at = 0
    while at < len(packed):
        stop = at + 1 + packed[at]
        state = packed[at + 1 : stop]
        at = stop
        try:
            length = Sha256(state).length
        except ValueError:
            continue
        if last < length <= acknowledged:
            last = length
            yield state


def _check(fields: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(repr(fields).encode("utf-8", "surrogatepass")).digest()[:CHECK_SIZE]
