"""The state of a run on disk: names that are done, failed and left, so that a restart skips finished work.

What happens is noted in memory and written a few times a second, in one transaction, by a thread. So a tag
that is done is on disk within a second, and its figures with it. When the disk fails, the run continues: what
could not be noted is looked at again by the next start.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from msgspec.structs import astuple

from crossdock.errors import Advice, InvalidOption
from crossdock.kept.sqlitefile import Statement
from crossdock.migration.runfile import (
    PUT_ITEM,
    SETTLED,
    Item,
    Outcome,
    RunFile,
    RunRow,
    RunStatus,
    StateUnavailable,
)
from crossdock.migration.totals import FIGURES

WRITE_EVERY_S = 0.25
MOST_PENDING = 100_000  # statements, when the disk cannot be written; the oldest are dropped

PairName = tuple[str, str, str]
"""The name of an entry, its source and its target."""


class RunState:
    """One run that this process works on. Made by `open_state`.

    ``totals`` are the figures of each pair, those of earlier processes included; who changes them does so
    without awaiting anything between that and `note`.
    """

    def __init__(self, file: RunFile, row: RunRow, *, is_resumed: bool) -> None:
        self.row = row
        self.is_resumed = is_resumed
        """Whether an earlier process began it."""
        self.totals = [
            {name: int(each.totals.get(name, 0)) for name in FIGURES} for each in file.pairs(row.number)
        ]
        self._requests_before = int(row.totals.get("requests", 0))
        self._count_requests: Callable[[], int] = lambda: 0
        self.seconds_before = float(row.totals.get("seconds", 0.0))
        self._file = file
        self._begun = time.monotonic()
        self._pending: list[Statement] = []

    @property
    def id(self) -> str:
        """The name of the run, as ``runs list`` prints it."""
        return self.row.id

    def count_requests(self, count: Callable[[], int]) -> None:
        """`count` says how many requests this process has sent."""
        self._count_requests = count

    @property
    def requests(self) -> int:
        """How many requests the run has sent."""
        return self._requests_before + self._count_requests()

    @property
    def seconds(self) -> float:
        """How long the run has been worked on."""
        return self.seconds_before + time.monotonic() - self._begun

    # -- what is done --------------------------------------------------------------------------------------

    def is_whole(self, pair: int, repository: str) -> bool:
        """Whether this run need look at nothing of a repository again. Blocks as `settled` does."""
        return self.is_resumed and self._file.is_whole(self.row.number, pair, repository)

    def settled(self, pair: int, repository: str) -> Mapping[str, str]:
        """The names of a repository that this run need not look at again, with their digests.

        Blocks for a moment if the run was begun by an earlier process. Raises `StateUnavailable`.
        """
        return self._file.settled(self.row.number, pair, repository) if self.is_resumed else {}

    def note(self, item: Item) -> None:
        """Put the item, in place of an earlier one of the same name. Does not block."""
        self._pending.append((PUT_ITEM, (self.row.number, *astuple(item))))

    def note_repository(self, pair: int, repository: str) -> None:
        """Everything of the repository is settled. Does not block."""
        self._pending.append(
            ("INSERT OR REPLACE INTO repository VALUES (?, ?, ?)", (self.row.number, pair, repository))
        )

    async def missing_since(self, source: str, target: str, tags: frozenset[str]) -> Mapping[str, float]:
        """As `RunFile.missing_since`, with the present time. Raises `StateUnavailable`."""
        found, changes = await asyncio.to_thread(self._file.missing_since, source, target, tags, time.time())
        self._pending += changes
        return found

    def items(self, *outcomes: Outcome) -> Iterator[Item]:
        """The items with one of these outcomes; those that could not be written come last. Blocks."""
        pending: dict[tuple[int, str, str], Item] = {}
        for statement, (_, *values) in self._pending:
            if statement == PUT_ITEM:
                item = Item(*values)
                pending[item.pair, item.repository, item.name] = item
        for item in self._file.items(self.row.number, *outcomes):
            if (item.pair, item.repository, item.name) not in pending:
                yield item
        yield from (item for item in pending.values() if item.outcome in outcomes)

    def to_repeat(self) -> Iterator[Item]:
        """The failed items of the run that this one repeats. Blocks."""
        found = [each for each in self._file.runs() if each.id == self.row.repeats]
        return self._file.items(found[0].number, "failed", "left") if found else iter(())

    # -- writing -------------------------------------------------------------------------------------------

    def _figures(self) -> list[Statement]:
        run = self.row.number
        figures = json.dumps({"requests": self.requests, "seconds": round(self.seconds, 3)})
        return [
            ("UPDATE run SET totals = ? WHERE number = ?", (figures, run)),
            *(
                ("UPDATE pair SET totals = ? WHERE run = ? AND number = ?", (json.dumps(each), run, number))
                for number, each in enumerate(self.totals)
            ),
        ]

    def end(self, status: RunStatus) -> None:
        """The run has ended so, or is left to a later process. Blocks. Raises `StateUnavailable`."""
        ended = None if status == "interrupted" else time.time()
        row = "UPDATE run SET status = ?, ended = ? WHERE number = ?", (status, ended, self.row.number)
        taken = [*self._take(), row]
        try:
            self._file.write(taken + self._figures())
        except StateUnavailable:
            self._pending = taken  # for `items`
            raise

    @asynccontextmanager
    async def written(self, on_warning: Callable[[str], None]) -> AsyncIterator[None]:
        """The block during which notes are written to disk. A failing disk is reported once."""
        is_over = asyncio.Event()
        writing = asyncio.ensure_future(self._write_often(is_over, on_warning))
        try:
            yield
        finally:
            is_over.set()
            await writing

    async def _write_often(self, is_over: asyncio.Event, on_warning: Callable[[str], None]) -> None:
        has_told = False
        while not is_over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), WRITE_EVERY_S)
            taken = self._take()
            try:
                await asyncio.to_thread(self._file.write, taken + self._figures())
            except StateUnavailable as error:
                self._pending = [*taken, *self._pending][-MOST_PENDING:]
                if not has_told:
                    on_warning(f"what is done is not noted, and would be looked at again: {error}")
                has_told = True

    def _take(self) -> list[Statement]:
        taken, self._pending = self._pending, []
        return taken


@contextmanager
def open_state(
    folder: Path | None, file: str, content: str, pairs: Sequence[PairName], *, failed: bool = False
) -> Iterator[RunState]:
    """The run of a migration file whose content after variables has the digest `content`. Blocks.

    The newest run of that content is resumed if it has not ended; else a new one begins. `failed`: one that
    repeats what failed in the newest run. Without `folder` it leaves nothing behind. Raises
    `StateUnavailable`, and `InvalidOption` when another process works on it or there is nothing to repeat.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossdock-")))
        runs = RunFile(folder)
        stack.callback(runs.close)
        lock = runs.lock(content)
        if lock is None:
            raise _in_use(runs.latest(content), file)
        stack.callback(lock.release)
        row = runs.unfinished(content, repeats=failed)
        is_resumed = row is not None and len(runs.pairs(row.number)) == len(pairs)
        if row is None or not is_resumed:
            row = _begin(runs, file, content, pairs, failed=failed)
        else:
            _go_on(runs, row, file)
        yield RunState(runs, row, is_resumed=is_resumed)


