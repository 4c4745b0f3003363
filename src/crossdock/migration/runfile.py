"""The file of all runs of migration files: ``runs.sqlite3`` in the state folder.

It holds what was done, never a secret: names of files, registries and repositories, tags, digests, reasons of
failures. A process that works on a run has the lock of its file's content (`locks`), so a run whose status is
``running`` and whose lock is free was killed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import Advice, StoreError, root_cause
from crossdock.kept.keeper import reason_of
from crossdock.kept.sqlitefile import SqliteFile, Statement, Trouble, is_there
from crossdock.locks import BlobLock, is_taken, number_of, take_lock

FILE = "runs.sqlite3"
LOCK_FILE = "runs.lock"
VERSION = 2  # PRAGMA user_version
WRITE_TIMEOUT_S = 5.0  # for locks of other processes; writes are made in a thread
PAGE = 1000  # rows that are read at a time
REASON_LENGTH = 500  # characters

RunStatus = Literal["running", "done", "failed", "interrupted"]
"""``failed``: it has ended, and something failed; ``interrupted``: it was stopped, and is resumed when the
same file is applied again."""

Outcome = Literal["left", "unchanged", "copied", "reported", "left out", "failed"]
"""The outcome of a tag so far. ``reported``: the target has other content there, which was left as it is.
``left out``: a signature or the like that could not be copied."""

SETTLED: tuple[Outcome, ...] = ("unchanged", "copied", "reported", "left out")
"""Outcomes that are not looked at again in the same run."""

_SCHEMA = (
    """CREATE TABLE run (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, file TEXT NOT NULL,
        content TEXT NOT NULL, repeats TEXT NOT NULL, started REAL NOT NULL, ended REAL,
        status TEXT NOT NULL, totals TEXT NOT NULL)""",
    """CREATE TABLE pair (
        run INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,
        target TEXT NOT NULL, totals TEXT NOT NULL, PRIMARY KEY (run, number)) WITHOUT ROWID""",
    """CREATE TABLE repository (
        run INTEGER NOT NULL, pair INTEGER NOT NULL, name TEXT NOT NULL,
        PRIMARY KEY (run, pair, name)) WITHOUT ROWID""",
    """CREATE TABLE item (
        run INTEGER NOT NULL, pair INTEGER NOT NULL, repository TEXT NOT NULL, name TEXT NOT NULL,
        digest TEXT NOT NULL, outcome TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
        tag TEXT NOT NULL DEFAULT '', previous TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run, pair, repository, name)) WITHOUT ROWID""",
    """CREATE TABLE missing (
        source TEXT NOT NULL, target TEXT NOT NULL, tag TEXT NOT NULL, since REAL NOT NULL,
        PRIMARY KEY (source, target, tag)) WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
)
_UPGRADES = (
    (
        "ALTER TABLE item ADD COLUMN tag TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE item ADD COLUMN previous TEXT NOT NULL DEFAULT ''",
        "PRAGMA user_version = 2",
    ),
)
_ITEM = "pair, repository, name, digest, outcome, kind, reason, tag, previous"
_RUN = "SELECT number, id, file, content, repeats, started, ended, status, totals FROM run"
PUT_ITEM = (
    f"INSERT INTO item (run, {_ITEM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (run, pair, repository, name) DO UPDATE "
    "SET digest = excluded.digest, outcome = excluded.outcome, kind = excluded.kind, "
    "reason = excluded.reason, tag = excluded.tag, previous = excluded.previous"
)


class RunRow(Struct, frozen=True):
    """One run. `content` is the digest of the file's content after variables, moments are since 1970.

    `repeats` is the run whose failures this one repeats, empty for a run of the whole file.
    """

    number: int
    id: str
    file: str
    content: str
    repeats: str
    started: float
    ended: float | None
    status: RunStatus
    totals: Mapping[str, float]  # those of the run alone: requests and seconds


class PairRow(Struct, frozen=True):
    """One entry and target of a run, with its totals."""

    number: int
    name: str
    source: str
    target: str
    totals: Mapping[str, float]


