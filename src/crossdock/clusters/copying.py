"""A list of copies made by the workers of a cluster. A job is some lines of the list."""

from __future__ import annotations

from msgspec import Struct

from crossdock.clusters.dask import open_cluster
from crossdock.clusters.groups import Item, Job
from crossdock.clusters.place import ClusterPlace
from crossdock.clusters.telling import TOLD
from crossdock.errors import Advice, InvalidOption
from crossdock.events import CopyFailed, Event, Warned
from crossdock.oci.reference import Reference
from crossdock.runs.pairs import Pairs
from crossdock.runs.places import Shared
from crossdock.runs.results import PairResult, TargetsResult, without_traceback
from crossdock.runs.run import Watchers
from crossdock.runs.runner import ManyCopy


class CopyUnit(Struct):
    """A unit of a list (`bench.Unit`): pairs with their index in the list and the number of their line."""

    pairs: list[tuple[int, Reference, Reference, int]]
    fail_fast: bool

    def begin(self) -> Copied:
        """As `bench.Unit.begin`."""
        return Copied(self)


class CopyNews(Struct):
    """The progress of a unit since its last report, by the index in the list."""

    results: dict[int, PairResult]
    lines: dict[int, TargetsResult]
    events: list[tuple[int, Event]]


class Copied:
    """A unit that is worked on (`bench.Doing`)."""

    def __init__(self, unit: CopyUnit) -> None:
        pairs = Pairs()
        for _, source, target, number in unit.pairs:
            pairs.add(source, target, number)
        self.work = _UnitCopy(pairs, fail_fast=unit.fail_fast)
        self._indices = [index for index, *_ in unit.pairs]
        self._events: list[tuple[int, Event]] = []

    def listen(self, index: int, event: Event) -> None:
        """As `bench.Doing.listen`."""
        if isinstance(event, TOLD):
            self._events.append((self._indices[index] if index >= 0 else -1, event))

    def news(self) -> CopyNews:
        """As `bench.Doing.news`."""
        events, self._events = self._events, []
        results, lines = self.work.take()
        return CopyNews(
            {self._indices[index]: result for index, result in results.items()},
            {self._indices[index]: result for index, result in lines.items()},
            events,
        )


class _UnitCopy(ManyCopy):
    """The copies of a unit."""

    def take(self) -> tuple[dict[int, PairResult], dict[int, TargetsResult]]:
        """The results since the last call. A line with several targets ends as a whole."""
        results: dict[int, PairResult] = {}
        lines, self._lines = self._lines, {}
        for line in self._pairs.lines():
            if len(line) == 1 or line.start in lines:
                results |= {index: self._results.pop(index) for index in line if index in self._results}
        return results, lines


class ClusterCopy(ManyCopy):
    """As `ManyCopy`, on the workers of a cluster (`dask.ClusterRun`)."""

    def __init__(self, pairs: Pairs, place: ClusterPlace, *, fail_fast: bool = False) -> None:
        """`pairs` and `place` were checked. Raises `InvalidOption` for files of this machine; no I/O."""
        super().__init__(pairs, fail_fast=fail_fast)
        for each in (end for pair in pairs for end in pair):
            if not isinstance(each, Reference):
                raise InvalidOption(
                    f"a cluster copies from registry to registry, and {each} is a file",
                    advice=Advice("omit-option", "copy it on one machine"),
                )
        self._place = place
        self._watchers = Watchers(self.totals)

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """As `ManyCopy.run`. Raises `InvalidOption` for a cluster that cannot be used. # network"""
        self._watchers = watchers
        registries = list({target.registry for _, target in self._pairs if isinstance(target, Reference)})

        def warn(message: str) -> None:
            watchers.tell(-1, "", "", Warned(message))

        for source, target in self._pairs:
            shared.places.prepare(source, "source")
            shared.places.prepare(target, "target")
        if not len(self._pairs):
            return
        async with open_cluster(self._place, self, shared, registries, warn) as cluster:
            await cluster.do(map(self._item, self._pairs.lines()), finds=False)

    def _item(self, line: range) -> Item:
        pairs = [self._pairs[index] for index in line]
        ends = [end for pair in pairs for end in pair if isinstance(end, Reference)]
        targets = frozenset(target.place for _, target in pairs)
        return Item(line, targets, frozenset(each.registry for each in ends))

    def unit_of(self, job: Job) -> CopyUnit | None:
        """As `dask.ClusterRun.unit_of`."""
        left = [(index, line.start) for line in job.keys for index in line if index not in self._results]
        pairs = [
            (index, source, target, number)
            for index, number in left
            for source, target in (self._pairs[index],)
            if isinstance(source, Reference) and isinstance(target, Reference)
        ]
        return CopyUnit(pairs, self._fail_fast) if pairs else None

    def take(self, job: Job, news: CopyNews) -> bool:
        """Record the work that a worker reports as if it had been done here; whether the run continues."""
        for index, event in news.events:
            source, target = map(str, self._pairs[index]) if index >= 0 else ("", "")
            if index >= 0:
                self._begun.add(index)
            self._watchers.tell(index, source, target, event)
        self._results |= news.results
        self._lines |= news.lines
        self._begun -= news.results.keys()
        return not (self._fail_fast and any(each.status == "failed" for each in news.results.values()))

    def fail(self, job: Job, error: Exception) -> None:
        """Report the rest of a job as failed: one failure for each of its copies."""
        error = without_traceback(error)
        for index in (index for line in job.keys for index in line if index not in self._results):
            source, target = map(str, self._pairs[index])
            self._results[index] = PairResult(source=source, target=target, status="failed", error=error)
            self.totals.images_failed += 1
            self._watchers.tell(index, source, target, CopyFailed(source, target, error))
