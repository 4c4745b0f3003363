"""The copies of one source to several targets, side by side, for which the source is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from crossdock.errors import CrossdockError
from crossdock.events import ignore
from crossdock.oci.reference import Reference
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one, result_so_far
from crossdock.runs.places import Shared
from crossdock.runs.results import PairResult, Status, TargetResult, TargetsResult, status_of_error
from crossdock.tally import Tally
from crossdock.tasks import run_together
from crossdock.transfer.fanout import SharedReads as SharedReads  # for imports
from crossdock.transfer.fanout import TargetReads as TargetReads

if TYPE_CHECKING:
    from crossdock.runs.runner import Runner


class OneRead:
    """Copies of a run that have the same source."""

    def __init__(self, specs: Sequence[CopySpec], first: int = 0) -> None:
        """`first` is the index of the first of them in the run; the others follow."""
        self._specs = specs
        self._first = first
        self._tallies = [Tally(ignore) for _ in specs]
        self._reads: SharedReads | None = None

    async def run(self, runner: Runner, shared: Shared) -> None:
        """Make the copies; `runner` gets the result of each. Raises `FailedFast`. # network"""
        source = self._specs[0].source
        try:
            reading = await shared.places.open(source, "source", self._tallies[0].retried)
            kept = KeptSource(reading, str(source), source.tag or str(source.digest or ""), source.digest)
            await kept.find()
        except CrossdockError as error:
            for index, spec in enumerate(self._specs, self._first):
                runner.fail(index, str(source), str(spec.target), error)
            return
        registries = [
            spec.target.registry if isinstance(spec.target, Reference) else "" for spec in self._specs
        ]
        async with SharedReads(kept, registries, shared.workshop, shared.resuming) as reads:
            self._reads = reads
            await run_together(
                self._copy(runner, number, kept, own, shared) for number, own in enumerate(reads.targets)
            )

    async def _copy(
        self, runner: Runner, number: int, kept: KeptSource, reads: TargetReads, shared: Shared
    ) -> None:
        spec = replace(self._specs[number], reading=kept, reads=reads)
        try:
            await runner.copy(
                self._first + number,
                (spec.source, spec.target),
                partial(copy_one, spec, shared),
                status_of=partial(status_of, reads),
                error_status=partial(status_of_error, existing=shared.options.existing),
                tally=self._tallies[number],
            )
        finally:
            reads.end()

    def result(self, ended: Mapping[int, PairResult], seconds: float) -> TargetsResult:
        """The result so far, with what has `ended` after so many `seconds`."""
        targets = tuple(
            self._target(number, ended.get(self._first + number), seconds)
            for number in range(len(self._specs))
        )
        requested = sum(each.bytes_requested for each in self._tallies)
        return TargetsResult(
            source=str(self._specs[0].source),
            digest=next((each.digest for each in targets if each.digest), ""),
            source_bytes=requested - (self._reads.shared_bytes if self._reads is not None else 0),
            targets=targets,
            seconds=seconds,
        )

    def _target(self, number: int, ended: PairResult | None, seconds: float) -> TargetResult:
        result = ended.result if ended is not None else None
        if result is None:
            result = result_so_far(self._specs[number], self._tallies[number], seconds=seconds)
        values = {name: getattr(result, name) for name in CopyResult.__slots__}
        if ended is None:
            status: Status = "cancelled" if self._reads is not None else "not begun"
            return TargetResult(**values, status=status)
        return TargetResult(**values, status=ended.status, error=ended.error)


def status_of(reads: TargetReads | None, result: CopyResult) -> Status:
    """How a copy has ended well; `reads`: it was one of several for which the source was read once."""
    if not result.changed:
        return "unchanged"
    return "left_behind" if reads is not None and reads.is_behind else "copied"
