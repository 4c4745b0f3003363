"""What a copy asks of the journal. Nothing here fails a copy: at the first trouble the journal is left alone.

How one blob uses it::

    claim ──> UploadRecord.saved ── ask the registry ──> go on, or `opened` a new session
                                                            │
              acknowledged, acknowledged, …  <──────────────┘   each before the next chunk is sent
                        │
              forget (the blob is there, or the session was dropped)   close (always, at the end)
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from crossdock.errors import JournalUnavailable
from crossdock.journal.database import JournalDatabase
from crossdock.journal.records import KEPT_STATES, Finished, FinishedKind, SavedUpload, UploadKey
from crossdock.locks import BlobLock

T = TypeVar("T")

EXPIRY_S = 7 * 24 * 3600.0  # distribution removes sessions after 168 h (configuration, uploadpurging.age)
BUSY_AT_MOST = 3  # writes in a row that a lock of another process kept from happening


class Journal:
    """The journal of one copy, in `folder`; None switches it off.

    The file is opened by the first `claim`: copies of small blobs never touch it. `warn` is called at most
    once, with what is wrong, in the thread of the call that found it. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        folder: Path | None,
        warn: Callable[[JournalUnavailable], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._warn = warn
        self._clock = clock
        self._run = secrets.token_hex(8)
        self._guard = threading.Lock()
        self._database: JournalDatabase | None = None
        self._busy = 0

    @property
    def is_on(self) -> bool:
        """Whether what is recorded now can be found again."""
        return self._folder is not None

    def claim(self, key: UploadKey, size: int, source: str) -> UploadRecord | None:
        """The row of `key` for this copy alone. None: the journal is off, or another copy has the row.

        With None the blob is uploaded all the same, in a session of its own, and cannot be resumed. The first
        call opens the file (some milliseconds; up to `OPEN_TIMEOUT_S` when others lock it): run it in a
        thread.
        """
        self.open()
        return self.attempt(lambda: self._claim(key, size, source))

    def open(self) -> None:
        """Open the file now, to find out whether it can be used. Blocks as `claim` does."""
        with self._guard:
            if self._folder is not None and self._database is None:
                self._database = self.attempt(self._open)

    def finished(self, kind: FinishedKind, target: str, digest: str, size: int) -> None:
        """Note what this copy brought to `target`, for `crossdock state show`; nothing before a `claim`."""
        if self._database is not None:
            done = Finished(
                run=self._run, kind=kind, target=target, digest=digest, size=size, at=self._clock()
            )
            self.attempt(lambda: self.database.add_finished(done))

    def close(self) -> None:
        """Give the file back; rows stay. Safe to call twice."""
        self._folder = None
        database, self._database = self._database, None
        if database is not None:
            database.close()

    # -- for UploadRecord --------------------------------------------------------------------------------

    @property
    def database(self) -> JournalDatabase:
        """The open file. Raises `JournalUnavailable` when there is none."""
        if self._database is None:
            raise JournalUnavailable("the journal is off")
        return self._database

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Do `action`; None when the journal is off or goes off with it.

        A row that a lock of another process kept from being written is not yet trouble: the next one holds
        everything, and a registry that is ahead of its row is believed.
        """
        if self._folder is None:
            return None
        try:
            result = action()
        except JournalUnavailable as error:
            self._busy += 1
            if self._database is None or not error.busy or self._busy >= BUSY_AT_MOST:
                self._give_up(error)
            return None
        self._busy = 0
        return result

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    def _open(self) -> JournalDatabase:
        assert self._folder is not None
        database = JournalDatabase(self._folder)
        try:
            database.prune(self._clock() - EXPIRY_S)
        except JournalUnavailable as error:
            if not error.busy:
                database.close()
                raise
        return database

    def _claim(self, key: UploadKey, size: int, source: str) -> UploadRecord | None:
        lock = self.database.lock(key)
        if lock is None:
            return None
        try:
            saved = self.database.read(key)
        except BaseException:
            lock.release()
            raise
        if saved is not None and (saved.size != size or saved.acknowledged > size):
            saved = None
        return UploadRecord(self, lock, key, size, source, saved)

    def _give_up(self, error: JournalUnavailable) -> None:
        if self.is_on:
            self.close()
            self._warn(error)


class UploadRecord:
    """One blob's row, which nobody else writes until `close`. Calls take under 0.1 ms and raise nothing."""

    def __init__(
        self,
        journal: Journal,
        lock: BlobLock,
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
        self._states = {} if saved is None else dict(zip(saved.offsets(), saved.states, strict=True))
        self._is_written = saved is not None

    def __enter__(self) -> UploadRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def saved(self) -> SavedUpload | None:
        """What the row says: at first what an earlier process left, then what this one wrote."""
        return self._saved

    @property
    def can_resume(self) -> bool:
        """Whether another process would find this upload: it is written, and the journal is still on."""
        return self._is_written and self._journal.is_on

    def opened(self, location: str, chunk_size: int, *, trust_range: bool = True) -> None:
        """A new session holds nothing yet; what the row said before is over."""
        now = self._journal.now()
        self._states = {}
        self._write(
            SavedUpload(
                key=self._key,
                size=self._size,
                source=self._source,
                location=location,
                acknowledged=0,
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
        assert self._saved is not None, "no session was opened or taken up"
        self._states = {at: kept for at, kept in self._states.items() if at <= offset}  # it may go back
        if state is not None:
            self._states[offset] = state
        while len(self._states) > KEPT_STATES:
            del self._states[min(self._states)]
        self._write(
            replace(
                self._saved,
                source=self._source,
                location=location,
                acknowledged=offset,
                states=tuple(self._states[at] for at in sorted(self._states)),
                chunk_size=chunk_size,
                trust_range=trust_range,
                updated=self._journal.now(),
                pid=os.getpid(),
            )
        )

    def forget(self) -> None:
        """The blob is there, or its session is not: nothing to resume."""
        self._saved = None
        if self._is_written:
            self._is_written = False
            self._journal.attempt(lambda: self._journal.database.delete(self._key))

    def close(self) -> None:
        """Let others have the row; it stays as it is. Safe to call twice."""
        self._lock.release()

    def _write(self, saved: SavedUpload) -> None:
        self._saved = saved

        def write() -> bool:
            self._journal.database.write(saved)
            return True

        self._is_written = bool(self._journal.attempt(write)) or self._is_written
