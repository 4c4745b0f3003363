"""The journal's file: opened with care, read and written row by row, errors as `JournalUnavailable`."""

from __future__ import annotations

import os
import shlex
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossdock.errors import JournalUnavailable
from crossdock.journal.records import Finished, SavedUpload, UploadKey, finished_from_row, from_row, to_row
from crossdock.locks import BlobLock, is_taken, take_lock

if TYPE_CHECKING:
    import sqlite3

FILE = "journal.sqlite3"
LOCK_FILE = "uploads.lock"
VERSION = 1  # PRAGMA user_version
OPEN_TIMEOUT_S = 2.0  # for locks of other processes while opening, which happens off the event loop
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

# Closing any descriptor of a file drops this process's POSIX locks on it, SQLite's among them
# (sqlite.org/howtocorrupt.html 2.2). So files are made by one thread at a time, and never opened by us once
# they exist.
_opening = threading.Lock()


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
        raise _unavailable(folder / FILE, _words(error)) from error
    return JournalDatabase(folder)


class JournalDatabase:
    """The rows of one folder, which is made when it is missing (0700, files 0600).

    Every method raises `JournalUnavailable`, with ``.busy`` when another process kept the file locked. May be
    used from several threads, one call at a time. A damaged file is left as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / FILE
        self._locks = self.path.with_name(LOCK_FILE)
        self._guard = threading.Lock()
        try:
            import sqlite3
        except ImportError as error:
            raise _unavailable(self.path, f"this Python has no sqlite3 ({error})") from error
        self._sqlite3 = sqlite3
        self._connection: sqlite3.Connection | None = None
        with _opening:
            try:
                _prepare(self.path)
                self._connection = sqlite3.connect(
                    f"{self.path.as_uri()}?mode=rw",
                    uri=True,
                    timeout=OPEN_TIMEOUT_S,
                    isolation_level=None,
                    check_same_thread=False,
                )
                self._set_up(self._connection)
            except JournalUnavailable:
                self.close()
                raise
            except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: NUL in the folder's name
                self.close()
                raise self._explain(error) from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")  # the row's check will tell
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        version = _version(connection)
        if version > VERSION:
            raise _unavailable(
                self.path,
                f"it was written by a newer crossdock (version {version} of the journal, not {VERSION})",
                hint=f"use that crossdock, or forget what can be resumed: {_removal(self.path)}",
            )
        if version < VERSION:
            self._create(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(str(verdict))
        connection.execute(f"PRAGMA busy_timeout = {int(WRITE_TIMEOUT_S * 1000)}")

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")  # of several that start together, one writes
        try:
            if _version(connection) == 0:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                    raise self._damaged("it is a database of something else")
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Give the file back. Safe to call twice; raises nothing."""
        with self._guard:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except self._sqlite3.Error:
                pass  # the rows are written; what the last one to close tidies up is done by the next

    # -- uploads -----------------------------------------------------------------------------------------

    def lock(self, key: UploadKey) -> BlobLock | None:
        """The right to read and write the row of `key`; None when somebody has it."""
        try:
            return take_lock(self._locks, key.number())
        except OSError as error:
            raise self._explain(error) from error

    def in_use(self, key: UploadKey) -> bool:
        """Whether a running copy has the row."""
        try:
            return is_taken(self._locks, key.number())
        except OSError as error:
            raise self._explain(error) from error

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

    # -- one statement, and what can be wrong with it ----------------------------------------------------

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        with self._guard:
            if self._connection is None:
                raise _unavailable(self.path, "it is closed")
            try:
                return self._connection.execute(statement, values).fetchall()
            except (self._sqlite3.Error, ValueError, OverflowError) as error:  # such as text that is no UTF-8
                raise self._explain(error) from error

    def _explain(self, error: Exception) -> JournalUnavailable:
        if isinstance(error, OSError):
            return _unavailable(self.path, _words(error))
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
        sqlite3 = self._sqlite3
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return _unavailable(
                self.path,
                "another process keeps it locked",
                hint="wait until it has ended, or choose another folder with --state",
                busy=True,
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return self._damaged(str(error))
        if code == sqlite3.SQLITE_FULL:
            return _unavailable(self.path, "no space is left", hint="free space there")
        return _unavailable(self.path, str(error))

    def _damaged(self, reason: str) -> JournalUnavailable:
        hint = f"forget what can be resumed: {_removal(self.path)}"
        return _unavailable(self.path, f"it is damaged ({reason})", hint=hint)


def _prepare(path: Path) -> None:
    """Make folder and file where they are missing, for their owner alone. Raises OSError."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise _unavailable(path, "it is not a regular file") from None
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.chmod(path, 0o600)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _removal(path: Path) -> str:
    return f"rm -f {shlex.quote(str(path))}*"


def _unavailable(path: Path, reason: str, *, hint: str = "", busy: bool = False) -> JournalUnavailable:
    hint = hint or "check who owns the folder and whether it may be written, or choose another with --state"
    return JournalUnavailable(f"the journal {path} cannot be used: {reason}", hint=hint, busy=busy)
