"""A mirror whose repositories are copied by the workers of a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from msgspec import Struct

from crossdock.clusters.dask import Cluster, open_cluster
from crossdock.clusters.groups import Job, items_of
from crossdock.clusters.place import ClusterPlace
from crossdock.clusters.telling import TOLD
from crossdock.errors import NothingMatched
from crossdock.events import Event
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.outcomes import Names
from crossdock.mirroring.run import MirrorResult, MirrorRun
from crossdock.mirroring.survey import Survey
from crossdock.mirroring.views import RepositoryView
from crossdock.options import CopyOptions
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import PairResult, unended, without_traceback
from crossdock.runs.run import Watchers
from crossdock.units import count

TargetRepository = tuple[int, str]
"""The number of a target, and a repository's name below the source's prefix."""


class MirrorUnit(Struct):
    """Repositories, and the names that are done there (`bench.Unit`)."""

    entry: Entry
    names: list[str]
    settled: dict[TargetRepository, frozenset[str]]
    fail_fast: bool

    def begin(self) -> Mirrored:
        """As `bench.Unit.begin`."""
        return Mirrored(self)


class MirrorNews(Struct):
    """The progress of a unit since its last report."""

    pairs: dict[int, tuple[str, str]]
    """Source and target of each copy that this report is about."""
    events: list[tuple[int, Event]]
    results: list[tuple[int, PairResult]]
    settled: list[tuple[int, str, list[str]]]
    tags: dict[str, int]
    warnings: list[str]


class _UnitMirror(MirrorRun):
    """The mirror of a unit, which notes the copies that end."""

    def __init__(self, unit: MirrorUnit) -> None:
        super().__init__(unit.entry, CopyOptions(), fail_fast=unit.fail_fast)
        self._unit = unit
        self.results: list[tuple[int, PairResult]] = []
        self.settled: list[tuple[int, str, list[str]]] = []
        self.tags: dict[str, int] = {}

    async def _listed(self, places: Places) -> tuple[Survey, list[str]]:
        names, settled, targets = self._unit.names, self._unit.settled, range(len(self.entry.targets))
        self._survey = survey = Survey(
            self.entry,
            places,
            names=names,
            settled=lambda name: tuple(settled.get((each, name), frozenset()) for each in targets),
            on_warning=self._warn,
        )
        return survey, names

    async def _views(self, number: int) -> AsyncGenerator[RepositoryView, None]:
        async with aclosing(super()._views(number)) as views:
            async for view in views:
                self.tags[view.name] = len(view.names)
                yield view

    def unchanged(self, names: Names) -> None:
        super().unchanged(names)
        self._settle(names)

    def ended(self, names: Names, result: PairResult) -> None:
        super().ended(names, result)
        self._settle(names)

    def _settle(self, names: Names) -> None:
        self.settled.append((names.place.target, names.place.name, [*names.indices]))

    def _end(self, index: int, result: PairResult) -> None:
        self.results.append((index, result))


class Mirrored:
    """A unit that is worked on (`bench.Doing`)."""

    def __init__(self, unit: MirrorUnit) -> None:
        self.work = _UnitMirror(unit)
        self._warnings: list[str] = []
        self.work.on_warning = self._warnings.append
        self._pairs: dict[int, tuple[str, str]] = {}
        self._events: list[tuple[int, Event]] = []

    def listen(self, index: int, event: Event) -> None:
        """As `bench.Doing.listen`."""
        if isinstance(event, TOLD):
            self._events.append((index, event))
            self._pairs[index] = self.work.window[index]

    def news(self) -> MirrorNews:
        """As `bench.Doing.news`."""
        work = self.work
        self._pairs |= {index: (result.source, result.target) for index, result in work.results}
        news = MirrorNews(
            self._pairs, self._events, work.results, work.settled, work.tags, list(self._warnings)
        )
        self._pairs, self._events = {}, []
        work.results, work.settled, work.tags = [], [], {}
        self._warnings.clear()
        return news


class ClusterMirror(MirrorRun):
    """As `MirrorRun`, on the workers of a cluster (`dask.ClusterRun`)."""

    place: ClusterPlace
    """Checked, and set before the run."""
    _cluster: Cluster

    def __init__(self, *given: Any, **options: Any) -> None:
        """As `MirrorRun`."""
        super().__init__(*given, **options)
        self._counted: set[str] = set()  # repositories whose tags were counted

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """As `MirrorRun.run`. Raises `InvalidOption` for a cluster that cannot be used. # network"""
        registries = [target.registry for target in self.entry.targets]
        async with open_cluster(self.place, self, shared, registries, self._warn) as cluster:
            self._cluster = cluster
            await super().run(shared, watchers)
        if self._nothing is not None and self._repositories:
            where = f"the {count(self._repositories, 'repository', 'repositories')} of {self.entry.source}"
            self._nothing = NothingMatched(f"nothing to mirror: {where} have no tag that is chosen")

    async def _copy(self, shared: Shared, names: list[str]) -> bool:
        return await self._cluster.do(items_of(0, self.entry, names))

    def unit_of(self, job: Job) -> MirrorUnit:
        """As `dask.ClusterRun.unit_of`."""
        for index in job.indices.values():  # of a worker that was lost
            self.window.end(index)
        job.indices.clear()
        settled = {place: frozenset(names) for place, names in job.settled.items()}
        return MirrorUnit(self.entry, [name for _, name in job.keys], settled, self._fail_fast)

    def take(self, job: Job, news: MirrorNews) -> bool:
        """Record the work that a worker reports as if it had been done here; whether the run continues."""
        for target, name, names in news.settled:
            job.settled.setdefault((target, name), set()).update(names)
        for theirs, pair in news.pairs.items():
            if theirs >= 0 and theirs not in job.indices:
                job.indices[theirs] = self.window.add(pair, 0)
        for theirs, event in news.events:
            index = job.indices.get(theirs, -1)
            self._watchers.tell(index, *news.pairs.get(theirs, ("", "")), event)
        for theirs, result in news.results:
            index = job.indices.pop(theirs)
            self._end(index, result)
            self.window.end(index)
        for name, tags in news.tags.items():
            if name not in self._counted:  # after a lost worker the next lists only what is left
                self._counted.add(name)
                self._tags += tags
        for warning in news.warnings:
            self._warn(warning)
        return not (self._fail_fast and any(result.status == "failed" for _, result in news.results))

    def fail(self, job: Job, error: Exception) -> None:
        """Report a job as failed: one failure for each of its repositories and targets."""
        error = without_traceback(error)
        for _, name in job.keys:
            for target in self.entry.targets:
                source = str(self.entry.source_reference(name))
                there = str(self.entry.target_reference(target, name))
                index = self.window.add((source, there))
                self.totals.images_failed += 1
                self._end(index, PairResult(source=source, target=there, status="failed", error=error))
                self.window.end(index)

    def result(self) -> MirrorResult:
        """As `MirrorRun.result`."""
        left = tuple(unended(*pair, begun=True) for pair in self.window.pairs())
        return replace(super().result(), unfinished=left)
