"""One tag, or one manifest without a tag, on its way to one target."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from crossdock.errors import CrossdockError, InvalidManifest, Side
from crossdock.events import CopyDone, CopyStarted
from crossdock.mirroring.names import Selection
from crossdock.oci.attachedtag import fallback_tag, is_attached_tag, listed_subject
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.reference import Reference
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.places import OnRetry, Shared
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.transfer.naming import fetch_named, resolve

if TYPE_CHECKING:
    from crossdock.registry.repository import RegistryRepository


class Resolved(Struct):
    """The content of a source's name, requested once for all targets."""

    source: Reference
    named: Descriptor | None = None
    kept: KeptSource | None = None
    has_attached: bool | None = None
    tally: Tally | None = None  # of the copy under way

    def retried(self, side: Side, operation: str, reason: str) -> None:
        """A request to the source is sent again; the copy under way counts it."""
        if self.tally is not None:
            self.tally.retried(side, operation, reason)


class PairCopy:
    """Copies over places that the caller owns. What the target has already costs one HEAD there."""

    def __init__(self, shared: Shared, selection: Selection) -> None:
        self._shared = shared
        self._places = shared.places
        self._workshop = shared.workshop
        self._filters_tags = bool(selection.tags)
        self._platforms = shared.platforms
        self._referrers = shared.options.referrers is not False

    async def copy(self, resolved: Resolved, target: Reference, tally: Tally) -> CopyResult:
        """Make `target` what `resolved` is. Raises `CopyError`. # network"""
        started = time.monotonic()
        resolved.tally = tally
        reading = await self._open(resolved.source, "source", resolved.retried)
        writing = await self._open(target, "target", tally.retried)
        if resolved.named is None:
            source = resolved.source
            resolved.named = await resolve(reading, str(source), source.tag or str(source.digest), None)
        named = resolved.named
        kept = resolved.kept = resolved.kept or KeptSource(reading, named)
        there: Digest | None = None
        origin, shown = replace(resolved.source, tag=None, digest=named.digest), str(target)
        platforms = () if is_attached_tag(target.tag) else self._platforms
        if not platforms:
            there = await self._there(writing, target, named)
            checked = self._workshop.checks_blobs
            if there == named.digest and not checked and not await self._may_have_attached(resolved, kept):
                return self._unchanged(resolved, target, tally, started)
            if there is not None and (subject := listed_subject(target.tag or "")) is not None:
                adds, drops = await self._compare(kept, writing, named, target)
                if drops and not adds:
                    return self._unchanged(resolved, target, tally, started)
                listed = replace(target, tag=None, digest=subject)
                if drops and await self._takes_whole(writing, listed, subject):
                    # The target's own entries stay: the engine adds those that are missing.
                    origin, target = replace(origin, digest=subject), listed
        if there != named.digest:
            origin = await self._checked_origin(resolved, origin, reading)
        request = CopySpec(origin, target, is_alone=True, picks_platforms=bool(platforms), reading=kept)
        result = await copy_one(request, self._shared, tally)
        return replace(result, source=str(resolved.source), target=shown)

    async def _checked_origin(
        self, resolved: Resolved, origin: Reference, reading: RegistryRepository
    ) -> Reference:
        """`origin`, whose manifest is read now; by its tag's newer digest if it is gone by then. # network"""
        kept, named = resolved.kept, resolved.named
        assert kept is not None
        assert named is not None
        if origin.digest != named.digest:
            return origin
        name = resolved.source.tag or str(resolved.source.digest)

        async def resolve_again() -> Descriptor:
            return await resolve(reading, str(resolved.source), name, None)

        with during("fetch manifest from", "source", f"{kept.name}@{named.digest}"):
            resolved.named, _ = await fetch_named(kept.fetch_manifest, named, resolve_again)
        kept.rename(resolved.named)
        return replace(origin, digest=resolved.named.digest)

    async def _open(self, reference: Reference, side: Side, on_retry: OnRetry) -> RegistryRepository:
        return cast("RegistryRepository", await self._places.open(reference, side, on_retry))

    async def _there(
        self, writing: RegistryRepository, target: Reference, named: Descriptor
    ) -> Digest | None:
        """The digest that the target has under the name; None: none, or none that may be seen. # network"""
        with during("resolve", "target", str(target)):
            if target.tag is not None:
                found = await writing.look(target.tag)
                return found.digest if found is not None else None
            there = await writing.has_manifest(named) and await writing.is_pushed_manifest(named)
            return named.digest if there else None

    async def _takes_whole(self, writing: RegistryRepository, target: Reference, subject: Digest) -> bool:
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
            resolved.has_attached = self._referrers and await self._look(resolved, kept)
        return resolved.has_attached

    async def _look(self, resolved: Resolved, kept: KeptSource) -> bool:
        named = resolved.named
        assert named is not None
        memory = self._places.client(resolved.source, "source").memory
        if memory.has_referrers is not False:
            try:
                referrers, tags = await kept.attached(named.digest)
            except CrossdockError:
                return True  # the copy will tell
            if memory.has_referrers:
                return named.is_index or bool(referrers or (self._filters_tags and tags))
        if not self._filters_tags:
            return False
        _, listed = memory.digest_tags.get(resolved.source.repository, (0.0, None))
        if listed is None or named.is_index:
            return listed is None or bool(listed)
        stem = fallback_tag(named.digest)
        return any(tag.startswith(stem) for tag in listed)

    async def _compare(
        self, kept: KeptSource, writing: RegistryRepository, named: Descriptor, target: Reference
    ) -> tuple[bool, bool]:
        """Of a list of referrers: whether the source's has entries that the target's has not, and the other
        way round. Other content at the target has none. # network
        """
        with during("fetch manifest from", "source", f"{kept.name}@{named.digest}"):
            ours = _entries(await kept.fetch_manifest(named))
        with during("fetch manifest from", "target", str(target)):
            theirs = _entries(await writing.find_manifest(target.tag or "") or b"")
        return not ours <= theirs, not theirs <= ours

    def _unchanged(self, resolved: Resolved, target: Reference, tally: Tally, started: float) -> CopyResult:
        named, source = resolved.named, str(resolved.source)
        assert named is not None
        seconds = time.monotonic() - started
        tally.emit(CopyStarted(source, str(target), named.digest, named.media_type))
        tally.emit(CopyDone(named.digest, seconds))
        return CopyResult(
            source=source,
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


def _entries(data: bytes) -> frozenset[str]:
    try:
        return frozenset(each.digest for each in parse_manifest(data, None).manifests)
    except InvalidManifest:
        return frozenset()
