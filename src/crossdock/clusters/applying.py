"""An apply whose repositories are copied by the workers of a cluster, while its state stays here.

The client lists the repositories and checks them, as on one machine, and deletes at the end. A job is some
repositories: a worker applies the file to these alone, and reports the outcome of each name.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from msgspec import Struct

from crossdock.clusters.dask import Cluster, open_cluster
from crossdock.clusters.groups import Item, Job, items_of
from crossdock.clusters.place import ClusterPlace
from crossdock.clusters.telling import TOLD
from crossdock.events import Event, Warned
from crossdock.migration.apply import ApplyRun
from crossdock.migration.deleting import Seen, TargetDeletes
from crossdock.migration.file import MigrationFile
from crossdock.migration.planfile import PlannedRepository
from crossdock.migration.runfile import SETTLED, kind_and_reason
from crossdock.migration.runfile import Item as Note
from crossdock.migration.state import RunState
from crossdock.migration.totals import FIGURES
from crossdock.mirroring.views import Problem, RepositoryView, TargetView
from crossdock.runs.places import Shared
from crossdock.runs.run import Watchers
from crossdock.units import count

Planned = Sequence[Mapping[str, PlannedRepository]]
PairRepository = tuple[int, str]


class ApplyUnit(Struct):
    """The repositories of each entry, and the names that are done there (`bench.Unit`)."""

    file: MigrationFile
    names: list[list[str]]
    settled: dict[PairRepository, dict[str, str]]
    only: list[dict[str, list[str]]] | None = None
    planned: list[dict[str, PlannedRepository]] | None = None

    def begin(self) -> Applied:
        """As `bench.Unit.begin`."""
        return Applied(self)


class ApplyNews(Struct):
    """The progress of a unit since its last report. Figures are differences."""

    notes: list[Note]
    whole: list[PairRepository]
    totals: list[dict[str, int]]
    problems: list[list[Problem]]
    failures: int
    errors: list[Exception]
    others: list[Exception]
    moved: dict[str, int]
    seen: list[tuple[int, Seen]]
    told: list[tuple[str, str, Event]]


class _UnitState:
    """The state of a run as one unit sees it (`RunState`). Notes are sent to the client."""

    id = "unit"
    is_resumed = True
    seconds = 0.0
    requests = 0

    def __init__(self, unit: ApplyUnit) -> None:
        self.totals = [dict.fromkeys(FIGURES, 0) for entry in unit.file.entries for _ in entry.targets]
        self.notes: list[Note] = []
        self.whole: list[PairRepository] = []
        self._settled = unit.settled

    def count_requests(self, count: Callable[[], int]) -> None:
        pass

    def is_whole(self, pair: int, repository: str) -> bool:
        return False

    def settled(self, pair: int, repository: str) -> Mapping[str, str]:
        return self._settled.get((pair, repository), {})

    def note(self, item: Note) -> None:
        self.notes.append(item)

    def note_repository(self, pair: int, repository: str) -> None:
        self.whole.append((pair, repository))

    async def missing_since(self, source: str, target: str, tags: frozenset[str]) -> Mapping[str, float]:
        return {}

    @asynccontextmanager
    async def written(self, on_warning: Callable[[str], None]) -> AsyncIterator[None]:
        yield

    def end(self, status: str) -> None:
        pass


class _SeenDeletes(TargetDeletes):
    """Notes what a target's lists say, for the client to decide on."""

    pair: int
    seen: list[tuple[int, Seen]]

    async def look(self, view: RepositoryView, there: TargetView, first_missing: object) -> None:
        self.seen.append((self.pair, self.see(view, there)))

    async def run(self, places: object) -> None:
        pass


class Applied:
    """A unit that is worked on (`bench.Doing`)."""

    def __init__(self, unit: ApplyUnit) -> None:
        self._state = _UnitState(unit)
        self._told: list[tuple[str, str, Event]] = []
        self.work = _UnitRun(unit, self._state)
        self.work.on_warning = lambda message: self._told.append(("", "", Warned(message)))
        self._book = self.work.book

    def listen(self, index: int, event: Event) -> None:
        """As `bench.Doing.listen`."""
        if isinstance(event, TOLD):
            self._told.append((*self.work.window[index], event) if index >= 0 else ("", "", event))

    def news(self) -> ApplyNews:
        """As `bench.Doing.news`."""
        state, book = self._state, self._book
        news = ApplyNews(
            notes=state.notes,
            whole=state.whole,
            totals=state.totals,
            problems=book.problems,
            failures=book.failures,
            errors=book.errors,
            others=book.others,
            moved=book.moved,
            seen=list(self.work.seen),
            told=self._told,
        )
        state.notes, state.whole, self._told = [], [], []
        state.totals = [dict.fromkeys(each, 0) for each in state.totals]
        book.problems, book.failures = [[] for _ in book.problems], 0
        book.errors, book.others, book.moved = [], [], {}
        self.work.seen.clear()
        return news


class _UnitRun(ApplyRun):
    """An apply of a unit: what is to be deleted, the client decides by what was `seen`."""

    def __init__(self, unit: ApplyUnit, state: _UnitState) -> None:
        super().__init__(
            unit.file, cast("RunState", state), only=unit.only, planned=unit.planned, names=unit.names
        )
        self.seen: list[tuple[int, Seen]] = []
        pairs = itertools.count()
        self._deletes = [
            [
                _SeenDeletes(entry=entry, target=str(target), pair=next(pairs), seen=self.seen)
                for target in entry.targets
            ]
            for entry in unit.file.entries
        ]

    def _is_shared(self, there: TargetView) -> bool:
        return False

    async def _find_planned_deletes(self, places: object) -> None:
        pass


