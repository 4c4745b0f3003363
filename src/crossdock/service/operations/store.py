"""Accepted imports on disk: one row each, in one SQLite file of the state folder.

A row has no secret in clear text: the order is stored without its credentials, which are kept encrypted until
the import ends (`secrets`), and SQLite overwrites deleted data. Blocks; called from the thread of `saving`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import Advice, StoreError
from crossdock.kept.sqlitefile import SqliteFile, Statement, Trouble
from crossdock.locks import take_lock
from crossdock.service.values import ENDED, Operation, Order, Problem, Progress

FILE = "operations.sqlite3"
LOCK_FILE = "service.lock"
VERSION = 1  # PRAGMA user_version
KEPT_RESULTS = 10_000  # ended imports; the oldest are removed first
SALT_BYTES = 16

_SCHEMA = (
    """CREATE TABLE operation (
        id TEXT PRIMARY KEY, mark BLOB, "order" BLOB NOT NULL, has_credentials INTEGER NOT NULL, sealed BLOB,
        created REAL NOT NULL, state TEXT NOT NULL, started REAL NOT NULL, ended REAL NOT NULL,
        source_digest TEXT NOT NULL, progress BLOB NOT NULL, result BLOB NOT NULL, problem BLOB NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX by_mark ON operation (mark) WHERE mark IS NOT NULL",
    "CREATE INDEX by_created ON operation (created)",
    "CREATE INDEX by_ended ON operation (ended)",
    "CREATE TABLE salt (bytes BLOB NOT NULL)",
    f"INSERT INTO salt VALUES (randomblob({SALT_BYTES}))",
    f"PRAGMA user_version = {VERSION}",
)
_WHOLE = 'id, "order", created, state, started, ended, source_digest, progress, result, problem'
# Replaces a damaged or expired row.
_ADD = f"INSERT OR REPLACE INTO operation VALUES ({', '.join('?' * 13)})"
_UPDATE = (
    "UPDATE operation SET state = ?, started = ?, ended = ?, source_digest = ?, progress = ?, result = ?,"
    " problem = ? WHERE id = ?"
)
_FORGET = "UPDATE operation SET sealed = NULL WHERE id = ? AND sealed IS NOT NULL"
_SEALED = "SELECT 1 FROM operation WHERE id = ? AND sealed IS NOT NULL"
_DURABLE = ("synchronous = FULL", "secure_delete = ON")  # a 202 is a promise that survives a power cut


class Unfinished(Struct, frozen=True):
    """An import that an earlier process accepted and did not finish."""

    operation: Operation
    mark: bytes | None
    has_credentials: bool  # they are not part of the order
    sealed: bytes | None


