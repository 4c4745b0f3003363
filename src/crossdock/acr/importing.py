"""The import: compare both sides first, then copy, tags last.

1. The source's tag is resolved once; with tag and digest, they must agree. 2. Without force, a target tag
with another digest ends the import before any byte is copied; one with the same
   digest is fine. The same holds for the tags of signatures that are copied with the image (`attached`).
3. With several targets the content comes first: into each repository once, by digest, mounted from the
previous
   one where the registry can. The source is read once. Then the tags, see `tagging`. So a failed import
   leaves no new tag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import Struct

from crossdock.acr.limits import NO_LIMITS, ImageLimits, check_limits
from crossdock.acr.plan import ImportPlan
from crossdock.acr.tagging import TargetState, write_tags
from crossdock.errors import Advice, CrossdockError, LoginNotDemanded, NotFound, TagExists, was_refused
from crossdock.events import ignore
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import Reference
from crossdock.runs.attached import taken_tags
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import sums
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import run_together


class FoundSource(Struct, frozen=True):
    """The source of an import, before anything is copied."""

    digest: str  # of its tag
    root: Descriptor
    manifests: tuple[Descriptor, ...]  # below the root, as far as the limits needed them; each once


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
        self._plan = plan
        self._dry_run = dry_run
        self._limits = limits
        self._wanted = digest or plan.source.tag or str(plan.source.digest)
        self._by_login = by_login
        self._on_found = on_found
        self._named: Descriptor | None = None
        self._root: Descriptor | None = None
        self._targets: tuple[TargetState, ...] = ()
        self._copies: list[CopyResult] = []
        self._beside = Tally(ignore), Tally(ignore)  # before and after the copies

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Make the import. # network

        Raises `TagExists` and `CopyError`, over `LimitExceeded` for an image over one of the limits;
        then no target has a new tag, or the error's advice says which one has.
        """
        try:
            await self._run(shared, watchers)
        except Exception:
            self.totals.images_failed = len(self._plan.targets)
            raise
        if not self._dry_run:
            self.totals.images_done = len(self._plan.targets)

    async def _run(self, shared: Shared, watchers: Watchers) -> None:
        plan, (looking, tagging) = self._plan, self._beside
        names = str(plan.source), plan.target_entry.login_server
        kept = await watchers.follow(0, *names, looking, partial(self._look, shared))
        if self._dry_run:
            return
        named = self._named
        assert named is not None
        # By digest: all targets get the same, even if the tag is moved meanwhile.
        origin = Reference(plan.source.registry, plan.source.repository, None, named.digest)
        for index, destination in enumerate(contents(plan.targets)):
            spec = CopySpec(origin, destination, is_alone=True, is_named=True, reading=kept)
            copy = partial(copy_one, spec, shared)
            self._copies.append(
                await watchers.follow(index, str(origin), str(destination), Tally(ignore), copy)
            )
        if len(self._targets) > 1:
            await watchers.follow(0, *names, tagging, partial(self._tag, shared, kept, named))

    async def _look(self, shared: Shared, tally: Tally) -> KeptSource:
        """Compare both sides, and refuse what must not be copied. # network"""
        plan, places, platforms = self._plan, shared.places, shared.platforms
        source = await places.open(plan.source, "source", tally.retried)
        kept = KeptSource(source, str(plan.source), self._wanted, plan.source.digest, "import")
        data: bytes | None = None  # the root's, once fetched
        try:
            root = named = await kept.find()
        except CrossdockError:
            if self._by_login:  # hide the source's own error as well
                _check_login(plan.source, places)
            raise
        if self._by_login:
            _check_login(plan.source, places)
        below: list[Descriptor] = []
        if platforms or self._limits.concern(named.media_type):  # a GET may count against a limit on pulls
            with during("fetch manifest from", "source", str(plan.source)):
                data = await kept.read()  # network
            named = kept.named
            root, data = await kept.choose(data, platforms)  # network
            below = await check_limits(plan.source, kept, root, data, self._limits)
        if self._on_found is not None:
            await self._on_found(FoundSource(named.digest, root, tuple(below)))
        self._targets = targets = await _look_at(plan.targets, places, tally, needed=not plan.force)
        if not plan.force:
            _refuse_conflicts(targets, root)
        if not self._dry_run and root is named and any(each.before != root.digest for each in targets):
            with during("fetch manifest from", "source", str(plan.source)):
                data = await kept.read()  # network
            if kept.named is not named:  # the tag was moved since the HEAD
                root = named = kept.named
                if not plan.force:
                    _refuse_conflicts(targets, root)
        if not plan.force and shared.options.referrers is not False:
            await _refuse_attached(plan.targets, kept, root, data, places, tally)
        self._named, self._root = named, root
        return kept

    async def _tag(self, shared: Shared, kept: KeptSource, named: Descriptor, tally: Tally) -> None:
        """Write the tags of several targets. # network"""
        with during("fetch manifest from", "source", str(self._plan.source)):
            data = await kept.fetch_manifest(named)
            self._root, data = await kept.choose(data, shared.platforms)
        await write_tags(self._targets, self._root, data, shared.places, tally)

    def result(self) -> ImportResult:
        """The result so far; the digests are empty until the source is resolved."""
        named, root, copies = self._named, self._root, self._copies
        return ImportResult(
            plan=self._plan,
            source_digest=named.digest if named else "",
            digest=root.digest if root else "",
            # The document's own:
            media_type=copies[0].media_type if copies else root.media_type if root else "",
            targets=self._targets,
            copies=tuple(copies),
            retries=sum(each.retries for each in self._beside),
            seconds=self.totals.seconds,
            dry_run=self._dry_run,
        )


