"""The outcome of every name of an apply, for the state on disk and for the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossdock.errors import CrossdockError
from crossdock.migration.deleting import TargetDeletes
from crossdock.migration.runfile import Item, Outcome, kind_and_reason
from crossdock.migration.state import RunState
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.outcomes import Names, Place
from crossdock.mirroring.views import Problem, shown
from crossdock.runs.results import PairResult, without_traceback

MOST_ERRORS = 10_000  # that are kept; each takes about 1 KB
MOST_PROBLEMS = 10_000  # of an entry and target


class Book:
    """Records the outcome of every name, for the state on disk and for the result (`outcomes.Sink`)."""

    def __init__(self, entries: Sequence[Entry], state: RunState) -> None:
        self.errors: list[Exception] = []
        self.others: list[Exception] = []
        self.failures = 0
        self.missing: dict[int, dict[str, list[str]]] = {}  # of pairs whose deletes are only reported
        self.entry_of_pair = [number for number, entry in enumerate(entries) for _ in entry.targets]
        self.moved: dict[str, int] = {}  # bytes of each repository of a target
        self._state = state
        self._first: list[int] = []  # the number of each entry's first pair
        count = 0
        for entry in entries:
            self._first.append(count)
            count += len(entry.targets)
        self._entries = entries
        self.problems: list[list[Problem]] = [[] for _ in range(count)]
        self._images: dict[tuple[int, str], set[str]] = {}  # digests that are counted, of open repositories

    # -- what was done by an earlier process ---------------------------------------------------------------

    def settled(self, number: int, name: str, *, whole: bool) -> tuple[frozenset[str], ...] | None:
        """As `survey.Settled`; None only if `whole` repositories may be left out."""
        state = self._state
        if not state.is_resumed:
            return tuple(frozenset() for _ in self._entries[number].targets)
        found: list[frozenset[str]] = []
        is_all = whole
        for target in range(len(self._entries[number].targets)):
            pair = self._first[number] + target
            is_all = is_all and state.is_whole(pair, name)
            names = state.settled(pair, name)
            self._images[pair, name] = set(names.values())
            found.append(frozenset(names))
        return None if is_all else tuple(found)

    # -- outcomes.Sink -------------------------------------------------------------------------------------

    def unchanged(self, names: Names) -> None:
        """As `Sink.unchanged`."""
        pair = self._pair(names.place)
        for name in names.indices:
            self._note(Item(pair, names.place.name, name, names.digest, "unchanged"))

    def expected(self, names: Names) -> None:
        """As `Sink.expected`."""
        pair = self._pair(names.place)
        for name in names.indices:
            self._state.note(Item(pair, names.place.name, name, names.digest, "left"))

    def ended(self, names: Names, result: PairResult) -> None:
        """As `Sink.ended`."""
        place, digest = names.place, names.digest
        pair = self._pair(place)
        if result.result is not None:
            self.moved[place.repository] = self.moved.get(place.repository, 0) + result.result.bytes_moved
            figures = self._state.totals[pair]
            for name in ("bytes_moved", "bytes_mounted", "bytes_skipped"):
                figures[name] += getattr(result.result, name)
        if result.status in ("failed", "cancelled", "not begun"):
            for name in names.indices:
                self.failed(place, name, digest, result.error or CrossdockError("it was not copied"))
            return
        for name in names.indices:
            outcome: Outcome = {
                "copied": "copied",
                "left_behind": "copied",
                "unchanged": "unchanged",
                "reported": "reported",
                "left out": "left out",
            }[result.status]  # type: ignore[assignment]
            tag, previous = names.tag(name, result.result) if outcome == "copied" else (None, None)
            why = kind_and_reason(result.error)
            self._note(Item(pair, place.name, name, digest, outcome, *why, tag or "", previous or ""))
            if outcome == "reported":
                self._problem(
                    pair, "existing", shown(place.repository, name), f"it is left as it is: {result.error}"
                )
            elif outcome == "left out":
                self._problem(pair, "unsupported", shown(place.repository, name), str(result.error))

    def failed(self, place: Place, name: str, digest: str, error: Exception) -> None:
        """Record that a name cannot be copied, or (the name "") the whole repository."""
        pair = self._pair(place)
        self._state.note(Item(pair, place.name, name, digest, "failed", *kind_and_reason(error)))
        self._state.totals[pair]["failed"] += 1
        self.fail(error)

    def completed(self, place: Place) -> None:
        """As `Sink.completed`."""
        pair = self._pair(place)
        self._state.note_repository(pair, place.name)
        self._images.pop((pair, place.name), None)

    # -- the rest ------------------------------------------------------------------------------------------

    def fail(self, error: Exception, *, is_other: bool = False) -> None:
        """Count a failure; `is_other`: it is not about a name."""
        self.failures += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(without_traceback(error))
            if is_other:
                self.others.append(error)

    def unlisted(self, number: int, error: Exception) -> None:
        """Record that the repositories of an entry cannot be listed: one failure for each target."""
        entry = self._entries[number]
        for target, each in enumerate(entry.targets):
            source = entry.source_reference("repository")
            place = Place(number, target, "", source, str(each))
            self.failed(place, "", "", error)

    def deleted(self, pair: int, deletes: TargetDeletes) -> list[Exception]:
        """Record the result of a target's deletes; returns the errors."""
        self._state.totals[pair]["deleted"] += deletes.deleted
        self.problems[pair] += deletes.problems
        if deletes.entry.deletes.mode == "report":
            self.missing[pair] = {"missing": deletes.found()}
        # After an incomplete list, which is a failure of its own, an error here is a mere consequence.
        errors = [] if deletes.is_incomplete and self.failures else deletes.errors
        for error in errors:
            self.fail(error, is_other=True)
        return errors

    def _note(self, item: Item) -> None:
        self._state.note(item)
        figures = self._state.totals[item.pair]
        if item.outcome in ("copied", "unchanged", "reported"):
            figures["copied" if item.outcome == "copied" else "unchanged"] += 1
            counted = self._images.setdefault((item.pair, item.repository), set())
            if item.digest not in counted:
                counted.add(item.digest)
                figures["images"] += 1

    def _problem(self, pair: int, kind: Any, reference: str, detail: str) -> None:
        if len(self.problems[pair]) < MOST_PROBLEMS:
            self.problems[pair].append(Problem(kind, reference, detail))

    def _pair(self, place: Place) -> int:
        return self._first[place.entry] + place.target