class OperationStore:
    """The imports of one state folder, which one service uses at a time.

    Every method raises `StoreError`. `write` may be called in another thread than the others.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / FILE
        self._file = self._open_file()
        self._leaves_secrets = True  # a killed process may have left some
        try:
            self._lock = take_lock(self.path.with_name(LOCK_FILE), 0)
            if self._lock is None:
                raise StoreError(
                    f"another service uses the state folder {folder}",
                    advice=Advice("stop-or-choose-state"),
                )
            # A separate connection, so that reads do not wait for a write to the disk.
            self._reading = self._open_file()
            self._empty_log()
            ((self.salt,),) = self._reading.execute("SELECT bytes FROM salt")
        except OSError as error:
            self._file.close()
            if isinstance(error, StoreError):
                raise
            raise self._trouble("other", error.strerror or str(error)) from error

    def close(self) -> None:
        """Release the folder. Raises nothing."""
        self._reading.close()
        self._file.close()  # closing the last one removes the log, with the deleted data in it
        if self._lock is not None:
            self._lock.release()

    def unfinished(self) -> list[Unfinished]:
        """The imports to run again, in order of arrival, without damaged rows."""
        rows = self._reading.execute(
            f"SELECT mark, has_credentials, sealed, {_WHOLE} FROM operation WHERE ended = 0 ORDER BY created"
        )
        found = []
        for mark, has_credentials, sealed, *columns in rows:
            operation = _operation(columns)
            if operation is not None:
                found.append(Unfinished(operation, mark, bool(has_credentials), sealed))
        return found

    def find(self, operation_id: str) -> Operation | None:
        """The import with this id."""
        rows = self._reading.execute(f"SELECT {_WHOLE} FROM operation WHERE id = ?", operation_id)
        return _operation(rows[0]) if rows else None

    def find_marked(self, mark: bytes) -> Operation | None:
        """The import of an equal request."""
        rows = self._reading.execute(f"SELECT {_WHOLE} FROM operation WHERE mark = ?", mark)
        return _operation(rows[0]) if rows else None

    def newest(self, most: int) -> list[Operation]:
        """The newest imports, the newest first."""
        rows = self._reading.execute(f"SELECT {_WHOLE} FROM operation ORDER BY created DESC LIMIT ?", most)
        return [each for each in map(_operation, rows) if each is not None]

    def write(self, statements: Sequence[Statement]) -> None:
        """Execute statements of `added`, `updated` and `outdated`: all or none. Survives a power cut."""
        if not self._leaves_secrets:
            self._leaves_secrets = any(self._has_sealed(*each) for each in statements)
        self._file.execute_all(statements)
        if self._leaves_secrets:
            self._empty_log()

    def _has_sealed(self, statement: str, values: Sequence[Any]) -> bool:
        return statement == _FORGET and bool(self._file.execute(_SEALED, *values))

    def _empty_log(self) -> None:
        """Truncate the log, since older versions of its pages contain deleted credentials.

        If a reader holds it, the next write truncates it.
        """
        try:
            ((is_busy, *_),) = self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except StoreError:  # the write itself has succeeded
            return
        self._leaves_secrets = bool(is_busy)

    def _open_file(self) -> SqliteFile:
        return SqliteFile(self.path, _SCHEMA, VERSION, self._trouble, pragmas=_DURABLE)

    def _trouble(self, kind: Trouble, reason: str) -> StoreError:
        move = f"mv {shlex.quote(str(self.path))} {shlex.quote(f'{self.path}.damaged')}"
        advice = {
            "busy": Advice("end-process", "stop the other processes that use it"),
            "damaged": Advice("forget-imports", f"continue without the imports in it: {move}"),
            "full": Advice("free-space", "free space there"),
            "newer": Advice("update-or-choose-state"),
        }.get(kind, Advice("choose-state"))
        if kind == "damaged":
            reason = f"it is damaged ({reason})"
        return StoreError(f"the imports in {self.path} cannot be used: {reason}", advice=advice)


def added(
    operation: Operation, mark: bytes | None, has_credentials: bool, sealed: bytes | None
) -> list[Statement]:
    """A new row; `sealed` has the order's credentials, the order has none."""
    order = msgspec.json.encode(without_credentials(operation.order))
    head = (operation.id, mark, order, has_credentials, sealed, operation.created)
    return [(_ADD, (*head, *_moving(operation)))]


def updated(operation: Operation) -> list[Statement]:
    """The import's row; credentials are removed when it has ended."""
    statements: list[Statement] = [(_UPDATE, (*_moving(operation), operation.id))]
    if operation.state in ENDED:
        statements.append((_FORGET, (operation.id,)))
    return statements


def outdated(before: float, most: int = KEPT_RESULTS) -> list[Statement]:
    """Remove imports that ended before `before` (seconds since 1970), and the oldest above `most`."""
    oldest = "SELECT ended FROM operation WHERE ended > 0 ORDER BY ended DESC LIMIT 1 OFFSET ?"
    return [
        ("DELETE FROM operation WHERE ended > 0 AND ended < ?", (before,)),
        (f"DELETE FROM operation WHERE ended > 0 AND ended <= ({oldest})", (most,)),
    ]


def touched() -> list[Statement]:
    """A write that changes nothing, to find out whether the disk accepts writes."""
    return [("UPDATE salt SET bytes = bytes", ())]


def without_credentials(order: Order) -> Order:
    """The order as it may be stored."""
    source = replace(order.request.source, credentials=None)
    return replace(order, request=replace(order.request, source=source))


def _moving(operation: Operation) -> tuple[Any, ...]:
    return (
        operation.state,
        operation.started,
        operation.ended,
        operation.source_digest,
        *(msgspec.json.encode(each) for each in (operation.progress, operation.result, operation.problem)),
    )


def _operation(columns: Sequence[Any]) -> Operation | None:
    """The row's import; None for a damaged row."""
    operation_id, order, created, state, started, ended, source_digest, progress, result, problem = columns
    try:
        return msgspec.convert(
            {
                "id": operation_id,
                "order": msgspec.json.decode(order, type=Order),
                "created": created,
                "state": state,
                "started": started,
                "ended": ended,
                "source_digest": source_digest,
                "progress": msgspec.json.decode(progress, type=Progress),
                "result": msgspec.json.decode(result),
                "problem": msgspec.json.decode(problem, type=Problem | None),
            },
            Operation,
        )
    except (msgspec.MsgspecError, TypeError):
        return None
