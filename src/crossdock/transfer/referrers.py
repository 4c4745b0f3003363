"""Copying what is attached to the manifests of a copy: signatures, SBOMs, attestations, and theirs in turn.

Rules:

1. Everything attached is at the target before the tag is: a verifier of the tag finds the signature. The
   manifest itself is there before, since some registries refuse referrers of a manifest that they lack.
2. Found are referrers (API or fallback list) of every manifest of the copy, and tags made of their digests,
   level by level: a signature of an SBOM comes after the SBOM.
3. The target's list of referrers is requested where the source has some. Referrers that it lists and has are
   not copied.
4. Referrers that cannot be queried are a warning, and so are those broken at the source or refused by the
   target: one bad signature must not keep an image from being copied. When referrers were requested by name,
   the copy fails and the tag is not written. An entry of a list whose manifest is gone is always a warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from crossdock.content import Source
from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    LimitExceeded,
    NotFound,
    ReferrersIncomplete,
    Unsupported,
    is_final,
    root_cause,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import run_together
from crossdock.transfer.graph import Graph
from crossdock.transfer.sides import TargetSide, find_attached, finds_attached

DEPTH = 4  # an image, its SBOM, the signature of that, and one more
MOST = 10_000  # of one copy, as the entries of one manifest are
LOOKUPS_AT_ONCE = 16
_OMIT = Advice("omit-referrers")


async def copy_referrers(
    graph: Graph,
    source: Source,
    target: TargetSide,
    tally: Tally,
    *,
    required: bool,
    push_root: Callable[[], Awaitable[None]] | None,
) -> bool:
    """Copy what is attached to the manifests of `graph`, and to that. Raises `CopyError`. # network

    `push_root` is awaited before the first referrer is copied; None: the target has the root. Returns whether
    it was. `required`: what cannot be looked for, or copied, ends the copy.
    """
    return await _ReferrersCopy(graph, source, target, tally, required=required).run(push_root)


class _ReferrersCopy:
    """Everything attached to the manifests of one copy."""

    def __init__(
        self, graph: Graph, source: Source, target: TargetSide, tally: Tally, *, required: bool
    ) -> None:
        self._graph = graph
        self._source = source
        self._target = target
        self._tally = tally
        self._required = required
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._looked_for: set[Digest] = set()
        self._begun: set[Digest] = set()
        self._found = 0

    async def _find(self, subject: Descriptor) -> tuple[list[Descriptor], list[str]]:
        """The referrers and tags attached at the source. Raises `CopyError`. # network"""
        shown = f"{self._source.name}@{subject.digest}"
        try:
            with during("look for referrers of", "source", shown):
                async with self._lookups:
                    referrers, tags = await find_attached(self._source, subject.digest)
        except CopyError as error:
            if self._required:
                if getattr(error.cause, "advice", None) is not None:
                    raise
                raise error.replace(advice=_OMIT) from error.cause
            self._tally.warn(f"signatures and other referrers may be missing at the target: {error}")
            if not isinstance(cause := root_cause(error), ReferrersIncomplete):
                return [], []
            referrers, tags = list(cause.referrers), list(cause.tags)
        self._found += len(referrers) + len(tags)
        if self._found > MOST:
            self._give_up(shown, f"there are more than {MOST} in this copy")
            return [], []
        return referrers, tags

    def _give_up(self, shown: str, why: str, kind: type[CrossdockError] = LimitExceeded) -> None:
        """Not everything that is attached will be copied. Raises `CopyError` when it is required."""
        error = CopyError(
            f"look for referrers of source {shown}: {why}",
            advice=_OMIT,
            operation="look for referrers of",
            side="source",
            reference=shown,
            cause=kind(why),
        )
        if self._required:
            raise error from error.cause
        self._tally.warn(f"signatures and other referrers may be missing at the target: {error}")

    async def run(self, push_root: Callable[[], Awaitable[None]] | None) -> bool:
        """As `copy_referrers`."""
        subjects, has_pushed = self._graph.take_subjects(), False
        if not finds_attached(self._source):
            if self._required and subjects:
                shown = f"{self._source.name}@{subjects[0].digest}"
                self._give_up(shown, "this source cannot list them", Unsupported)
            return False
        for depth in range(DEPTH + 1):
            level = list(
                {each.digest: each for each in subjects if each.digest not in self._looked_for}.values()
            )
            self._looked_for |= {each.digest for each in level}
            attached = await run_together(self._find(each) for each in level)
            if not any(referrers or tags for referrers, tags in attached):
                break
            if depth == DEPTH:
                deepest = next(each for each, found in zip(level, attached, strict=True) if any(found))
                shown = f"{self._source.name}@{deepest.digest}"
                self._give_up(shown, f"it is {DEPTH} steps from the image, and no more are copied")
                break
            if push_root is not None and not has_pushed:
                await push_root()
                has_pushed = True
            await run_together(
                self._copy_attached(subject, *found) for subject, found in zip(level, attached, strict=True)
            )
            subjects = self._graph.take_subjects()
        return has_pushed

    async def _copy_attached(self, subject: Descriptor, referrers: list[Descriptor], tags: list[str]) -> None:
        new = [each for each in referrers if each.digest not in self._begun]
        self._begun |= {each.digest for each in new}
        there = await self._listed(subject) if new else set()
        work = [self._copy_referrer(each, each.digest in there) for each in new]
        await run_together([*work, *(self._copy_tag(tag) for tag in tags)])

    async def _listed(self, subject: Descriptor) -> set[Digest]:
        """The referrers that the target lists, as far as it permits: they only save work. # network"""
        try:
            with during("list referrers of", "target", f"{self._target.name}@{subject.digest}"):
                async with self._lookups:
                    listed = await self._target.referrers(subject.digest)  # network
        except CopyError as error:
            if not is_final(error):
                raise
            cause = root_cause(error)
            listed = list(cause.referrers) if isinstance(cause, ReferrersIncomplete) else []
        return {each.digest for each in listed}

    async def _copy_referrer(self, referrer: Descriptor, is_listed: bool) -> None:
        present = is_listed and await self._graph.manifests.has(referrer)
        await self._copy(referrer, referrer.digest, self._copy_attached_manifest(referrer, None, present))

    async def _copy_tag(self, tag: str) -> None:
        try:
            with during("resolve", "source", f"{self._source.name}:{tag}"):
                async with self._lookups:
                    named = await self._source.resolve(tag)  # network
        except CopyError as error:
            if not isinstance(root_cause(error), NotFound):  # it has gone since it was listed
                self._failed(error, tag)
            return
        await self._copy(named, tag, self._copy_attached_tag(named, tag))

    async def _copy(self, found: Descriptor, what: str, copying: Awaitable[bool]) -> None:
        """Await `copying`, which copies `found` and returns whether it was pushed."""
        try:
            pushed = await copying
        except CopyError as error:
            if isinstance(error.cause, NotFound) and error.reference == f"{self._source.name}@{found.digest}":
                self._tally.warn(
                    f"{self._source.name} lists {found.digest} as a referrer and does not have it"
                )
                return
            self._graph.forget_subject(found)
            self._failed(error, what)
            return
        self._tally.referrer_done(pushed=pushed)

    async def _copy_attached_tag(self, named: Descriptor, tag: str) -> bool:
        """Copy what `tag` names; the target's own content under it stays. Whether it was pushed. # network"""
        manifests, shown = self._graph.manifests, f"{self._target.name}:{tag}"
        there = await manifests.find(tag, shown)
        data = None
        if there is not None and not named.digest.matches(there):
            from crossdock.transfer.attachedtags import settle  # of signatures on both sides

            named, data = await settle(named, await manifests.fetch(named), there, shown, self._tally)
        present = there is not None and named.digest.matches(there)
        return await self._copy_attached_manifest(named, tag, present, data)

    async def _copy_attached_manifest(
        self, found: Descriptor, tag: str | None, present: bool, data: bytes | None = None
    ) -> bool:
        """Copy a referrer, or what `tag` names, with everything below it; whether it was pushed. # network

        `present`: the target has it and lists it so. `data`: its bytes, where they are not the source's.
        """
        graph = self._graph
        if present and not found.is_index and graph.stands_for_blobs():
            graph.note_subject(found)
        else:
            data = data or await graph.manifests.fetch(found)
            found, whole = await graph.copy_below(found, data, present=present)
            if present and not whole:
                tag, present = None, False  # a tag is right already; the manifest is put again
            if not present:
                shown = f"{self._target.name}@{found.digest}"
                await graph.push(found, data, tag, shown, refers=tag is None)
                graph.pushed(found)
        self._tally.manifest_done(found, pushed=not present)
        return not present

    def _failed(self, error: CopyError, what: str) -> None:
        """Warn that something attached is missing at the target; raise `error` when that ends the copy."""
        if self._required or not is_final(error):
            raise error.replace(advice=_OMIT) from error.cause
        self._tally.warn(f"{what}, which is attached to the image, is missing at the target: {error}")
