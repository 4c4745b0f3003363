"""The import: compare both sides first (`comparing`), then copy, tags last.

With several targets in a registry the content comes first: into each repository once, by digest, mounted from
the previous one where the registry can. The source is read once. Then the tags, see `tagging`. So a failed
import leaves no new tag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from crossdock.acr.comparing import Compared, Comparison, FoundSource
from crossdock.acr.limits import NO_LIMITS, ImageLimits
from crossdock.acr.plan import ImportPlan
from crossdock.acr.tagging import TargetState, write_tags
from crossdock.events import ignore
from crossdock.oci.reference import Reference
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.places import Shared
from crossdock.runs.results import sums
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.steps import during
from crossdock.tally import Tally

if TYPE_CHECKING:
    from crossdock.runs.oneread import TargetReads


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """The result of an import, or of a dry run. Sizes in bytes."""

    plan: ImportPlan
    source_digest: str
    digest: str
    media_type: str
    targets: tuple[TargetState, ...]
    copies: tuple[CopyResult, ...]
    retries: int  # besides those of the copies
    seconds: float
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON. ``before`` is null for a tag that is new and for a target without tag."""
        targets = [
            {
                "reference": str(each.reference),
                "repository": each.reference.repository,
                "tag": each.reference.tag,
                "digest": self.digest,
                "before": each.before or None,
            }
            for each in self.targets
        ]
        figures = sums(self.copies)
        figures["retries"] += self.retries
        warnings = dict.fromkeys(warning for each in self.copies for warning in each.warnings)
        return {
            "registry": self.plan.target_entry.login_server,
            "source": str(self.plan.source),
            "source_digest": self.source_digest,
            "digest": self.digest,
            "digest_changed": self.digest != self.source_digest,
            "media_type": self.media_type,
            "mode": "Force" if self.plan.force else "NoForce",
            "targets": targets,
            **figures,
            "seconds": self.seconds,
            "warnings": list(warnings),
            "dry_run": self.dry_run,
        }


class RegistryImport:
    """The content and the tags of one registry, when both sides have been compared."""

    def __init__(self, plan: ImportPlan, index: int = 0) -> None:
        """`index` is that of the plan's first target in the run."""
        self.plan = plan
        self.index = index
        self.tallies: list[Tally] = []
        """The tallies of its copies, including those under way."""
        self._copies: list[CopyResult] = []
        self._tagging = Tally(ignore)

    async def run(
        self, compared: Compared, shared: Shared, watchers: Watchers, reads: TargetReads | None = None
    ) -> None:
        """Copy, and write the tags. `reads`: the source is read for several registries. # network

        Raises `CopyError`; then no target has a new tag, or the error's advice says which one has.
        """
        plan = self.plan
        # By digest: all targets get the same, even if the tag is moved meanwhile.
        origin = Reference(plan.source.registry, plan.source.repository, None, compared.named.digest)
        for index, destination in enumerate(contents(plan.targets), self.index):
            spec = CopySpec(
                origin, destination, is_alone=True, is_named=True, reading=compared.source, reads=reads
            )
            tally = Tally(ignore)
            self.tallies.append(tally)
            copy = partial(copy_one, spec, shared)
            self._copies.append(await watchers.follow(index, str(origin), str(destination), tally, copy))
        if len(plan.targets) > 1:
            names = str(plan.source), plan.target_entry.login_server
            tag = partial(self._tag, compared, shared)
            await watchers.follow(self.index, *names, self._tagging, tag)

    async def _tag(self, compared: Compared, shared: Shared, tally: Tally) -> None:
        """Write the tags of several targets. # network"""
        source = compared.source
        with during("fetch manifest from", "source", str(self.plan.source)):
            data = await source.fetch_manifest(compared.named)
            root, data = await source.choose(data, shared.platforms)
        targets = [compared.targets[each] for each in self.plan.targets]
        await write_tags(targets, root, data, shared.places, tally)

    def has_changed(self, compared: Compared) -> bool:
        """Whether the registry got anything that it did not have."""
        states = [compared.targets[each] for each in self.plan.targets if each.tag is not None]
        is_tagged = any(each.before != compared.root.digest for each in states)
        return is_tagged or any(each.changed for each in self._copies)

    def result(
        self, compared: Compared | None, *, retries: int, seconds: float, dry_run: bool
    ) -> ImportResult:
        """The result so far; the digests are empty until both sides are `compared`, which took `retries`."""
        copies = self._copies
        return ImportResult(
            plan=self.plan,
            source_digest=compared.named.digest if compared else "",
            digest=compared.root.digest if compared else "",
            # The document's own:
            media_type=copies[0].media_type if copies else compared.root.media_type if compared else "",
            targets=tuple(compared.targets[each] for each in self.plan.targets) if compared else (),
            copies=tuple(copies),
            retries=retries + self._tagging.retries,
            seconds=seconds,
            dry_run=dry_run,
        )


class Import:
    """An import as a run (`runs.run.Work`). Its session has the options of `plan.plan_options`."""

    def __init__(
        self,
        plan: ImportPlan,
        *,
        dry_run: bool = False,
        limits: ImageLimits = NO_LIMITS,
        digest: str = "",
        by_login: bool = False,
        on_found: Callable[[FoundSource], Awaitable[None]] | None = None,
    ) -> None:
        """`digest` is the one that an earlier run of this import resolved the source's tag to.

        `by_login`: the caller has access to the source only by its credentials, so the source must demand
        them. `on_found` is awaited before anything is copied.
        """
        self.totals = Totals(images=len(plan.targets))
        self._dry_run = dry_run
        self._comparison = Comparison(
            (plan,), dry_run=dry_run, limits=limits, digest=digest, by_login=by_login, on_found=on_found
        )
        self._comparing = Tally(ignore)
        self._compared: Compared | None = None
        self._registry = RegistryImport(plan)

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Make the import. # network

        Raises `TagExists` and `CopyError`, over `LimitExceeded` for an image over one of the limits;
        then no target has a new tag, or the error's advice says which one has.
        """
        plan = self._registry.plan
        try:
            names = str(plan.source), plan.target_entry.login_server
            compare = partial(self._comparison.run, shared)
            self._compared = await watchers.follow(0, *names, self._comparing, compare)
            if not self._dry_run:
                await self._registry.run(self._compared, shared, watchers)
        except Exception:
            self.totals.images_failed = len(plan.targets)
            raise
        if not self._dry_run:
            self.totals.images_done = len(plan.targets)

    def result(self) -> ImportResult:
        """The result so far; the digests are empty until the source is resolved."""
        return self._registry.result(
            self._compared,
            retries=self._comparing.retries,
            seconds=self.totals.seconds,
            dry_run=self._dry_run,
        )


def contents(targets: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """The copies to make: the only target, or the repository of each without a tag."""
    if len(targets) == 1:
        return targets
    return tuple(dict.fromkeys(Reference(each.registry, each.repository) for each in targets))
