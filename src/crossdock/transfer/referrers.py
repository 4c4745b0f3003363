"""Copying what is attached to the manifests of a copy: signatures, SBOMs, attestations, and theirs in turn.

Rules:

1. Everything attached is at the target before the tag is: who verifies what a tag means finds the signature.
   The manifest itself is there before, since some registries take no referrer of what they lack.
2. Found are referrers (API or fallback list) of every manifest of the copy, and tags made of their digests,
   level by level: a signature of an SBOM comes after the SBOM.
3. A target's list of referrers is asked for where the source has some. What it lists and has is not copied.
4. What cannot be looked for is warned of, unless referrers were asked for by name; so is an entry of a list
   whose manifest is gone. What is found must arrive, or the copy fails and the tag is not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from crossdock.content import Source, Target
from crossdock.errors import CopyError, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.transfer.blob import during
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import run_together

if TYPE_CHECKING:
    from crossdock.transfer.image import ImageCopy

DEPTH = 4  # an image, its SBOM, the signature of that, and one more
MOST = 10_000  # of one copy, as the entries of one manifest are
LOOKUPS_AT_ONCE = 16
_HINT = "copy without what is attached by --no-referrers"


class ReferrersCopy:
    """Everything attached to the manifests of one copy."""

    def __init__(
        self, graph: ImageCopy, source: Source, target: Target, tally: Tally, *, required: bool
    ) -> None:
        """`required`: what cannot be looked for ends the copy."""
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
        """What is attached at the source. Raises `CopyError`. # network"""
        shown = f"{self._source.name}@{subject.digest}"
        try:
            with during("look for referrers of", "source", shown):
                async with self._lookups:
                    referrers, tags = await self._source.attached(subject.digest)
        except CopyError as error:
            if self._required:
                error.hint = error.hint or _HINT
                raise
            self._tally.warn(f"signatures and other referrers may be missing at the target: {error}")
            return [], []
        self._found += len(referrers) + len(tags)
        if self._found > MOST:
            raise CopyError(
                f"look for referrers of source {shown}: there are more than {MOST} in this copy",
                hint=_HINT,
                operation="look for referrers of",
                side="source",
                reference=shown,
            )
        return referrers, tags

    async def run(self, subjects: list[Descriptor]) -> None:
        """Copy what is attached to `subjects`, and to that. Raises `CopyError`. # network"""
        for _ in range(DEPTH):
            level = list(
                {each.digest: each for each in subjects if each.digest not in self._looked_for}.values()
            )
            self._looked_for |= {each.digest for each in level}
            attached = await run_together(self._find(each) for each in level)
            if not any(referrers or tags for referrers, tags in attached):
                return
            await self._graph.bring_root()
            await run_together(
                self._copy_attached(subject, *found) for subject, found in zip(level, attached, strict=True)
            )
            subjects = self._graph.take_subjects()
        self._tally.warn(f"what is attached in more than {DEPTH} steps was not looked for")

    async def _copy_attached(self, subject: Descriptor, referrers: list[Descriptor], tags: list[str]) -> None:
        new = [each for each in referrers if each.digest not in self._begun]
        self._begun |= {each.digest for each in new}
        there: set[Digest] = set()
        if new:
            with during("list referrers of", "target", f"{self._target.name}@{subject.digest}"):
                async with self._lookups:
                    there = {each.digest for each in await self._target.referrers(subject.digest)}  # network
        work = [self._copy_referrer(each, each.digest in there) for each in new]
        await run_together([*work, *(self._copy_tag(tag) for tag in tags)])

    async def _copy_referrer(self, referrer: Descriptor, is_listed: bool) -> None:
        present = is_listed and await self._graph.has_manifest(referrer)
        await self._copy(referrer, self._graph.copy_attached(referrer, None, present))

    async def _copy_tag(self, tag: str) -> None:
        with during("resolve", "source", f"{self._source.name}:{tag}"):
            try:
                async with self._lookups:
                    named = await self._source.resolve(tag)  # network
            except NotFound:  # it has gone since it was listed
                return
        await self._copy(named, self._graph.copy_attached_tag(named, tag))

    async def _copy(self, found: Descriptor, copying: Awaitable[bool]) -> None:
        """Await `copying`, which copies what the source has as `found` and returns whether it was pushed."""
        try:
            pushed = await copying
        except CopyError as error:
            if isinstance(error.cause, NotFound) and error.reference == f"{self._source.name}@{found.digest}":
                self._tally.warn(
                    f"{self._source.name} lists {found.digest} as a referrer and does not have it"
                )
                return
            error.hint = error.hint or _HINT
            raise
        self._tally.referrer_done(pushed=pushed)