def contents(targets: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """The copies to make: the only target, or the repository of each without a tag."""
    if len(targets) == 1:
        return targets
    return tuple(dict.fromkeys(Reference(each.registry, each.repository) for each in targets))


async def _look_at(
    references: tuple[Reference, ...], places: Places, tally: Tally, *, needed: bool
) -> tuple[TargetState, ...]:
    """The current digest of each target's tag. Not `needed`: a login that may only push is fine."""
    found: dict[Reference, Descriptor] = {}
    unseen: set[Reference] = set()

    async def look(reference: Reference, tag: str) -> None:
        target = await places.open(reference, "target", tally.retried)
        with during("resolve", "target", str(reference)):
            try:
                found[reference] = await target.resolve(tag)  # network
            except NotFound:
                pass
            except CrossdockError as error:
                if needed or not was_refused(error):
                    raise
                unseen.add(reference)

    await run_together(look(each, each.tag) for each in references if each.tag is not None)
    return tuple(TargetState(each, found.get(each), each not in unseen) for each in references)


def _check_login(source: Reference, places: Places) -> None:
    """Raise `LoginNotDemanded` unless the source has demanded the caller's credentials.

    It has refused invalid ones itself.
    """
    if not places.has_shown_credentials(source):
        raise LoginNotDemanded(
            f"{source.registry} did not demand the given credentials, so they do not replace a right on it",
            advice=Advice("ask-access", "the import needs the actions read and pull on the source registry"),
        ) from None


async def _refuse_attached(
    references: tuple[Reference, ...],
    source: KeptSource,
    root: Descriptor,
    data: bytes | None,
    places: Places,
    tally: Tally,
) -> None:
    """Raise `TagExists` if the import would change something of the target's own attached to the image."""
    repositories = tuple(dict.fromkeys(Reference(each.registry, each.repository) for each in references))
    targets = [(each, await places.open(each, "target", tally.retried)) for each in repositories]
    taken = await taken_tags(source, root, data, targets)
    if taken:
        raise TagExists(
            " ".join(_exists(each.reference, each.before, each.after) for each in taken),
            advice=Advice("overwrite-attached-tags"),
            references=tuple(str(each.reference) for each in taken),
        )


def _exists(reference: Reference, before: str, after: str) -> str:
    name = f"{reference.repository}:{reference.tag}"
    return f"{name} Tag {name} already exists in target registry ({before}, not {after})."


def _refuse_conflicts(targets: tuple[TargetState, ...], root: Descriptor) -> None:
    taken = [each for each in targets if each.before not in ("", root.digest)]
    if not taken:
        return
    raise TagExists(
        " ".join(_exists(each.reference, each.before, root.digest) for each in taken),
        advice=Advice("overwrite-tags"),
        references=tuple(str(each.reference) for each in taken),
    )
