"""One tag, or one manifest without a tag, on its way to one target."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from msgspec import Struct

from crossdock.content import ChecksManifests, Target
from crossdock.errors import CrossdockError, Side
from crossdock.events import CopyDone, CopyStarted
from crossdock.mirroring.referrerslists import compare_lists
from crossdock.oci.attachedtag import fallback_tag, is_attached_tag, listed_subject
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.runs.kept import Fetched, KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.places import Shared
from crossdock.steps import during
from crossdock.tally import Tally

MOST_FETCHED = 256  # manifests that are kept for other tags of theirs


class MirrorTarget(Target, ChecksManifests, Protocol):
    """A repository of a registry: what it has under a name costs one HEAD."""

    async def look(self, tag: str) -> Descriptor | None:
        """The manifest behind the tag; None: nothing, or nothing that may be seen."""


class Resolved(Struct):
    """The content of a source's name, requested once for all targets."""

    source: Reference
    digest_tags: frozenset[str] = frozenset()
    """All tags of its repository that are made of digests."""
    leaves_out: Callable[[str], bool] | None = None  # attached tags that are not copied with the image
    kept: KeptSource | None = None
    has_attached: bool | None = None
    tally: Tally | None = None  # of the copy under way

    def retried(self, side: Side, operation: str, reason: str) -> None:
        """A request to the source is sent again; the copy under way counts it."""
        if self.tally is not None:
            self.tally.retried(side, operation, reason)


class PairCopy:
    """Copies over places that the caller owns. What the target has already costs one HEAD there."""

    def __init__(self, shared: Shared, filters_tags: bool) -> None:
        self._shared = shared
        self._places = shared.places
        self._filters_tags = filters_tags
        self._platforms = shared.platforms
        self._fetched: OrderedDict[tuple[str, str, Digest], Fetched] = OrderedDict()
        self._referrers = shared.options.referrers is not False

    async def copy(self, resolved: Resolved, target: Reference, tally: Tally) -> CopyResult:
        """Make `target` what `resolved` is. Raises `CopyError`. # network"""
        started = time.monotonic()
        resolved.tally = tally
        source = resolved.source
        if resolved.kept is None:
            reading = await self._places.open(source, "source", resolved.retried)
            name = source.tag or str(source.digest)
            resolved.kept = KeptSource(reading, str(source), name, leaves_out=resolved.leaves_out)
        kept = resolved.kept
        writing = await self._places.open(target, "target", tally.retried)
        named = await kept.find()
        kept.fetched = self._fetched_of(source, named.digest, kept)
        there: Digest | None = None
        origin, shown = replace(source, tag=None, digest=named.digest), str(target)
        platforms = () if is_attached_tag(target.tag) else self._platforms
        if not platforms:
            there = await self._there(writing, target, named)
            checked = self._shared.checks_blobs
            if there == named.digest and not checked and not await self._may_have_attached(resolved, kept):
                return _unchanged(source, named, target, tally, started)
            if there is not None and (subject := listed_subject(target.tag or "")) is not None:
                adds, drops = await compare_lists(kept, writing, named, target)
                if drops and not adds:
                    return _unchanged(source, named, target, tally, started)
                listed = replace(target, tag=None, digest=subject)
                if drops and await self._takes_whole(writing, listed, subject):
                    # The target's own entries stay: the engine adds those that are missing.
                    origin, target = replace(origin, digest=subject), listed
        if there != named.digest and origin.digest == named.digest:
            # Read now: it may be gone, and the tag mean something else.
            with during("fetch manifest from", "source", f"{kept.name}@{named.digest}"):
                await kept.read()
            origin = replace(origin, digest=kept.named.digest)
        request = CopySpec(origin, target, is_alone=True, picks_platforms=bool(platforms), reading=kept)
        result = await copy_one(request, self._shared, tally)
        return replace(result, source=str(source), target=shown)

    def _fetched_of(self, source: Reference, digest: Digest, kept: KeptSource) -> Fetched:
        """What was requested of this manifest for other tags of it, lately."""
        found = self._fetched.setdefault((source.registry, source.repository, digest), kept.fetched)
        self._fetched.move_to_end((source.registry, source.repository, digest))
        if len(self._fetched) > MOST_FETCHED:
            self._fetched.popitem(last=False)
        return found

    async def _there(self, writing: MirrorTarget, target: Reference, named: Descriptor) -> Digest | None:
        """The digest that the target has under the name; None: none, or none that may be seen. # network"""
        with during("resolve", "target", str(target)):
            if target.tag is not None:
                found = await writing.look(target.tag)
                return found.digest if found is not None else None
            there = await writing.has_manifest(named) and await writing.is_pushed_manifest(named)
            return named.digest if there else None

    async def _takes_whole(self, writing: MirrorTarget, target: Reference, subject: Digest) -> bool:
        """Whether the subject of a list may be copied whole: an index of which platforms were chosen may not,
        unless the target has it anyway. # network
        """
        return not self._platforms or bool(await self._there(writing, target, Descriptor("", subject, 0)))

    async def _may_have_attached(self, resolved: Resolved, kept: KeptSource) -> bool:
        """Whether there may be signatures and the like at the source that have to be looked for at the
        target.

        One question to the referrers API at most, for all targets. Without the API they have tags, which are
        copied as such unless patterns leave them out. Of an index all manifests may have some. # network
        """
        if resolved.has_attached is None:
            resolved.has_attached = self._referrers and await self._look(resolved, kept, kept.named)
        return resolved.has_attached

    async def _look(self, resolved: Resolved, kept: KeptSource, named: Descriptor) -> bool:
        if self._places.has_referrers(resolved.source) is not False:
            try:
                referrers, tags = await kept.attached(named.digest)
            except CrossdockError:
                return True  # the copy will tell
            if self._places.has_referrers(resolved.source):
                return named.is_index or bool(referrers or (self._filters_tags and tags))
        if not self._filters_tags:
            return False
        if named.is_index:
            return bool(resolved.digest_tags)
        stem = fallback_tag(named.digest)
        return any(tag.startswith(stem) for tag in resolved.digest_tags)


def _unchanged(
    source: Reference, named: Descriptor, target: Reference, tally: Tally, started: float
) -> CopyResult:
    seconds = time.monotonic() - started
    tally.emit(CopyStarted(str(source), str(target), named.digest, named.media_type))
    tally.emit(CopyDone(named.digest, seconds))
    return CopyResult(
        source=str(source),
        target=str(target),
        digest=named.digest,
        source_digest=named.digest,
        media_type=named.media_type,
        seconds=seconds,
        warnings=tuple(tally.warnings),
        manifests=1,
        retries=tally.retries,
        changed=False,
    )