class Item(Struct, frozen=True):
    """A tag, or the digest of a manifest without one, or "" for the whole repository, at one target.

    `kind` is the class of the error and `reason` its first line, both empty unless it failed. `tag` is the
    `events.TagOutcome` of a tag that was copied, `previous` its digest before; empty if there is none.
    """

    pair: int
    repository: str  # below the source's prefix
    name: str
    digest: str
    outcome: Outcome
    kind: str = ""
    reason: str = ""
    tag: str = ""
    previous: str = ""


def kind_and_reason(error: BaseException | None) -> tuple[str, str]:
    """`Item.kind` and `Item.reason` of a name that has this error."""
    if error is None:
        return "", ""
    return type(root_cause(error)).__name__, str(error).partition("\n")[0][:REASON_LENGTH]


class StateUnavailable(StoreError):
    """The state of runs cannot be read or written."""


def open_existing(folder: Path) -> RunFile | None:
    """The file in `folder`; None when there is none. Makes nothing. Raises `StateUnavailable`."""
    return RunFile(folder) if is_there(folder / FILE, unavailable) else None


class RunFile:
    """The runs of one folder, which is made when it is missing (0700, files 0600).

    Every method blocks, and raises `StateUnavailable`. It may be used from several threads, one call at a
    time.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / FILE
        self._locks = self.path.with_name(LOCK_FILE)
        # A commit is on the disk when it returns: they come a few times a second.
        pragmas = ("synchronous = FULL", f"busy_timeout = {int(WRITE_TIMEOUT_S * 1000)}")
        self._file = SqliteFile(
            self.path, _SCHEMA, VERSION, self._trouble, pragmas=pragmas, upgrades=_UPGRADES
        )
        self.execute = self._file.execute

    def write(self, statements: list[Statement]) -> None:
        """All of them in one transaction, or none."""
        self._file.execute_all(statements)

    def close(self) -> None:
        """Close the file. Safe to call twice; raises nothing."""
        self._file.close()

    # -- locks -------------------------------------------------------------------------------------------

    def lock(self, content: str) -> BlobLock | None:
        """The right to work on runs of a file with this content; None when another process has it."""
        try:
            return take_lock(self._locks, number_of(content))
        except OSError as error:
            raise self._trouble("other", reason_of(error)) from error

    def in_use(self, content: str) -> bool:
        """Whether a process works on a run of a file with this content."""
        try:
            return is_taken(self._locks, number_of(content))
        except OSError as error:
            raise self._trouble("other", reason_of(error)) from error

    # -- runs --------------------------------------------------------------------------------------------

    def runs(self) -> list[RunRow]:
        """Every run, the newest first. One that was killed is ``interrupted``."""
        return [self._seen(row) for row in self.execute(f"{_RUN} ORDER BY number DESC")]

    def find(self, word: str) -> list[RunRow]:
        """The runs whose id begins with `word`."""
        return [each for each in self.runs() if word and each.id.startswith(word)]

    def latest(self, content: str) -> RunRow | None:
        """The newest run of a file with this content."""
        rows = self.execute(f"{_RUN} WHERE content = ? ORDER BY number DESC LIMIT 1", content)
        return self._seen(rows[0]) if rows else None

    def unfinished(self, content: str, *, repeats: bool) -> RunRow | None:
        """The newest run of that content if it has not ended, and is of the same kind."""
        found = self.latest(content)
        is_open = found is not None and found.status not in ("done", "failed")
        return found if found is not None and is_open and bool(found.repeats) == repeats else None

    def _seen(self, values: tuple[Any, ...]) -> RunRow:
        number, run, file, content, repeats, started, ended, status, totals = values
        row = RunRow(number, run, file, content, repeats, started, ended, status, _totals(totals))
        if row.status != "running" or self.in_use(row.content):
            return row
        return replace(row, status="interrupted")

    def pairs(self, run: int) -> list[PairRow]:
        """The entries and targets of a run, in the file's order."""
        rows = self.execute(
            "SELECT number, name, source, target, totals FROM pair WHERE run = ? ORDER BY number", run
        )
        return [
            PairRow(number, name, source, target, _totals(totals))
            for number, name, source, target, totals in rows
        ]

    def forget(self, run: RunRow) -> None:
        """Remove a run and its records. The times when tags were first missing are kept."""
        tables = ("run", "number"), ("pair", "run"), ("repository", "run"), ("item", "run")
        self.write([(f"DELETE FROM {table} WHERE {key} = ?", (run.number,)) for table, key in tables])

    # -- what was done -----------------------------------------------------------------------------------

    def items(self, run: int, *outcomes: Outcome) -> Iterator[Item]:
        """The items with one of these outcomes, in order of pair, repository and name."""
        chosen = ", ".join("?" * len(outcomes))
        after: tuple[Any, ...] = (-1, "", "")
        while True:
            rows = self.execute(
                f"SELECT {_ITEM} FROM item WHERE run = ? "
                f"AND (pair, repository, name) > (?, ?, ?) AND outcome IN ({chosen}) "
                f"ORDER BY pair, repository, name LIMIT {PAGE}",
                *(run, *after, *outcomes),
            )
            yield from (Item(*row) for row in rows)
            if len(rows) < PAGE:
                return
            after = rows[-1][:3]

    def counts(self, run: int) -> dict[str, int]:
        """How many items have each outcome."""
        return dict(self.execute("SELECT outcome, count(*) FROM item WHERE run = ? GROUP BY outcome", run))

    def is_whole(self, run: int, pair: int, repository: str) -> bool:
        """Whether nothing of a repository need be looked at again."""
        rows = "SELECT 1 FROM repository WHERE run = ? AND pair = ? AND name = ?"
        return bool(self.execute(rows, run, pair, repository))

    def settled(self, run: int, pair: int, repository: str) -> dict[str, str]:
        """The names of a repository that need not be looked at again, with their digests."""
        chosen = ", ".join("?" * len(SETTLED))
        rows = self.execute(
            f"SELECT name, digest FROM item WHERE run = ? AND pair = ? AND repository = ? "
            f"AND outcome IN ({chosen})",
            *(run, pair, repository, *SETTLED),
        )
        return dict(rows)

    # -- tags that the source has no more ----------------------------------------------------------------

    def missing_since(
        self, source: str, target: str, tags: frozenset[str], now: float
    ) -> tuple[dict[str, float], list[Statement]]:
        """When each of `tags` of a repository was first seen missing at the source: now, if not before.

        Other tags of the two repositories are not missing any more. The second value is what is to be
        written of it.
        """
        rows = self.execute("SELECT tag, since FROM missing WHERE source = ? AND target = ?", source, target)
        known = dict(rows)
        changes: list[Statement] = [
            ("DELETE FROM missing WHERE source = ? AND target = ? AND tag = ?", (source, target, tag))
            for tag in known.keys() - tags
        ]
        changes += [
            ("INSERT OR IGNORE INTO missing VALUES (?, ?, ?, ?)", (source, target, tag, now))
            for tag in tags - known.keys()
        ]
        return {tag: known.get(tag, now) for tag in tags}, changes

    def _trouble(self, kind: Trouble, reason: str) -> StateUnavailable:
        forget = f"forget all runs: rm -f {shlex.quote(str(self.path))}*"
        if kind == "damaged":
            reason = f"it is damaged ({reason})"
        advice = {
            "busy": Advice("wait-or-choose-state"),
            "damaged": Advice("forget-journal", forget),
            "full": Advice("free-space", "free space there"),
            "newer": Advice("forget-journal", f"use that crossdock, or {forget}"),
        }.get(kind)
        return unavailable(self.path, reason, advice)


def unavailable(path: Path, reason: str, advice: Advice | None = None) -> StateUnavailable:
    """The error for a file that cannot be used."""
    return StateUnavailable(
        f"the state of runs {path} cannot be used: {reason}", advice=advice or Advice("choose-state")
    )


def _totals(text: str) -> dict[str, float]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
