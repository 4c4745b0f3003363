"""The journal of a run of copies: how far open uploads have got, so that a killed copy can resume them.

How one blob uses it::

    claim ──> UploadRecord.saved ── ask the registry ──> resume, or `opened` for a new session
                                                            │
              acknowledged, acknowledged, …  <──────────────┘   each before the next chunk is sent
                        │
              forget (the blob is there, or the session was dropped)   close (always, at the end)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from crossdock.errors import JournalUnavailable
from crossdock.kept.keeper import EXPIRY_S, Keeper, claimed

if TYPE_CHECKING:  # a protocol would add about 0.1 ms to every start
    from crossdock.kept.keeper import Lock
    from crossdock.kept.uploads import FinishedKind, SavedUpload, UploadKey, UploadRecord

    class Rows(Protocol):
        """The rows of a journal, as `database.JournalDatabase` has them. Raises `JournalUnavailable`."""

        def lock(self, key: UploadKey) -> Lock | None:
            """The right to read and write the row of `key`; None when another copy has it."""

        def read(self, key: UploadKey) -> SavedUpload | None:
            """The row of `key`; None when there is none."""

        def write(self, saved: SavedUpload) -> None:
            """Put the row."""

        def delete(self, key: UploadKey) -> None:
            """Remove the row."""

        def add_finished(
            self, run: str, kind: FinishedKind, target: str, digest: str, size: int, at: float
        ) -> None:
            """Note what was finished."""

        def prune(self, before: float) -> object:
            """Remove rows written before this time."""

        def close(self) -> None:
            """Close them. Safe to call twice."""


T = TypeVar("T")

RETRY_AFTER_S = 60.0  # a service outlives a full disk
BUSY_AT_MOST = 3  # calls in a row that failed because another process had the file locked


class Journal(Keeper):
    """A journal with the rows of `open_rows`, which the first `claim` calls: copies of small blobs need none.

    `clock` gives seconds since 1970.
    """

    def __init__(self, open_rows: Callable[[], Rows], *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(RETRY_AFTER_S)
        self._open_rows = open_rows
        self._run = os.urandom(8).hex()  # `secrets` would load hashlib's OpenSSL at every start
        self._database: Rows | None = None
        self._busy = 0
        self.now = clock

    @classmethod
    def at(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """The journal in a file of `folder`."""

        def open_rows() -> Rows:
            from crossdock.kept.database import JournalDatabase

            return JournalDatabase(folder)

        return cls(open_rows, clock=clock)

    def claim(self, target: str, digest: str, size: int, source: str) -> UploadRecord | None:
        """The record of a blob on its way to `target` (``host[:port]/repository``), for this copy alone.

        None: the journal is off, or another copy has the record. The blob is then uploaded in a session that
        cannot be resumed. The first call opens the file (some milliseconds; up to
        `sqlitefile.OPEN_TIMEOUT_S` when other processes lock it): run it in a thread.
        """
        self.open()
        return self.attempt(lambda: self._claim(target, digest, size, source))

    def finished(self, kind: FinishedKind, target: str, digest: str, size: int) -> None:
        """Note content brought to `target`, for ``crossdock state show``; ignored before a `claim`."""
        if self.is_open:
            line = (self._run, kind, target, digest, size, self.now())
            self.attempt(lambda: self.database.add_finished(*line))

    def attempt(self, action: Callable[[], T]) -> T | None:
        """As `Keeper.attempt`; a lock of another process switches the journal off when it lasts.

        The next write contains the row that was missed, and a registry that is ahead of its row is believed.
        """
        if not self.is_open:
            return None
        try:
            result = action()
        except JournalUnavailable as error:
            self._busy += 1
            if not error.busy or self._busy >= BUSY_AT_MOST:
                self.give_up(error)
            return None
        self._busy = 0
        return result

    @property
    def database(self) -> Rows:
        """The open rows. Raises `JournalUnavailable` when the journal is off."""
        if self._database is None:
            raise JournalUnavailable("the journal is off")
        return self._database

    def _open(self) -> None:
        database = self._open_rows()
        try:
            database.prune(self.now() - EXPIRY_S)
        except JournalUnavailable as error:
            if not error.busy:
                database.close()
                raise
        self._busy = 0
        self._database = database

    def _claim(self, target: str, digest: str, size: int, source: str) -> UploadRecord | None:
        from crossdock.kept.uploads import UploadKey, UploadRecord

        registry, _, repository = target.partition("/")
        key = UploadKey(registry, repository, digest)

        def read(lock: Lock) -> UploadRecord:
            saved = self.database.read(key)
            if saved is not None and (saved.size != size or saved.acknowledged > size):
                saved = None
            return UploadRecord(self, lock, key, size, source, saved)

        return claimed(self.database.lock(key), read)

    def _explain(self, error: OSError) -> JournalUnavailable:
        assert isinstance(error, JournalUnavailable)
        return error

    def _release(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
