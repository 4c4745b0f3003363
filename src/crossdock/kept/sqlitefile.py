"""A SQLite file that belongs to one user: made for its owner alone, checked when it is opened."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crossdock.errors import CrossdockError
from crossdock.kept.keeper import make_folder, reason_of

if TYPE_CHECKING:
    import sqlite3

OPEN_TIMEOUT_S = 2.0  # for locks of other processes while opening, which is done off the event loop

Trouble = Literal["busy", "damaged", "full", "newer", "other"]
Statement = tuple[str, Sequence[Any]]

# Closing any descriptor of a file drops this process's POSIX locks on it, SQLite's among them
# (sqlite.org/howtocorrupt.html 2.2). So files are made by one thread at a time, and we never open one that
# exists.
_opening = threading.Lock()


def is_there(path: Path, trouble: Callable[[Path, str], Exception]) -> bool:
    """Whether the file exists; nothing is made. Raises what `trouble` returns when that cannot be told."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise trouble(path, reason_of(error)) from error
    return True


class SqliteFile:
    """One open file. May be used from several threads, one call at a time.

    Every method raises the error that `trouble` returns for a kind of trouble and its reason. A damaged file
    is left as it is. Missing folders are made (0700, the file 0600).
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        version: int,
        trouble: Callable[[Trouble, str], Exception],
        *,
        pragmas: Sequence[str],
        upgrades: Sequence[Sequence[str]] = (),
    ) -> None:
        """`schema` makes the tables and sets ``user_version`` to `version`. `upgrades`: the statements that
        make version 2 of version 1, and so on. Blocks.
        """
        self.path = path
        self._version = version
        self._trouble = trouble
        self._guard = threading.Lock()
        try:
            import sqlite3
        except ImportError as error:
            raise trouble("other", f"this Python has no sqlite3 ({error})") from error
        self._sqlite3 = sqlite3
        self._connection: sqlite3.Connection | None = None
        with _opening:
            try:
                _prepare(path)
                self._connection = sqlite3.connect(
                    f"{path.as_uri()}?mode=rw",
                    uri=True,
                    timeout=OPEN_TIMEOUT_S,
                    isolation_level=None,
                    check_same_thread=False,
                )
                self._set_up(self._connection, schema, pragmas, upgrades)
            except CrossdockError:  # explained already; it may be an OSError as well
                self.close()
                raise
            except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: NUL in the folder's name
                self.close()
                raise self._explain(error) from error
            except BaseException:
                self.close()
                raise

    def _set_up(
        self,
        connection: sqlite3.Connection,
        schema: Sequence[str],
        pragmas: Sequence[str],
        upgrades: Sequence[Sequence[str]],
    ) -> None:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")  # the row's check finds it
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        version = _version(connection)
        if version > self._version:
            raise self._trouble(
                "newer", f"it was written by a newer crossdock (version {version}, not {self._version})"
            )
        if version < self._version:
            self._create(connection, schema, upgrades)
        connection.execute("PRAGMA journal_mode = WAL")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._trouble("damaged", str(verdict))
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    def _create(
        self, connection: sqlite3.Connection, schema: Sequence[str], upgrades: Sequence[Sequence[str]]
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")  # of several that start together, one writes
        try:
            version = _version(connection)
            if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                raise self._trouble("damaged", "it is a database of something else")
            for statements in upgrades[version - 1 :] if version else (schema,):
                for statement in statements:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement, in its own transaction, and return its rows."""
        with self._guard:
            try:
                return self._open().execute(statement, values).fetchall()
            except (
                self._sqlite3.Error,
                ValueError,
                OverflowError,
            ) as error:  # such as text that is not UTF-8
                raise self._explain(error) from error

    def execute_all(self, statements: Sequence[Statement]) -> None:
        """All of them in one transaction, or none. They change rows; they do not ask for any."""
        with self._guard:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                for statement, some in groupby(statements, itemgetter(0)):
                    connection.executemany(statement, [values for _, values in some])
                connection.execute("COMMIT")
            except (self._sqlite3.Error, ValueError, OverflowError) as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise self._explain(error) from error

    def close(self) -> None:
        """Close the file. Safe to call twice; raises nothing."""
        with self._guard:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except self._sqlite3.Error:
                pass  # the rows are written; the next process to close the file tidies up

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise self._trouble("other", "it is closed")
        return self._connection

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, OSError):
            return self._trouble("other", reason_of(error))
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
        sqlite3 = self._sqlite3
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._trouble("busy", "another process keeps it locked")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return self._trouble("damaged", str(error))
        if code == sqlite3.SQLITE_FULL:
            return self._trouble("full", "no space is left")
        return self._trouble("other", str(error))


def _prepare(path: Path) -> None:
    """Make folder and file if they are missing, for their owner alone. Raises OSError."""
    make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file") from None
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.chmod(path, 0o600)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
