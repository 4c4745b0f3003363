"""Both sides of an import, compared before anything is copied to any of its registries.

1. The source's tag is resolved once; with tag and digest, they must agree.
2. Without force, a target tag with another digest ends the import; one with the same digest is fine. The same
   holds for the tags of signatures that are copied with the image (`attached`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from crossdock.acr.limits import NO_LIMITS, ImageLimits, check_limits
from crossdock.acr.plan import ImportPlan
from crossdock.acr.tagging import TargetState
from crossdock.errors import Advice, CrossdockError, LoginNotDemanded, NotFound, TagExists, was_refused
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import Reference
from crossdock.runs.attached import taken_tags
from crossdock.runs.kept import KeptSource
from crossdock.runs.places import Places, Shared
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import run_together


class FoundSource(Struct, frozen=True):
    """The source of an import, before anything is copied."""

    digest: str  # of its tag
    root: Descriptor
    manifests: tuple[Descriptor, ...]  # below the root, as far as the limits needed them; each once


class Compared(Struct, frozen=True):
    """Both sides of an import that may begin."""

    source: KeptSource
    named: Descriptor  # the source's tag
    root: Descriptor  # what is copied: not what is named, when platforms were chosen
    targets: Mapping[Reference, TargetState]


class Comparison:
    """The comparison of both sides before an import, and its progress."""

    def __init__(
        self,
        plans: Sequence[ImportPlan],
        *,
        dry_run: bool = False,
        limits: ImageLimits = NO_LIMITS,
        digest: str = "",
        by_login: bool = False,
        on_found: Callable[[FoundSource], Awaitable[None]] | None = None,
    ) -> None:
        """`plans` have the same source, and a registry each. The rest is as for `importing.Import`."""
        self._source = plans[0].source
        self._force = plans[0].force
        self._references = tuple(each for plan in plans for each in plan.targets)
        self._names_registry = len(plans) > 1
        self._dry_run = dry_run
        self._limits = limits
        self._wanted = digest or self._source.tag or str(self._source.digest)
        self._by_login = by_login
        self._on_found = on_found

    async def run(self, shared: Shared, tally: Tally) -> Compared:
        """Compare both sides. # network

        Raises `TagExists` when a target has something else, `LimitExceeded` for an image over one of the
        limits, `CopyError` when a side cannot be asked.
        """
        source_reference, places, platforms = self._source, shared.places, shared.platforms
        source = await places.open(source_reference, "source", tally.retried)
        kept = KeptSource(source, str(source_reference), self._wanted, source_reference.digest, "import")
        data: bytes | None = None  # the root's, once fetched
        try:
            root = named = await kept.find()
        except CrossdockError:
            if self._by_login:  # hide the source's own error as well
                _check_login(source_reference, places)
            raise
        if self._by_login:
            _check_login(source_reference, places)
        below: list[Descriptor] = []
        if platforms or self._limits.concern(named.media_type):  # a GET may count against a limit on pulls
            with during("fetch manifest from", "source", str(source_reference)):
                data = await kept.read()  # network
            named = kept.named
            root, data = await kept.choose(data, platforms)  # network
            below = await check_limits(source_reference, kept, root, data, self._limits)
        if self._on_found is not None:
            await self._on_found(FoundSource(named.digest, root, tuple(below)))
        targets = await _look_at(self._references, places, tally, needed=not self._force)
        self._refuse_conflicts(targets, root)
        if not self._dry_run and root is named and any(each.before != root.digest for each in targets):
            with during("fetch manifest from", "source", str(source_reference)):
                data = await kept.read()  # network
            if kept.named is not named:  # the tag was moved since the HEAD
                root = named = kept.named
                self._refuse_conflicts(targets, root)
        if not self._force and shared.options.referrers is not False:
            await self._refuse_attached(kept, root, data, places, tally)
        return Compared(kept, named, root, {each.reference: each for each in targets})

    def _refuse_conflicts(self, targets: Sequence[TargetState], root: Descriptor) -> None:
        taken = [each for each in targets if each.before not in ("", root.digest)]
        if not taken or self._force:
            return
        raise TagExists(
            " ".join(self._exists(each.reference, each.before, root.digest) for each in taken),
            advice=Advice("overwrite-tags"),
            references=tuple(str(each.reference) for each in taken),
        )

    async def _refuse_attached(
        self, source: KeptSource, root: Descriptor, data: bytes | None, places: Places, tally: Tally
    ) -> None:
        """Raise `TagExists` if the import would change something of a target's own attached to the image."""
        repositories = dict.fromkeys(Reference(each.registry, each.repository) for each in self._references)
        targets = [(each, await places.open(each, "target", tally.retried)) for each in repositories]
        taken = await taken_tags(source, root, data, targets)
        if taken:
            raise TagExists(
                " ".join(self._exists(each.reference, each.before, each.after) for each in taken),
                advice=Advice("overwrite-attached-tags"),
                references=tuple(str(each.reference) for each in taken),
            )

    def _exists(self, reference: Reference, before: str, after: str) -> str:
        """az's sentence; of several registries it names the one."""
        name = f"{reference.repository}:{reference.tag}"
        where = f" {reference.registry}" if self._names_registry else ""
        return f"{name} Tag {name} already exists in target registry{where} ({before}, not {after})."


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
