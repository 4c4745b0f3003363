"""The loop over the copies of a run: workers, abandoned registries, fail-fast, results.

One copy that fails does not end the others. A registry that lets every copy fail for a minute is given up for
the rest of the run: else a list of thousands would wait for thousands of time-outs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from crossdock.descriptors import affordable
from crossdock.errors import InvalidOption
from crossdock.events import CopyFailed, Warned, ignore
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.pairs import Pair, Pairs
from crossdock.runs.places import Shared
from crossdock.runs.reach import Reach
from crossdock.runs.results import (
    ManyResult,
    PairResult,
    Status,
    TargetsResult,
    status_of_error,
    unended,
    without_traceback,
)
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.tally import Tally
from crossdock.tasks import run_each, run_together

if TYPE_CHECKING:
    from crossdock.runs.oneread import OneRead

AT_ONCE = 32
"""Images under way at once: as many as the small requests that one host is sent at first (`gate`). More would
open connections that a near host does not need. What moves bytes has bounds of its own."""

Job = TypeVar("Job")
ResultListener = Callable[[int, PairResult], None]


class FailedFast(Exception):
    """Ends the other workers."""


class Runner:
    """The copies of one run, each by its index. Every one that ends is given to `on_result`, once."""

    def __init__(self, watchers: Watchers, on_result: ResultListener, *, fail_fast: bool = False) -> None:
        self._watchers = watchers
        self._on_result = on_result
        self._fail_fast = fail_fast
        self.reach = Reach()
        self.begun: set[int] = set()
        """The copies under way."""

    async def work(
        self,
        take: Callable[[], Awaitable[Job | None]],
        do: Callable[[Job], Awaitable[None]],
        workers: int,
        beside: Iterable[Coroutine[Any, Any, None]] = (),
    ) -> bool:
        """`do` each job from `take` until it gives None to every worker; False: the run failed fast."""

        async def work() -> None:
            while (job := await take()) is not None:
                await do(job)

        try:
            await run_together([*beside, *(work() for _ in range(workers))])
        except FailedFast:
            return False
        return True

    async def copy(
        self,
        index: int,
        pair: Pair,
        copy: Callable[[Tally], Awaitable[CopyResult]],
        *,
        status_of: Callable[[CopyResult], Status] = lambda it: "copied" if it.changed else "unchanged",
        error_status: Callable[[Exception], Status] = lambda error: "failed",
        tally: Tally | None = None,
    ) -> None:
        """Make one copy, unless one of its registries was abandoned. Raises only `FailedFast` itself.

        An error is no failure if `error_status` says so. `tally` gets the figures.
        """
        self.begun.add(index)
        source, target = str(pair[0]), str(pair[1])
        if (given_up := self.reach.error_for(pair)) is not None:
            self.fail(index, source, target, given_up)
            await asyncio.sleep(0)  # a copy that fails without waiting lets the others proceed
            return
        try:
            result = await self._watchers.follow(index, source, target, tally or Tally(ignore), copy)
        except Exception as error:
            if (status := error_status(error)) != "failed":
                kept = without_traceback(error)
                if status == "reported":
                    self._watchers.tell(index, source, target, Warned(str(error)))
                self.end(index, PairResult(source=source, target=target, status=status, error=kept))
                return
            self.reach.missed(pair, error)
            self.fail(index, source, target, error)
            await asyncio.sleep(0)
            return
        self.reach.reached(pair)
        status = status_of(result)
        self.end(index, PairResult(source=result.source, target=result.target, status=status, result=result))

    def fail(self, index: int, source: str, target: str, error: Exception) -> None:
        """The copy has failed. Raises `FailedFast`."""
        self._watchers.tell(index, source, target, CopyFailed(source, target, error))
        self.end(
            index, PairResult(source=source, target=target, status="failed", error=without_traceback(error))
        )
        if self._fail_fast:
            raise FailedFast

    def end(self, index: int, result: PairResult) -> None:
        """The copy has ended."""
        totals = self._watchers.totals
        if result.status == "failed":
            totals.images_failed += 1
        else:
            totals.images_done += 1
        self._on_result(index, result)
        self.begun.discard(index)


class ManyCopy:
    """A run of copies of a list (`run.Work`)."""

    def __init__(self, pairs: Pairs, *, fail_fast: bool = False, at_once: int = AT_ONCE) -> None:
        """`pairs` have been checked. Raises `InvalidOption`; no I/O."""
        if at_once < 1:
            raise InvalidOption("at_once must be 1 or more")
        self.totals = Totals(images=len(pairs))
        self._pairs = pairs
        self._fail_fast = fail_fast
        self._at_once = at_once
        self._results: dict[int, PairResult] = {}
        self._begun: set[int] = set()
        self._reads: dict[int, OneRead] = {}  # lines with several targets that are under way
        self._lines: dict[int, TargetsResult] = {}  # and those that have ended

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Copy every pair. Raises `InvalidInput` before anything is sent. # network"""
        for source, target in self._pairs:
            shared.places.prepare(source, "source")
            shared.places.prepare(target, "target")
        runner = Runner(watchers, self._results.__setitem__, fail_fast=self._fail_fast)
        self._begun = runner.begun

        async def do(line: range) -> None:
            if len(line) > 1:
                await self._copy_line(line, runner, shared)
                return
            pair = self._pairs[line.start]
            await runner.copy(
                line.start,
                pair,
                partial(copy_one, CopySpec(*pair), shared),
                error_status=partial(status_of_error, existing=shared.options.existing),
            )

        # A layout has its folders, lock and unfinished blobs open while a copy goes there.
        workers = min(affordable(self._at_once, per=8), len(self._pairs))
        with suppress(FailedFast):
            await run_each(self._pairs.lines(), do, workers)

    def result(self) -> ManyResult:
        """The result so far."""
        copies = tuple(
            self._results.get(index) or unended(*pair, begun=index in self._begun)
            for index, pair in enumerate(self._pairs)
        )
        lines = {
            line.start: self._lines.get(line.start) or self._line_so_far(line)
            for line in self._pairs.lines()
            if len(line) > 1
        }
        return ManyResult(copies=copies, seconds=self.totals.seconds, lines=lines)

    async def _copy_line(self, line: range, runner: Runner, shared: Shared) -> None:
        """Copy the source of a line to its targets, reading it once."""
        started = self.totals.seconds
        read = self._reads[line.start] = self._read_of(line)
        await read.run(runner, shared)
        self._lines[line.start] = read.result(self._results, self.totals.seconds - started)
        del self._reads[line.start]

    def _read_of(self, line: range) -> OneRead:
        from crossdock.runs.oneread import OneRead  # needed for few lists

        return OneRead([CopySpec(*self._pairs[index]) for index in line], line.start)

    def _line_so_far(self, line: range) -> TargetsResult:
        read = self._reads.get(line.start) or self._read_of(line)
        return read.result(self._results, self.totals.seconds)
