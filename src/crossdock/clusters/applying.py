"""An apply whose repositories are copied by the workers of a cluster, while its state stays here.

The client lists the repositories and checks them, as on one machine. A unit is some repositories: a worker
applies the file to these alone, and returns what became of each name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from msgspec import Struct

from crossdock.activity import Activity
from crossdock.clusters.dask import Cluster, ClusterPlace, cancellable, open_cluster, require_dask
from crossdock.errors import Advice, InvalidOption
from crossdock.events import CopyFailed, Event, Warned, ignore
from crossdock.migration.apply import ApplyRun
from crossdock.migration.file import MigrationFile
from crossdock.migration.planfile import PlannedRepository
from crossdock.migration.runfile import Outcome
from crossdock.migration.state import RunState
from crossdock.migration.totals import FIGURES
from crossdock.mirroring.shard import Shard, Weight, repository_name
from crossdock.mirroring.views import Problem
from crossdock.options import CopyOptions
from crossdock.runs.places import Shared
from crossdock.runs.run import Watchers
from crossdock.session import Session
from crossdock.tally import Tally
from crossdock.units import count

UNITS_PER_SLOT = 8  # few enough that repositories of a unit share connections, many enough to end together
Note = tuple[int, str, str, str, Outcome, BaseException | None]
Planned = Sequence[Mapping[str, PlannedRepository]]


class Unit(Struct):
    """What a worker is sent: of each entry the repositories, and the names that are done there."""

    run: str
    file: MigrationFile
    options: CopyOptions
    names: list[list[str]]
    settled: dict[tuple[int, str], Mapping[str, str]]
    only: list[dict[str, list[str]]] | None = None
    planned: list[dict[str, PlannedRepository]] | None = None


class Done(Struct):
    """What a worker returns."""

    notes: list[Note]
    whole: list[tuple[int, str]]
    totals: list[dict[str, int]]
    problems: list[list[Problem]]
    failures: int
    errors: list[Exception]
    others: list[Exception]
    moved: dict[str, int]
    images: tuple[int, int, int]  # found, done, failed
    figures: dict[str, int]
    requests: int
    told: list[tuple[str, str, Event]]


class _UnitState:
    """The state of a run as one unit sees it (`RunState`): what is noted goes back to the client."""

    id = "unit"
    is_resumed = True
    seconds = 0.0

    def __init__(self, unit: Unit) -> None:
        self.totals = [dict.fromkeys(FIGURES, 0) for entry in unit.file.entries for _ in entry.targets]
        self.notes: list[Note] = []
        self.whole: list[tuple[int, str]] = []
        self._settled = unit.settled
        self._requests: Callable[[], int] = lambda: 0

    @property
    def requests(self) -> int:
        return self._requests()

    def count_requests(self, count: Callable[[], int]) -> None:
        self._requests = count

    def is_whole(self, pair: int, repository: str) -> bool:
        return False

    def settled(self, pair: int, repository: str) -> Mapping[str, str]:
        return self._settled.get((pair, repository), {})

    def note(self, *note: Any) -> None:
        self.notes.append(cast("Note", note if len(note) == 6 else (*note, None)))

    def note_repository(self, pair: int, repository: str) -> None:
        self.whole.append((pair, repository))

    async def missing_since(self, source: str, target: str, tags: frozenset[str]) -> Mapping[str, float]:
        return {}

    @asynccontextmanager
    async def written(self, on_warning: Callable[[str], None]) -> AsyncIterator[None]:
        yield

    def end(self, status: str) -> None:
        pass


def work(unit: Unit) -> Done:
    """Apply a unit. Runs in a worker's thread."""
    return cancellable(unit.run, _apply(unit))


async def _apply(unit: Unit) -> Done:
    state = _UnitState(unit)
    applying = ApplyRun(
        unit.file, cast("RunState", state), only=unit.only, planned=unit.planned, names=unit.names
    )
    told: list[tuple[str, str, Event]] = []

    def listen(index: int, event: Event) -> None:
        if isinstance(event, CopyFailed | Warned):
            told.append((*applying.window[index], event) if index >= 0 else ("", "", event))

    applying.on_warning = lambda message: told.append(("", "", Warned(message)))
    async with Session(unit.options) as session:
        await session.start(applying, listen)
    totals = applying.totals
    book = applying.book
    names = ("bytes_found", "bytes_done", "bytes_skipped", "bytes_mounted", "retries")
    return Done(
        notes=state.notes,
        whole=state.whole,
        totals=state.totals,
        problems=book.problems,
        failures=book.failures,
        errors=book.errors,
        others=book.others,
        moved=book.moved,
        images=(totals.images_found, totals.images_done, totals.images_failed),
        figures={name: getattr(totals, name) for name in names},
        requests=totals.requests,
        told=told,
    )


def check(place: ClusterPlace, file: MigrationFile, options: CopyOptions) -> None:
    """Raise `InvalidOption` for what a cluster cannot do, or may not be sent. No I/O."""
    require_dask()
    sides = (options.source, options.target)
    place.check(secrets=any(each.knows_who for each in sides))
    if any(entry.deletes.mode != "off" for entry in file.entries):
        raise InvalidOption(
            "a cluster deletes nothing, and the file has delete",
            advice=Advice("omit-option", "apply it on one machine, or without delete"),
        )


