"""An import into several registries, for which the source is read once.

Both sides of all of them are compared first: what one refuses ends the import before a byte goes to any. Then
each is as an import of its own (`importing`), at its own pace, and one that fails does not end the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from crossdock.acr.comparing import Compared, Comparison
from crossdock.acr.importing import ImportResult, RegistryImport
from crossdock.acr.limits import NO_LIMITS, ImageLimits
from crossdock.acr.plan import ImportPlan
from crossdock.errors import CopiesFailed
from crossdock.events import CopyFailed, ignore
from crossdock.runs.oneread import SharedReads, TargetReads
from crossdock.runs.places import Shared
from crossdock.runs.results import Status, failure_of, without_traceback
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.tally import Tally
from crossdock.tasks import run_together


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryResult:
    """How the import into one of the registries ended.

    ``status`` is as of a copy to several targets; of a dry run it is ``not begun``.
    """

    result: ImportResult
    status: Status
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of an import into this registry alone, and the status."""
        return {**self.result.as_dict(), "status": self.status}


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistriesResult:
    """The result of an import into several registries: one entry for each, in the order given.

    ``source_bytes`` are the bytes of blobs that were read from the source, with those that were read again.
    """

    source: str
    digest: str
    source_bytes: int
    registries: tuple[RegistryResult, ...]

    @property
    def failure(self) -> CopiesFailed | None:
        """The error to raise for the registries that failed; None when none did."""
        return failure_of(self.registries, "import again")


@dataclass(slots=True)
class _Registry:
    """One of the registries, and how far it is."""

    part: RegistryImport
    status: Status = "not begun"
    error: Exception | None = None
    seconds: float = 0.0  # of the run, when it ended


class RegistriesImport:
    """An import into several registries as a run (`runs.run.Work`)."""

    def __init__(
        self, plans: Sequence[ImportPlan], *, dry_run: bool = False, limits: ImageLimits = NO_LIMITS
    ) -> None:
        """`plans` have the same source, and a registry each (`plan.check_plans`)."""
        self._source = plans[0].source
        self.pairs = [(self._source, target) for plan in plans for target in plan.targets]
        """Source and target of each copy."""
        self.totals = Totals(images=len(self.pairs))
        self._dry_run = dry_run
        self._comparison = Comparison(plans, dry_run=dry_run, limits=limits)
        self._comparing = Tally(ignore)
        self._compared: Compared | None = None
        self._registries: list[_Registry] = []
        index = 0
        for plan in plans:
            self._registries.append(_Registry(RegistryImport(plan, index)))
            index += len(plan.targets)
        self._reads: SharedReads | None = None

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Make the import. # network

        Raises as `importing.Import` does while both sides are compared, and `CopiesFailed` when no registry
        has the image.
        """
        servers = [each.part.plan.target_entry.login_server for each in self._registries]
        names = str(self._source), ", ".join(servers)
        compare = partial(self._comparison.run, shared)
        self._compared = compared = await watchers.follow(0, *names, self._comparing, compare)
        if self._dry_run:
            return
        async with SharedReads(compared.source, servers, shared.workshop, shared.resuming) as reads:
            self._reads = reads
            await run_together(
                self._import(each, compared, shared, watchers, own)
                for each, own in zip(self._registries, reads.targets, strict=True)
            )
        failure = self.result().failure
        if failure is not None and len(failure.errors) == len(self._registries):
            raise failure

    async def _import(
        self, one: _Registry, compared: Compared, shared: Shared, watchers: Watchers, reads: TargetReads
    ) -> None:
        """Import into one registry, and note how that ended."""
        part, targets = one.part, one.part.plan.targets
        one.status = "cancelled"  # unless it ends otherwise
        try:
            await part.run(compared, shared, watchers, reads)
        except Exception as error:
            names = str(self._source), str(targets[0])
            watchers.tell(part.index, *names, CopyFailed(*names, error))
            self.totals.images_failed += len(targets)
            one.status, one.error = "failed", without_traceback(error)
        else:
            self.totals.images_done += len(targets)
            is_new = part.has_changed(compared)
            one.status = "unchanged" if not is_new else "left_behind" if reads.is_behind else "copied"
        finally:
            one.seconds = self.totals.seconds
            reads.end()

    def result(self) -> RegistriesResult:
        """The result so far."""
        compared, reads = self._compared, self._reads
        tallies = [tally for each in self._registries for tally in each.part.tallies]
        requested = sum(each.bytes_requested for each in tallies)
        return RegistriesResult(
            source=str(self._source),
            digest=compared.root.digest if compared is not None else "",
            source_bytes=requested - (reads.shared_bytes if reads is not None else 0),
            registries=tuple(map(self._result, self._registries)),
        )

    def _result(self, one: _Registry) -> RegistryResult:
        is_first = one is self._registries[0]  # retries of the comparison count once
        result = one.part.result(
            self._compared,
            retries=self._comparing.retries if is_first else 0,
            seconds=one.seconds or self.totals.seconds,
            dry_run=self._dry_run,
        )
        return RegistryResult(result=result, status=one.status, error=one.error)
