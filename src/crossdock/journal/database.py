"""The journal's file: opened with care, read and written row by row, errors as `JournalUnavailable`."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from crossdock.errors import JournalUnavailable
from crossdock.journal.records import Finished, SavedUpload, UploadKey, finished_from_row, from_row, to_row
from crossdock.journal.sqlitefile import SqliteFile, Trouble, words_of
from crossdock.locks import BlobLock, is_taken, take_lock

FILE = "journal.sqlite3"
LOCK_FILE = "uploads.lock"
VERSION = 1  # PRAGMA user_version
WRITE_TIMEOUT_S = 0.05  # for them while a copy runs: its event loop waits
FINISHED_ROWS = 10_000  # the oldest go first

_SCHEMA = (
    """CREATE TABLE upload (
        registry TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
        source TEXT NOT NULL, location TEXT NOT NULL, acknowledged INTEGER NOT NULL, states BLOB NOT NULL,
        chunk_size INTEGER NOT NULL, trust_range INTEGER NOT NULL,
        created REAL NOT NULL, updated REAL NOT NULL, pid INTEGER NOT NULL, "check" BLOB NOT NULL,
        PRIMARY KEY (registry, repository, digest))""",
    """CREATE TABLE finished (
        id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
        digest TEXT NOT NULL, size INTEGER NOT NULL, at REAL NOT NULL)""",
    f"PRAGMA user_version = {VERSION}",
)
_COLUMNS = (
    *("registry", "repository", "digest", "size", "source", "location", "acknowledged", "states"),
    *("chunk_size", "trust_range", "created", "updated", "pid", '"check"'),
)
# Not REPLACE, which would write the pages of the index too.
_PUT = (
    f"INSERT INTO upload VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (registry, repository, digest) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[3:])
)
_KEYED = "WHERE registry = ? AND repository = ? AND digest = ?"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `JournalDatabase.prune` did: numbers of rows."""

    uploads: int
    finished: int
    in_use: int  # would have gone, but a running copy has them


def open_existing(folder: Path) -> JournalDatabase | None:
    """The journal in `folder`; None when there is none, and nothing is made. Raises `JournalUnavailable`."""
    try:
        os.lstat(folder / FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable(folder / FILE, words_of(error)) from error
    return JournalDatabase(folder)


class JournalDatabase:
    """The rows of one folder, which is made when it is missing (0700, files 0600).

    Every method raises `JournalUnavailable`, with ``.busy`` when another process kept the file locked. May be
    used from several threads, one call at a time. A damaged file is left as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / FILE
        self._locks = self.path.with_name(LOCK_FILE)
        pragmas = ("synchronous = NORMAL", f"busy_timeout = {int(WRITE_TIMEOUT_S * 1000)}")
        self._file = SqliteFile(self.path, _SCHEMA, VERSION, self._trouble, pragmas=pragmas)
        self._execute = self._file.execute

    def close(self) -> None:
        """Give the file back. Safe to call twice; raises nothing."""
        self._file.close()

    # -- uploads -----------------------------------------------------------------------------------------

    def lock(self, key: UploadKey) -> BlobLock | None:
        """The right to read and write the row of `key`; None when somebody has it."""
        try:
            return take_lock(self._locks, key.number())
        except OSError as error:
            raise self._trouble("other", words_of(error)) from error

    def in_use(self, key: UploadKey) -> bool:
        """Whether a running copy has the row."""
        try:
            return is_taken(self._locks, key.number())
        except OSError as error:
            raise self._trouble("other", words_of(error)) from error

    def read(self, key: UploadKey) -> SavedUpload | None:
        """The row of `key`; None when there is none or it is damaged."""
        rows = self._execute(f"SELECT * FROM upload {_KEYED}", key.registry, key.repository, key.digest)
        return from_row(rows[0]) if rows else None

    def write(self, saved: SavedUpload) -> None:
        """Put the row, in one transaction."""
        self._execute(_PUT, *to_row(saved))

    def delete(self, key: UploadKey) -> None:
        """Remove the row."""
        self._execute(f"DELETE FROM upload {_KEYED}", key.registry, key.repository, key.digest)

    def uploads(self) -> list[SavedUpload]:
        """Every row that is whole, the newest first."""
        rows = map(from_row, self._execute("SELECT * FROM upload ORDER BY updated DESC"))
        return [saved for saved in rows if saved is not None]

    # -- what runs finished ------------------------------------------------------------------------------

    def add_finished(self, done: Finished) -> None:
        """Add a row, and drop the oldest above `FINISHED_ROWS`."""
        columns = (done.run, done.kind, done.target, done.digest, done.size, done.at)
        self._execute(
            "INSERT INTO finished (run, kind, target, digest, size, at) VALUES (?, ?, ?, ?, ?, ?)", *columns
        )
        self._execute(f"DELETE FROM finished WHERE id <= (SELECT max(id) FROM finished) - {FINISHED_ROWS}")

    def finished(self) -> list[Finished]:
        """What was finished, the oldest first; rows that are damaged are left out."""
        rows = self._execute("SELECT run, kind, target, digest, size, at FROM finished ORDER BY id")
        return [done for done in map(finished_from_row, rows) if done is not None]

    def prune(self, before: float) -> Pruned:
        """Remove what was last written before `before` (seconds since 1970), unless a running copy has it."""
        removed = in_use = 0
        old = "SELECT registry, repository, digest FROM upload WHERE updated < ?"
        for columns in self._execute(old, before):
            if not all(isinstance(column, str) for column in columns):
                continue  # damaged: no key of ours finds it
            key = UploadKey(*columns)
            lock = self.lock(key)
            if lock is None:
                in_use += 1
                continue
            try:
                self.delete(key)
                removed += 1
            finally:
                lock.release()
        ((finished,),) = self._execute("SELECT count(*) FROM finished WHERE at < ?", before)
        if finished:
            self._execute("DELETE FROM finished WHERE at < ?", before)
        return Pruned(removed, finished, in_use)

    def _trouble(self, kind: Trouble, reason: str) -> JournalUnavailable:
        """What is wrong with the file, and what to do."""
        forget = f"forget what can be resumed: {_removal(self.path)}"
        if kind == "damaged":
            reason = f"it is damaged ({reason})"
        hint = {
            "busy": "wait until it has ended, or choose another folder with --state",
            "damaged": forget,
            "full": "free space there",
            "newer": f"use that crossdock, or {forget}",
        }.get(kind, "")
        return _unavailable(self.path, reason, hint=hint, busy=kind == "busy")


def _removal(path: Path) -> str:
    return f"rm -f {shlex.quote(str(path))}*"


def _unavailable(path: Path, reason: str, *, hint: str = "", busy: bool = False) -> JournalUnavailable:
    hint = hint or "check who owns the folder and whether it may be written, or choose another with --state"
    return JournalUnavailable(f"the journal {path} cannot be used: {reason}", hint=hint, busy=busy)
