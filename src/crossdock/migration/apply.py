"""A migration file, or a reviewed plan, applied: one run, whose state is on disk (`state`).

What is done in this run is not asked for again by a later start; a new run of the same file brings what has
changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace

from crossdock.errors import (
    Advice,
    ChangedSincePlan,
    CopiesFailed,
    CrossdockError,
    InvalidInput,
    NotFound,
    NothingMatched,
    OutputFailed,
    root_cause,
)
from crossdock.migration.book import Book
from crossdock.migration.conflicts import Writer, check_tags, writers
from crossdock.migration.deleting import TargetDeletes, shared_warning
from crossdock.migration.file import MigrationFile
from crossdock.migration.planfile import PlannedRepository
from crossdock.migration.runfile import RunStatus, StateUnavailable
from crossdock.migration.state import PairName, RunState
from crossdock.migration.totals import summed, with_tags
from crossdock.mirroring.applying import Applying
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.outcomes import Place
from crossdock.mirroring.rename import collisions
from crossdock.mirroring.shard import Shard
from crossdock.mirroring.survey import Survey
from crossdock.mirroring.views import RepositoryView, TargetView, shown
from crossdock.oci.digest import Digest
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import advice_to_repeat
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.units import count

Only = Sequence[Mapping[str, Sequence[str]]]
"""For each entry the repositories, and in each the names, that are looked at; no others are."""


def pairs_of(file: MigrationFile) -> list[PairName]:
    """The entries with each of their targets, as the state of a run lists them."""
    return [
        (entry.name, str(entry.source), str(target)) for entry in file.entries for target in entry.targets
    ]


def run_key(file: MigrationFile, content: str, shard: Shard | None = None) -> str:
    """The identity of a run: a hash of the applied content, the places that its names mean, and the shard.

    The same relative path is another layout in another folder, and the inventory may change an address.
    """
    parts = [content, pairs_of(file), str(shard or "")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplyResult:
    """How an apply ended. ``entries`` has one member for each entry and target, with figures and problems.

    ``totals`` are their sums, ``errors`` the first 10,000. Sizes are bytes.
    """

    run: str
    entries: tuple[dict[str, Any], ...]
    totals: dict[str, float]
    failed: int
    errors: tuple[Exception, ...]
    others: tuple[Exception, ...] = ()  # of `errors`, those that are of no name, such as deletes

    @property
    def failure(self) -> CopiesFailed | None:
        """The error to raise for what failed; None when nothing did."""
        if not self.errors:
            return None
        return CopiesFailed(
            f"{self._failed()} failed: {self.errors[0]}",
            advice=self._advice(),
            errors=self.errors,
        )

    def _failed(self) -> str:
        """The number of tags that failed, and of other steps such as deletes, as words."""
        tags, failed = int(self.totals["tags"]), int(self.totals["failed"])
        others = self.failed - failed
        words = [f"{failed} of {count(tags, 'tag')}"] if failed else []
        words += [count(others, "other step")] if others > 0 else []
        return " and ".join(words)

    def _advice(self) -> Advice | None:
        """The advice: to run it again only if one of the failures may pass."""
        causes = [root_cause(each) for each in self.errors]
        if any(getattr(each, "retryable", False) for each in causes):
            return advice_to_repeat("apply the same file again", self.errors)
        if any(isinstance(each, ChangedSincePlan) for each in causes):
            return Advice("make-again", "make the plan again")
        advice: Advice | None = getattr(self.errors[0], "advice", None)
        return advice

    def document(self) -> dict[str, Any]:
        """The result as JSON values, without what was not copied."""
        return {"run": self.run, "entries": list(self.entries), "totals": self.totals}


class ApplyRun:
    """An apply as a run (`runs.run.Work`)."""

    def __init__(
        self,
        file: MigrationFile,
        state: RunState,
        *,
        only: Only | None = None,
        planned: Sequence[Mapping[str, PlannedRepository]] | None = None,
        shard: Shard | None = None,
        names: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """`only`: no more than this. `planned`: exactly that, by entry and repository; `only` is its names.
        `shard`: only its repositories of all that. `names`: of each entry these, which are not looked up.

        No I/O.
        """
        self.totals = Totals()
        self.on_warning: Callable[[str], None] = lambda message: None
        self._file = file
        self._state = state
        self._only = only
        self._planned = planned
        self._shard = shard
        self._names = names
        self.book = Book(file.entries, state)
        self._applying = Applying(
            file.entries, self._views, self.book, self.totals, may_begin=self._wait_for_hours
        )
        self.window = self._applying.window
        self._surveys: list[Survey] = []
        self._unlisted: set[int] = set()  # entries whose repositories could not be listed
        self._deletes = [
            [TargetDeletes(entry=_in_shard(entry, shard), target=str(target)) for target in entry.targets]
            for entry in file.entries
        ]
        self._has_told_of_hours = False
        self._have_told_of_shared: set[int] = set()  # entries
        self._shared: Mapping[str, Sequence[Writer]] = {}  # repositories that several entries write

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Apply it. # network

        Raises `InvalidInput` before anything is written: for names that become one, and for a selection that
        a source cannot answer.
        """
        self.totals.is_listed = False
        self._state.count_requests(lambda: self.totals.requests)
        status: RunStatus = "interrupted"
        self._applying.watchers = watchers
        try:
            async with self._state.written(self._warn):
                await self._prepare(shared.places)
                await self._copy(shared, watchers)
                await self._delete(shared.places)
                self._check_nothing()
            status = "failed" if self.book.failures else "done"
        except InvalidInput as error:
            self.book.fail(error)
            status = "failed"
            raise
        finally:
            self._end(status)

    def _end(self, status: RunStatus) -> None:
        """Write how the run ended. A state that cannot be written is a failure of a run that is done."""
        try:
            self._state.end(status)
        except StateUnavailable as error:
            unwritten = OutputFailed(
                f"what was done could not be recorded, and would be looked at again: {error}",
                advice=error.advice,
            )
            self.book.fail(unwritten, is_other=True)

    async def _copy(self, shared: Shared, watchers: Watchers) -> None:
        await self._applying.run(shared, watchers)
        for warning in shared.places.take_warnings():
            self._warn(warning)

    def _check_nothing(self) -> None:
        """Warn of entries of which nothing is chosen; record a failure if nothing at all is chosen."""
        is_part = self._shard is not None or self._names is not None
        if self._only is not None or is_part or self.book.failures:
            return
        found: dict[int, float] = {}
        for number, figures in zip(self.book.entry_of_pair, self._state.totals, strict=True):
            found[number] = found.get(number, 0) + with_tags(figures)["tags"]
        for number, tags in found.items():
            if not tags:
                self._warn(f"nothing to copy: {self._file.entries[number].name} has no tag that is chosen")
        if not any(found.values()):
            nothing = NothingMatched("nothing to copy: the sources have no tag that is chosen")
            self.book.fail(nothing, is_other=True)

    @property
    def moved(self) -> Mapping[str, int]:
        """The bytes that were moved into each repository of a target, ``host/repository``."""
        return self.book.moved

    def result(self) -> ApplyResult:
        """The result so far."""
        names = pairs_of(self._file)
        entries = tuple(
            {
                **dict(zip(("name", "source", "target"), names[number], strict=True)),
                **with_tags(figures),
                "problems": [
                    {"kind": each.kind, "reference": each.reference, "detail": each.detail}
                    for each in self.book.problems[number]
                ],
                **self.book.missing.get(number, {}),
            }
            for number, figures in enumerate(self._state.totals)
        )
        run = {"requests": self._state.requests, "seconds": round(self._state.seconds, 3)}
        return ApplyResult(
            run=self._state.id,
            entries=entries,
            totals=summed(self._state.totals, run),
            failed=self.book.failures,
            errors=tuple(self.book.errors),
            others=tuple(self.book.others),
        )

    def _warn(self, message: str) -> None:
        self.on_warning(message)

    async def _wait_for_hours(self) -> None:
        """Wait until the hours permit something new to begin."""
        if (hours := self._file.limits.hours) is not None:
            await hours.wait(self._tell_of_hours)
            self._has_told_of_hours = False

    def _tell_of_hours(self) -> None:
        if not self._has_told_of_hours:  # by another that waits
            self._warn(f"nothing new is begun outside {self._file.limits.hours}, as limits.hours says")
        self._has_told_of_hours = True

    # -- before anything is written ------------------------------------------------------------------------

    async def _prepare(self, places: Places) -> None:
        """List the repositories and find what cannot work. Raises `InvalidInput`. # network"""
        for number, entry in enumerate(self._file.entries):
            places.prepare(entry.source_reference("catalog"), "source")
            for target in entry.targets:
                places.prepare(target.reference("catalog"), "target")
            self._surveys.append(self._survey(number, places))
        listed: dict[int, list[str]] = {}
        for number, survey in enumerate(self._surveys):
            try:
                listed[number] = names = await survey.repositories()
            except InvalidInput:
                raise
            except CrossdockError as error:
                self._unlisted.add(number)
                self.book.unlisted(number, error)
                for target in self._file.entries[number].targets:
                    self._applying.tell(str(self._file.entries[number].source), str(target), error)
                for each in self._deletes[number]:
                    each.not_listed(str(self._file.entries[number].source))
                continue
            entry = self._file.entries[number]
            if found := collisions(names, entry.naming):
                raise InvalidInput(
                    f"{entry.place or entry.name}: {found[0]} at the target",
                    advice=Advice("correct-file", "correct rename or flatten, or exclude one of them"),
                )
        for number in listed:
            await self._surveys[number].check_answered()
        self._shared = writers(self._file.entries, listed)
        if not any(figures[name] for figures in self._state.totals for name in ("copied", "unchanged")):
            # What this run has done was done after this check.
            await check_tags(self._file.entries, self._shared, partial(self._survey, places=places))

    def _is_shared(self, there: TargetView) -> bool:
        """Whether several entries write the repository: each lacks what the others bring."""
        return there.name in self._shared

    def _survey(self, number: int, places: Places) -> Survey:
        entry = self._file.entries[number]
        deletes = entry.deletes.mode != "off" and self._planned is None

        def settled(name: str) -> tuple[frozenset[str], ...] | None:
            return self.book.settled(number, name, whole=not deletes)

        return Survey(
            entry,
            places,
            settled=settled,
            only=self._only[number] if self._only is not None else None,
            all_target_tags=deletes,
            shard=self._shard,
            names=self._names[number] if self._names is not None else None,
            on_warning=self._warn,
        )

    def _tell_of_shared(self, number: int, repository: str) -> None:
        """Warn once that an entry deletes nothing in such repositories."""
        if number not in self._have_told_of_shared:
            self._have_told_of_shared.add(number)
            self._warn(shared_warning(self._file.entries[number], repository))

    # -- views ---------------------------------------------------------------------------------------------

    async def _views(self, number: int) -> AsyncGenerator[RepositoryView, None]:
        """The views of an entry, as its survey and the plan give them. # network"""
        if number in self._unlisted:
            return
        entry = self._file.entries[number]
        async with aclosing(self._surveys[number].views()) as views:
            async for view in views:
                if entry.deletes.mode != "off" and self._only is None:
                    for deletes, there in zip(self._deletes[number], view.targets, strict=True):
                        if self._is_shared(there):
                            self._tell_of_shared(number, there.name)
                            continue
                        await deletes.look(view, there, self._state.missing_since)
                yield self._as_planned(number, view)

    def _as_planned(self, number: int, view: RepositoryView) -> RepositoryView:
        """The view without names that have changed since the plan was made; reports each of those."""
        planned = self._planned[number].get(view.name) if self._planned is not None else None
        if planned is None:
            return view
        gone = {name: error for name, error in view.errors.items() if isinstance(root_cause(error), NotFound)}
        if view.error is not None:
            if not isinstance(root_cause(view.error), NotFound):
                return view
            gone = dict.fromkeys((*planned.tags, *map(str, planned.untagged)), view.error)
            view = replace(view, error=None)
        changed = {
            name: ChangedSincePlan(f"the source does not have {name} any more: {error}")
            for name, error in gone.items()
        }
        view = replace(view, errors={**view.errors, **changed})
        targets = tuple(
            self._target_as_planned(number, index, view, there, planned)
            for index, there in enumerate(view.targets)
        )
        return replace(view, targets=targets)

    def _target_as_planned(
        self, number: int, index: int, view: RepositoryView, there: TargetView, planned: PlannedRepository
    ) -> TargetView:
        place = Place(number, index, view.name, view.source, there.name)
        changed: set[str] = set()
        found: dict[str, Digest] = {**view.tags, **{str(each): each for each in view.untagged}}
        meanings: dict[str, tuple[Digest | None, ...]] = dict(planned.tags)
        meanings |= {str(digest): meant for digest, meant in planned.untagged.items()}
        for name, meant in meanings.items():
            if name not in found or name in there.settled:
                continue  # it is done, or gone: then the view has an error for it
            here = there.tags.get(name) if ":" not in name else None
            what = ""
            if found[name] != meant[0]:
                what = f"the source had {meant[0]}, and has {found[name]} now"
            elif ":" not in name and there.error is None and here not in (meant[index + 1], found[name]):
                what = f"the target had {meant[index + 1] or 'nothing'}, and has {here or 'nothing'} now"
            if what:
                changed.add(name)
                error = ChangedSincePlan(f"{there.name}: {name}: {what}")
                self.book.failed(place, name, found[name], error)
                self._applying.tell(f"{view.name}:{name}", shown(place.repository, name), error)
        return replace(there, settled=there.settled | changed) if changed else there

    # -- deletes -------------------------------------------------------------------------------------------

    async def _delete(self, places: Places) -> None:
        """Delete what the source no longer has, once everything was listed. # network"""
        if self._planned is not None:
            await self._find_planned_deletes(places)
        pair = 0
        for number, of_entry in enumerate(self._deletes):
            for index, each in enumerate(of_entry):
                if each.entry.deletes.mode != "off" and (self._only is None or self._planned is not None):
                    await self._wait_for_hours()
                    await each.run(places)
                    for error in self.book.deleted(pair, each):
                        self._applying.tell(str(each.entry.source), each.target, error)
                    for missing, error in each.changed:
                        place = Place(number, index, missing.name, missing.source, missing.repository.locator)
                        self.book.failed(place, missing.tag, "", error)
                        self._applying.tell(
                            f"{missing.name}:{missing.tag}", shown(place.repository, missing.tag), error
                        )
                pair += 1

    async def _find_planned_deletes(self, places: Places) -> None:
        assert self._planned is not None
        for number, repositories in enumerate(self._planned):
            entry = self._file.entries[number]
            for planned in repositories.values():
                if self._shard is not None and not self._shard.has(entry, planned.name):
                    continue
                for index, tags in enumerate(planned.delete):
                    if tags:
                        deletes = self._deletes[number][index]
                        name = planned.name
                        target = entry.target_reference(entry.targets[index], name)
                        source = entry.source_reference(name)
                        await deletes.look_planned(
                            name, source, target, tags, places, self._state.missing_since
                        )


def _in_shard(entry: Entry, shard: Shard | None) -> Entry:
    """The entry with the shard's part of what may be deleted."""
    return replace(entry, deletes=shard.share_of_deletes(entry.deletes)) if shard is not None else entry
