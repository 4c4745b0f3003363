"""One source for several targets as a run: a copy for each target, side by side, and one read for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from crossdock.errors import CrossdockError
from crossdock.events import ignore
from crossdock.oci.reference import Reference
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one, result_so_far
from crossdock.runs.places import Place, Shared, as_places
from crossdock.runs.results import PairResult, Status, TargetResult, TargetsResult, status_of_error
from crossdock.runs.run import Watchers
from crossdock.runs.runner import Runner
from crossdock.runs.totals import Totals
from crossdock.tally import Tally
from crossdock.tasks import run_together
from crossdock.transfer.fanout import SharedReads, TargetReads


class TargetsCopy:
    """A copy of one source to several targets (`run.Work`)."""

    def __init__(self, source: Place, targets: Sequence[Place], places: asyncio.Semaphore) -> None:
        """A target that is given twice is written once. `places` bounds how many runs are under way."""
        self._source = source
        self._targets = tuple(dict.fromkeys(targets))
        self._places = places
        self.totals = Totals(images=len(self._targets))
        self._specs = [CopySpec(source, target, is_alone=True, is_named=True) for target in self._targets]
        self._tallies = [Tally(ignore) for _ in self._targets]
        self._ended: dict[int, PairResult] = {}
        self._reads: SharedReads | None = None

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
            await self._copy_all(shared, watchers)
        result = self.result()
        if (failure := result.failure) is not None and result.count("failed") == len(self._targets):
            raise failure

    async def _copy_all(self, shared: Shared, watchers: Watchers) -> None:
        source, runner = self._source, Runner(watchers, self._ended.__setitem__)
        try:
            reading = await shared.places.open(source, "source", self._tallies[0].retried)
            kept = KeptSource(reading, str(source), source.tag or str(source.digest or ""), source.digest)
            await kept.find()
        except CrossdockError as error:
            for index, target in enumerate(self._targets):
                runner.fail(index, str(source), str(target), error)
            return
        registries = [each.registry if isinstance(each, Reference) else "" for each in self._targets]
        async with SharedReads(kept, registries, shared.workshop, shared.resuming) as reads:
            self._reads = reads
            await run_together(
                self._copy(runner, index, kept, own, shared) for index, own in enumerate(reads.targets)
            )

    async def _copy(
        self, runner: Runner, index: int, kept: KeptSource, reads: TargetReads, shared: Shared
    ) -> None:
        spec = replace(self._specs[index], reading=kept, reads=reads)
        try:
            await runner.copy(
                index,
                (spec.source, spec.target),
                partial(copy_one, spec, replace(shared, resuming=replace(shared.resuming, spool=None))),
                status_of=partial(_status_of, reads),
                error_status=partial(status_of_error, existing=shared.options.existing),
                tally=self._tallies[index],
            )
        finally:
            reads.end()

    def result(self) -> TargetsResult:
        """The result so far."""
        targets = tuple(map(self._target, range(len(self._targets))))
        requested = sum(each.bytes_requested for each in self._tallies)
        return TargetsResult(
            source=str(self._source),
            digest=next((each.digest for each in targets if each.digest), ""),
            source_bytes=requested - (self._reads.shared_bytes if self._reads is not None else 0),
            targets=targets,
            seconds=self.totals.seconds,
        )

    def _target(self, index: int) -> TargetResult:
        ended = self._ended.get(index)
        result = ended.result if ended is not None else None
        if result is None:
            result = result_so_far(self._specs[index], self._tallies[index], seconds=self.totals.seconds)
        values = {name: getattr(result, name) for name in CopyResult.__slots__}
        if ended is None:
            status: Status = "cancelled" if self._reads is not None else "not begun"
            return TargetResult(**values, status=status)
        return TargetResult(**values, status=ended.status, error=ended.error)


def _status_of(reads: TargetReads, result: CopyResult) -> Status:
    if not result.changed:
        return "unchanged"
    return "left_behind" if reads.is_behind else "copied"
