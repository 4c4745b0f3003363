"""The journal's file: SQLite in WAL mode with ``synchronous=NORMAL``.

A row survives SIGKILL from the moment its call returned. A power loss may take the last rows back to older
ones, which is safe: a registry that holds more than a row says is believed.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from crossdock.errors import (
    Advice,
    JournalUnavailable,
)
from crossdock.kept.keeper import Pruned, reason_of, remove_unused
from crossdock.kept.sqlitefile import SqliteFile, Trouble, is_there
from crossdock.kept.uploads import Finished, FinishedKind, SavedUpload, UploadKey, from_row, to_row
from crossdock.locks import BlobLock, is_taken, take_lock

FILE = "journal.sqlite3"
LOCK_FILE = "uploads.lock"
VERSION = 1  # PRAGMA user_version
WRITE_TIMEOUT_S = 0.05  # for locks of other processes while a copy runs: its event loop waits
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


def open_existing(folder: Path) -> JournalDatabase | None:
    """The journal in `folder`; None if there is none. Creates nothing. Raises `JournalUnavailable`."""
    return JournalDatabase(folder) if is_there(folder / FILE, _unavailable) else None


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
        """Close the file. Safe to call twice; raises nothing."""
        self._file.close()

    # -- uploads -----------------------------------------------------------------------------------------

    def lock(self, key: UploadKey) -> BlobLock | None:
        """The right to read and write the row of `key`; None when another copy has it."""
        try:
            return take_lock(self._locks, key.number())
        except OSError as error:
            raise self._trouble("other", reason_of(error)) from error

    def in_use(self, key: UploadKey) -> bool:
        """Whether a running copy has the row."""
        try:
            return is_taken(self._locks, key.number())
        except OSError as error:
            raise self._trouble("other", reason_of(error)) from error

    def read(self, key: UploadKey) -> SavedUpload | None:
        """The row of `key`; None when it is missing or damaged."""
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

    # -- finished content --------------------------------------------------------------------------------

    def add_finished(
        self, run: str, kind: FinishedKind, target: str, digest: str, size: int, at: float
    ) -> None:
        """Add a row, and drop the oldest above `FINISHED_ROWS`."""
        columns = (run, kind, target, digest, size, at)
        self._execute(
            "INSERT INTO finished (run, kind, target, digest, size, at) VALUES (?, ?, ?, ?, ?, ?)", *columns
        )
        self._execute(f"DELETE FROM finished WHERE id <= (SELECT max(id) FROM finished) - {FINISHED_ROWS}")

    def finished(self) -> list[Finished]:
        """Every row that is sound, the oldest first."""
        rows = self._execute("SELECT run, kind, target, digest, size, at FROM finished ORDER BY id")
        return [done for row in rows if (done := Finished(*row)).is_sound]

    def prune(self, before: float) -> Pruned:
        """Remove rows written before `before` (seconds since 1970), except those of running copies."""
        old = self._execute("SELECT registry, repository, digest FROM upload WHERE updated < ?", before)
        # A key of other types is damaged: no key of ours finds it.
        keys = [UploadKey(*row) for row in old if all(isinstance(column, str) for column in row)]
        pruned = remove_unused(keys, self.lock, self.delete)
        ((finished,),) = self._execute("SELECT count(*) FROM finished WHERE at < ?", before)
        if finished:
            self._execute("DELETE FROM finished WHERE at < ?", before)
        return Pruned(pruned.removed, pruned.in_use, finished)

    def _trouble(self, kind: Trouble, reason: str) -> JournalUnavailable:
        """The error for a kind of trouble, with advice."""
        forget = f"forget what can be resumed: {_removal(self.path)}"
        if kind == "damaged":
            reason = f"it is damaged ({reason})"
        advice = {
            "busy": Advice("wait-or-choose-state"),
            "damaged": Advice("forget-journal", forget),
            "full": Advice("free-space", "free space there"),
            "newer": Advice("forget-journal", f"use that crossdock, or {forget}"),
        }.get(kind)
        return _unavailable(self.path, reason, advice, busy=kind == "busy")


def _removal(path: Path) -> str:
    return f"rm -f {shlex.quote(str(path))}*"


def _unavailable(
    path: Path, reason: str, advice: Advice | None = None, *, busy: bool = False
) -> JournalUnavailable:
    advice = advice or Advice("choose-state")
    return JournalUnavailable(f"the journal {path} cannot be used: {reason}", advice=advice, busy=busy)
