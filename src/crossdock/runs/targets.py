"""One source for several targets as a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from crossdock.runs.one import CopySpec
from crossdock.runs.oneread import OneRead
from crossdock.runs.places import Place, Shared, as_places
from crossdock.runs.results import PairResult, TargetsResult
from crossdock.runs.run import Watchers
from crossdock.runs.runner import Runner
from crossdock.runs.totals import Totals


class TargetsCopy:
    """A copy of one source to several targets (`run.Work`)."""

    def __init__(self, source: Place, targets: Sequence[Place], places: asyncio.Semaphore) -> None:
        """A target that is given twice is written once. `places` bounds how many runs are under way."""
        self._source = source
        self._targets = tuple(dict.fromkeys(targets))
        self._places = places
        self.totals = Totals(images=len(self._targets))
        specs = [CopySpec(source, target, is_alone=True, is_named=True) for target in self._targets]
        self._ended: dict[int, PairResult] = {}
        self._read = OneRead(specs)

    @classmethod
    def of(cls, source: str, targets: Sequence[str]) -> TargetsCopy:
        """The run for references as text. Raises `InvalidInput`."""
        ends = [as_places(source, each) for each in targets]
        return cls(ends[0][0], [end for _, end in ends], asyncio.Semaphore())

    @property
    def pairs(self) -> list[tuple[Place, Place]]:
        """Source and target of each copy."""
        return [(self._source, target) for target in self._targets]

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Copy it to every target. Raises `CopiesFailed` when no target has it. # network"""
        shared.places.prepare(self._source, "source")
        for target in self._targets:
            shared.places.prepare(target, "target")
        async with self._places:
            await self._read.run(Runner(watchers, self._ended.__setitem__), shared)
        result = self.result()
        if (failure := result.failure) is not None and result.count("failed") == len(self._targets):
            raise failure

    def result(self) -> TargetsResult:
        """The result so far."""
        return self._read.result(self._ended, self.totals.seconds)