class ClusterApply(ApplyRun):
    """As `ApplyRun`, with the copies made by a cluster."""

    def __init__(
        self,
        file: MigrationFile,
        state: RunState,
        *,
        place: ClusterPlace,
        options: CopyOptions,
        only: Any = None,
        planned: Planned | None = None,
    ) -> None:
        """`place` and the file were checked (`check`). No I/O."""
        super().__init__(file, state, only=only, planned=planned)
        self._place, self._options = place, options

    async def _copy(self, shared: Shared, watchers: Watchers) -> None:
        async with open_cluster(self._place, self._state.id, self._warn) as cluster:
            units = await self._units(cluster)
            async for unit, done in cluster.each(work, units):
                if isinstance(done, Exception):
                    self._lost(unit, done)
                else:
                    self._take(done, watchers)
        self.totals.is_listed = True

    async def _units(self, cluster: Cluster) -> list[Unit]:
        """The units, the largest first."""
        slots = await cluster.slots()
        wanted = [await self._wanted(number) for number in range(len(self._file.entries))]
        weights: dict[str, Weight] = {}
        for number, entry in enumerate(self._file.entries):
            for name in wanted[number]:
                planned = self._planned[number].get(name) if self._planned is not None else None
                full = repository_name(entry, name)
                size = weights.get(full, Weight()).size + (planned.bytes if planned is not None else 0)
                weights[full] = Weight(size, 1)
        most = min(slots * UNITS_PER_SLOT, len(weights))
        parts = [Shard.of(index, most).balanced(weights) for index in range(most)]
        parts.sort(key=lambda part: -sum(weights[each].size for each in part.repositories or ()))
        options = replace(Shard.of(0, slots).share(self._options), state=None, spool=None)
        return [self._unit(part, wanted, options) for part in parts]

    async def _wanted(self, number: int) -> list[str]:
        """The repositories of an entry that are not done."""
        if number in self._unlisted:
            return []
        names = await self._surveys[number].repositories()
        return [each for each in names if self.book.settled(number, each, whole=True) is not None]

    def _unit(self, part: Shard, wanted: list[list[str]], options: CopyOptions) -> Unit:
        entries = self._file.entries
        names = [
            [each for each in of if part.has(entry, each)] for entry, of in zip(entries, wanted, strict=True)
        ]
        settled: dict[tuple[int, str], Mapping[str, str]] = {}
        pair = 0
        for entry, chosen in zip(entries, names, strict=True):
            for _ in entry.targets:
                settled |= {(pair, name): dict(self._state.settled(pair, name)) for name in chosen}
                pair += 1
        only = planned = None
        if self._only is not None:
            only = [
                {name: list(of[name]) for name in some} for of, some in zip(self._only, names, strict=True)
            ]
        if self._planned is not None:
            planned = [
                {name: of[name] for name in some} for of, some in zip(self._planned, names, strict=True)
            ]
        return Unit(self._state.id, self._file, options, names, settled, only, planned)

    def _take(self, done: Done, watchers: Watchers) -> None:
        """What a unit has done, as if it had been done here."""
        for note in done.notes:
            self._state.note(*note)
        for pair, name in done.whole:
            self._state.note_repository(pair, name)
        for mine, more in zip(self._state.totals, done.totals, strict=True):
            for name, value in more.items():
                mine[name] += value
        for problems, new in zip(self.book.problems, done.problems, strict=True):
            problems += new
        self.book.failures += done.failures
        self.book.errors += done.errors
        self.book.others += done.others
        for name, value in done.moved.items():
            self.book.moved[name] = self.book.moved.get(name, 0) + value
        found, ended, failed = done.images
        self.totals.images_found += found
        self.totals.images_done += ended
        self.totals.images_failed += failed
        tally, activity = Tally(ignore), Activity()
        number = self.totals.begin("", "", tally, activity)
        tally.bytes_found, tally.retries = done.figures["bytes_found"], done.figures["retries"]
        tally.bytes["moved"] = done.figures["bytes_done"]
        tally.bytes["skipped"] = done.figures["bytes_skipped"]
        tally.bytes["mounted"] = done.figures["bytes_mounted"]
        activity.requests = done.requests
        self.totals.end(number)
        for source, target, event in done.told:
            index = self.window.add((source, target), 0) if source else -1
            watchers.tell(index, source, target, event)
            self.window.end(index)

    def _lost(self, unit: Unit, error: Exception) -> None:
        """A unit could not be worked on: that is a failure of each of its repositories."""
        pair = 0
        for entry, names in zip(self._file.entries, unit.names, strict=True):
            for _ in entry.targets:
                for name in names:
                    self._state.note(pair, name, "", "", "failed", error)
                    self._state.totals[pair]["failed"] += 1
                    self.book.fail(error)
                pair += 1
        self._warn(f"{count(sum(map(len, unit.names)), 'repository', 'repositories')} failed: {error}")