def _begin(runs: RunFile, file: str, content: str, pairs: Sequence[PairName], *, failed: bool) -> RunRow:
    before = runs.latest(content)
    if failed and before is None:
        raise InvalidOption(
            f"no run of {file} is known, so there is nothing that failed",
            advice=Advice("apply-whole", "apply the whole file; a file that was changed is another one"),
        )
    assert not failed or before is not None
    run, now = os.urandom(4).hex(), time.time()
    columns = (run, file, content, before.id if failed and before is not None else "", now)
    runs.write(
        [
            # Of earlier runs only what was not done is of use.
            *(
                (
                    f"DELETE FROM {table} WHERE run IN (SELECT number FROM run WHERE content = ?){also}",
                    (content, *more),
                )
                for table, also, more in (
                    ("repository", "", ()),
                    ("item", f" AND outcome IN ({', '.join('?' * len(SETTLED))})", SETTLED),
                )
            ),
            (
                "INSERT INTO run (id, file, content, repeats, started, status, totals) "
                "VALUES (?, ?, ?, ?, ?, 'running', '{}')",
                columns,
            ),
        ]
    )
    found = runs.latest(content)
    assert found is not None
    runs.write(
        [
            ("INSERT INTO pair VALUES (?, ?, ?, ?, ?, '{}')", (found.number, number, *pair))
            for number, pair in enumerate(pairs)
        ]
    )
    return found


def _go_on(runs: RunFile, row: RunRow, file: str) -> None:
    """Reopen the run: items that failed or were left are removed, so that they are tried again."""
    statements: list[Statement] = [
        ("DELETE FROM item WHERE run = ? AND outcome IN ('failed', 'left')", (row.number,)),
        ("UPDATE run SET status = 'running', file = ? WHERE number = ?", (file, row.number)),
    ]
    for pair in runs.pairs(row.number):
        totals = json.dumps({**pair.totals, "failed": 0})
        statements.append(
            ("UPDATE pair SET totals = ? WHERE run = ? AND number = ?", (totals, row.number, pair.number))
        )
    runs.write(statements)


def _in_use(row: RunRow | None, file: str) -> InvalidOption:
    run = f"run {row.id} of {row.file}" if row is not None else f"a run of {file}"
    return InvalidOption(
        f"{run} is under way in another process",
        advice=Advice("wait-for-run", "wait until it has ended, or stop that process; then it resumes here"),
    )