class ClusterApply(ApplyRun):
    """As `ApplyRun`, with the copies made by a cluster (`dask.ClusterRun`)."""

    def __init__(
        self,
        file: MigrationFile,
        state: RunState,
        *,
        place: ClusterPlace,
        only: Any = None,
        planned: Planned | None = None,
    ) -> None:
        """`place` was checked. No I/O."""
        super().__init__(file, state, only=only, planned=planned)
        self._place = place
        self._cluster: Cluster | None = None
        self._watchers = Watchers(self.totals)
        self._whole: set[PairRepository] = set()
        self._seen: dict[PairRepository, Seen] = {}
        numbers = itertools.count()
        self._pairs = [[next(numbers) for _ in entry.targets] for entry in file.entries]

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """As `ApplyRun.run`. Raises `InvalidOption` for a cluster that cannot be used. # network"""
        self._watchers = watchers
        registries = [target.registry for entry in self._file.entries for target in entry.targets]
        async with open_cluster(self._place, self, shared, registries, self._warn) as cluster:
            self._cluster = cluster
            await super().run(shared, watchers)

    async def _copy(self, shared: Shared, watchers: Watchers) -> None:
        assert self._cluster is not None
        await self._cluster.do(await self._items())
        await self._note_seen()

    async def _items(self) -> list[Item]:
        """The repositories in which anything is left to do."""
        items: list[Item] = []
        for number, entry in enumerate(self._file.entries):
            deletes = entry.deletes.mode != "off" and self._planned is None
            names = await self._surveys[number].repositories() if number not in self._unlisted else []
            left = [each for each in names if self.book.settled(number, each, whole=not deletes) is not None]
            planned = self._planned[number] if self._planned is not None else {}
            items += items_of(number, entry, left, {name: each.bytes for name, each in planned.items()})
        return items

    def _names_of(self, job: Job) -> list[list[str]]:
        """The repositories of a job, by entry."""
        return [[name for of, name in job.keys if of == number] for number in range(len(self._file.entries))]

    def unit_of(self, job: Job) -> ApplyUnit | None:
        """As `dask.ClusterRun.unit_of`."""
        names: list[list[str]] = []
        settled: dict[PairRepository, dict[str, str]] = {}
        for pairs, chosen in zip(self._pairs, self._names_of(job), strict=True):
            left = [each for each in chosen if not all((pair, each) in self._whole for pair in pairs)]
            names.append(left)
            for place in ((pair, name) for pair in pairs for name in left):
                settled[place] = {**self._state.settled(*place), **job.settled.get(place, {})}
        if not any(names):
            return None
        only = planned = None
        if self._only is not None:
            only = [
                {name: list(of[name]) for name in some} for of, some in zip(self._only, names, strict=True)
            ]
        if self._planned is not None:
            planned = [
                {name: of[name] for name in some} for of, some in zip(self._planned, names, strict=True)
            ]
        return ApplyUnit(self._file, names, settled, only, planned)

    # -- reports of workers --------------------------------------------------------------------------------

    def take(self, job: Job, news: ApplyNews) -> bool:
        """Record the work that a worker reports as if it had been done here. The run always continues."""
        for note in news.notes:
            self._state.note(note)
            # What has failed is not tried again in the same run.
            if note.outcome in SETTLED or (note.outcome == "failed" and note.name):
                job.settled.setdefault((note.pair, note.repository), {})[note.name] = note.digest
        for pair, name in news.whole:
            self._state.note_repository(pair, name)
        self._whole.update(news.whole)
        for mine, more in zip(self._state.totals, news.totals, strict=True):
            for name, value in more.items():
                mine[name] += value
        book = self.book
        for problems, new in zip(book.problems, news.problems, strict=True):
            problems += new
        book.failures += news.failures
        book.errors += news.errors
        book.others += news.others
        for name, value in news.moved.items():
            book.moved[name] = book.moved.get(name, 0) + value
        self._seen.update({(pair, seen.name): seen for pair, seen in news.seen})
        for source, target, event in news.told:
            index = self.window.add((source, target), 0) if source else -1
            self._watchers.tell(index, source, target, event)
            self.window.end(index)
        return True

    def fail(self, job: Job, error: Exception) -> None:
        """Report the rest of a job as failed: one failure for each of its repositories."""
        left = [
            (pair, name)
            for pairs, names in zip(self._pairs, self._names_of(job), strict=True)
            for pair in pairs
            for name in names
            if (pair, name) not in self._whole
        ]
        why = kind_and_reason(error)
        for pair, name in left:
            self._state.note(Note(pair, name, "", "", "failed", *why))
            self._state.totals[pair]["failed"] += 1
            self.book.fail(error)
        self._warn(f"{count(len(left), 'repository', 'repositories')} failed: {error}")

    # -- deletes -------------------------------------------------------------------------------------------

    async def _note_seen(self) -> None:
        """Note the tags to delete according to the lists that workers saw. # disk"""
        of_pair = [(number, each) for number, of_entry in enumerate(self._deletes) for each in of_entry]
        for (pair, _), seen in self._seen.items():
            number, deletes = of_pair[pair]
            if seen.repository is not None and seen.repository.locator in self._shared:
                self._tell_of_shared(number, seen.repository.locator)
                continue
            await deletes.note(seen, self._state.missing_since)
        self._seen.clear()
