"""One upload in the journal: its row as a value, and the record through which a copy writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from crossdock._kernels import Sha256
from crossdock.locks import number_of

if TYPE_CHECKING:
    from crossdock.kept.journal import Journal
    from crossdock.kept.keeper import Lock

SAVED_STATES = 8  # digest states at the last acknowledged offsets: the registry may hold less than it said
CHECK_SIZE = 16  # bytes of SHA-256; against damage, not against an enemy

_YEAR_10000 = 253_402_300_800.0  # seconds since 1970; datetime ends there

FinishedKind = Literal["blob", "manifest"]


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Which upload a row is about: that of a blob into one repository."""

    registry: str  # host[:port]
    repository: str
    digest: str

    @property
    def target(self) -> str:
        """``host:port/repository``."""
        return f"{self.registry}/{self.repository}"

    def number(self) -> int:
        """The number of the row's lock."""
        return number_of(self.registry, self.repository, self.digest)


@dataclass(frozen=True, slots=True)
class SavedUpload:
    """One upload session as it was after the target's last acknowledgement; columns of a row, in order."""

    key: UploadKey
    size: int  # of the whole blob, bytes
    source: str  # ``host:port/repository@digest`` the bytes came from; any source of the digest will do
    location: str = field(repr=False)  # the session's newest URL; its query may be the permission to write
    acknowledged: int  # bytes the target said it holds
    # Exported states of the digest, by rising offsets. Empty for digests that have none.
    states: Mapping[int, bytes] = field(repr=False)
    chunk_size: int  # bytes of one request
    trust_range: bool  # False: this registry's ``Range`` stands still (U9)
    created: float  # seconds since 1970
    updated: float
    pid: int  # of the process that wrote it; for people only, the lock says whether it is in use


class UploadRecord:
    """One blob's row, which no other copy uses until `close`. Calls take under 0.1 ms and raise nothing."""

    def __init__(
        self,
        journal: Journal,
        lock: Lock,
        key: UploadKey,
        size: int,
        source: str,
        saved: SavedUpload | None,
    ) -> None:
        self._journal = journal
        self._lock = lock
        self._key = key
        self._size = size
        self._source = source
        self._saved = saved
        self._is_written = saved is not None

    def __enter__(self) -> UploadRecord:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def saved(self) -> SavedUpload | None:
        """The row: at first as an earlier process left it, then as this one wrote it."""
        return self._saved

    @property
    def can_resume(self) -> bool:
        """Whether another process would find this upload: it is written, and the journal is still on."""
        return self._is_written and self._journal.is_open

    def opened(self, location: str, chunk_size: int, *, trust_range: bool = True) -> None:
        """A new session, which holds nothing yet, replaces the one in the row."""
        now = self._journal.now()
        self._write(
            SavedUpload(
                key=self._key,
                size=self._size,
                source=self._source,
                location=location,
                acknowledged=0,
                states={},
                chunk_size=chunk_size,
                trust_range=trust_range,
                created=now,
                updated=now,
                pid=os.getpid(),
            )
        )

    def acknowledged(
        self, offset: int, location: str, state: bytes | None, chunk_size: int, *, trust_range: bool = True
    ) -> None:
        """The target holds ``0..offset``. To be called before the next chunk is sent.

        `state` is the digest's state at `offset`; None when it has none, or none was taken there.
        """
        saved = self._saved
        assert saved is not None, "no session was opened or resumed"
        states = {at: kept for at, kept in saved.states.items() if at <= offset}  # an upload may go back
        if state is not None:
            states[offset] = state
        while len(states) > SAVED_STATES:
            del states[min(states)]
        self._write(
            replace(
                saved,
                source=self._source,
                location=location,
                acknowledged=offset,
                states=states,
                chunk_size=chunk_size,
                trust_range=trust_range,
                updated=self._journal.now(),
                pid=os.getpid(),
            )
        )

    def forget(self) -> None:
        """Nothing can be resumed: the target has the blob, or the session is gone."""
        self._saved = None
        if self._is_written:
            self._is_written = False
            self._journal.attempt(lambda: self._journal.database.delete(self._key))

    def close(self) -> None:
        """Let other copies use the row; it stays as it is. Safe to call twice."""
        self._lock.release()

    def _write(self, saved: SavedUpload) -> None:
        def write() -> bool:
            self._journal.database.write(saved)
            return True

        self._saved = saved
        self._is_written = self._journal.attempt(write) or self._is_written


# -- rows ------------------------------------------------------------------------------------------------


def to_row(saved: SavedUpload) -> tuple[Any, ...]:
    """The columns of `saved`, its check last. States are stored as they are, each behind its length."""
    key = saved.key
    fields = (
        *(key.registry, key.repository, key.digest, saved.size, saved.source, saved.location),
        saved.acknowledged,
        b"".join(bytes((len(state),)) + state for state in saved.states.values()),
        *(saved.chunk_size, int(saved.trust_range), saved.created, saved.updated, saved.pid),
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
    registry, repository, digest, size, source, location, acknowledged, packed, *rest = fields
    chunk_size, trust_range, *written = rest
    key, states = UploadKey(registry, repository, digest), dict(_states(packed, acknowledged))
    return SavedUpload(
        key, size, source, location, acknowledged, states, chunk_size, bool(trust_range), *written
    )


def _states(packed: bytes, acknowledged: int) -> Iterator[tuple[int, bytes]]:
    last = at = 0
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
            yield length, state


def _check(fields: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(repr(fields).encode("utf-8", "surrogatepass")).digest()[:CHECK_SIZE]


# -- finished content ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """Something that a run brought to a target. Such rows are for people alone and have no check."""

    run: str
    kind: FinishedKind
    target: str
    digest: str
    size: int
    at: float  # seconds since 1970

    @property
    def is_sound(self) -> bool:
        """Whether it can be shown; a damaged row may hold anything."""
        texts = all(isinstance(text, str) for text in (self.run, self.target, self.digest))
        numbers = isinstance(self.size, int) and isinstance(self.at, float) and 0 <= self.at < _YEAR_10000
        return texts and numbers and self.kind in ("blob", "manifest")
