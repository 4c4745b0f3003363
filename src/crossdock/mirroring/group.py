"""One manifest of a repository on its way to one target, with all the tags that mean it.

The manifest and its blobs are read once, its referrers are asked for once, and the target is looked at once,
however many tags there are and however many targets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from msgspec import Struct, field
from msgspec.structs import replace as with_fields

from crossdock.content import ChecksManifests, Target
from crossdock.errors import (
    CONTENT_MISSED,
    CopyError,
    CrossdockError,
    RegistryError,
    Side,
    TagExists,
    was_refused,
)
from crossdock.events import CopyDone, CopyStarted, tag_outcome
from crossdock.mirroring.referrerslists import compare_lists
from crossdock.oci.attachedtag import fallback_tag, is_attached_tag, listed_subject
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.runs.kept import KeptSource
from crossdock.runs.one import CopyResult, CopySpec, copy_one
from crossdock.runs.oneread import SharedReads, TargetReads
from crossdock.runs.places import Shared
from crossdock.runs.results import without_traceback
from crossdock.steps import during
from crossdock.tally import Tally


class Group(Struct):
    """A manifest of the source, for all targets. `source` is its repository, `tag` one that means it."""

    source: Reference | LayoutReference
    digest: Digest
    tag: str | None = None  # if the manifest is gone, it is asked what the tag means by now
    media_type: str = ""  # empty: not known
    digest_tags: frozenset[str] = frozenset()  # all of the repository that are made of digests
    takes_all_tags: bool = True  # attached tags are copied as tags, wherever they are listed
    leaves_out: Callable[[str], bool] | None = None  # attached tags that are not copied with the image
    kept: KeptSource | None = None
    has_attached: bool | None = None
    tally: Tally | None = None  # of the copy under way

    def retried(self, side: Side, operation: str, reason: str) -> None:
        """A request to the source is sent again; the copy under way counts it."""
        if self.tally is not None:
            self.tally.retried(side, operation, reason)

    def named(self, tag: str | None) -> Reference | LayoutReference:
        """The reference of one of its tags; None: of the manifest itself."""
        return replace(self.source, tag=tag, digest=None if tag is not None else self.digest)

    def alone(self, tag: str | None) -> Group:
        """The same by another of its tags, of which nothing was requested yet."""
        return with_fields(self, tag=tag, kept=None, has_attached=None, tally=None)


class Share(Struct):
    """The part of a group that one target gets at once. `tags` is empty for a manifest without one.

    `there` is what the target is known to have under the tags, or under the digest as ""; None as a value:
    nothing. A name that it lacks was not asked for.
    """

    target: Reference  # the repository
    tags: tuple[str, ...]
    there: Mapping[str, Digest | None] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    """Tags that could not be written, though others were."""

    def named(self, tag: str | None, digest: Digest) -> Reference:
        """The reference of one of its tags; None: of the manifest itself."""
        return replace(self.target, tag=tag, digest=None if tag is not None else digest)


class GroupCopy:
    """Copies over places that the caller owns, by the options in `shared`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._places = shared.places
        self._options = shared.options

    def is_alone(self, tag: str) -> bool:
        """Whether the tag is copied by itself, and not with others that mean the same."""
        return bool(self._shared.platforms) or is_attached_tag(tag)

    @asynccontextmanager
    async def reads(
        self, group: Group, targets: Sequence[Reference]
    ) -> AsyncIterator[Sequence[TargetReads | None]]:
        """The block in which copies to these targets run side by side, so that the source is read once."""
        if len(targets) == 1:
            yield [None]
            return
        try:
            kept = await self._open(group)
        except CrossdockError:  # each of the copies will report it
            yield [None for _ in targets]
            return
        registries = [each.registry for each in targets]
        async with SharedReads(kept, registries, self._shared.workshop, self._shared.resuming) as reads:
            yield reads.targets

    async def copy(
        self, group: Group, share: Share, tally: Tally, reads: TargetReads | None = None
    ) -> CopyResult:
        """Make the tags of `share` mean the group's manifest. Raises `CopyError`. # network

        The manifest may be gone by now, and the first tag mean another one: then that is copied. `reads`: as
        `CopySpec.reads`.
        """
        started = time.monotonic()
        group.tally = tally
        tag = share.tags[0] if share.tags else None
        kept = await self._open(group)
        platforms = () if is_attached_tag(tag) else self._shared.platforms
        wanted = share
        behind = [each for each in share.tags or ("",) if share.there.get(each) != group.digest]
        if not platforms:
            self._check_existing(group, share)
            if not behind and not self._shared.checks_blobs and not await self.may_have_attached(group):
                return _unchanged(group, share, tally, started)
            first = next(iter(behind), tag) or None
            wanted = Share(
                share.target, (first, *(each for each in behind if each != first)) if first else ()
            )
            if is_attached_tag(tag):
                return await self._copy_attached(group, share, kept, tally, started, reads)
        if platforms or behind:
            await self._read(kept)
        return await self._copy(group, wanted, share, kept, tally, reads)

    async def _read(self, kept: KeptSource) -> None:
        """Read the manifest now: it may be gone, and the tag mean something else. # network"""
        with during("fetch manifest from", "source", f"{kept.name}@{kept.named.digest}"):
            await kept.read()

    async def _copy(
        self,
        group: Group,
        wanted: Share,
        share: Share,
        kept: KeptSource,
        tally: Tally,
        reads: TargetReads | None,
    ) -> CopyResult:
        named = await kept.find()
        tag = wanted.tags[0] if wanted.tags else None
        if named.digest != group.digest and tag != group.tag:
            # Another tag has moved, and what both meant is gone: this one may mean anything now.
            return await self.copy(group.alone(tag), share, tally)
        origin = replace(group.source, tag=None, digest=named.digest)
        target = wanted.named(tag, named.digest)
        writing = cast("Target", await self._places.open(wanted.target, "target", tally.retried))
        others = wanted.tags[1:] if named.digest == group.digest else ()
        many = _ManyTags(writing, tag, others) if others and tag is not None else None
        spec = CopySpec(
            origin,
            target,
            is_alone=True,
            picks_platforms=not is_attached_tag(tag),
            reading=kept,
            writing=cast("Target", many) if many is not None else writing,
            reads=reads,
        )
        result = await copy_one(spec, self._shared, tally)
        if many is not None:
            await many.finish(kept)
            share.errors |= many.errors
        elif len(wanted.tags) > 1:
            share.errors |= await self._copy_others(group, wanted, tally)
        return replace(result, source=str(group.named(tag)), target=str(wanted.named(tag, named.digest)))

    async def _copy_others(self, group: Group, wanted: Share, tally: Tally) -> dict[str, Exception]:
        """The source has moved the first tag meanwhile: each of the others may mean anything now."""
        errors: dict[str, Exception] = {}
        for tag in wanted.tags[1:]:
            try:
                await self.copy(group.alone(tag), Share(wanted.target, (tag,)), tally)
            except CrossdockError as error:
                errors[tag] = error
        return errors

    async def _open(self, group: Group) -> KeptSource:
        if group.kept is None:
            source = group.named(group.tag)
            reading = await self._places.open(source, "source", group.retried)
            found = Descriptor(group.media_type, group.digest, 0)
            name = group.tag or str(group.digest)
            group.kept = KeptSource(reading, str(source), name, found=found, leaves_out=group.leaves_out)
        return group.kept

    def _check_existing(self, group: Group, share: Share) -> None:
        """Raise `CopyError` when the only tag means something else at the target and may not be moved."""
        if self._options.existing == "overwrite" or len(share.tags) != 1 or is_attached_tag(share.tags[0]):
            return
        there = share.there.get(share.tags[0])
        if there is not None and there != group.digest:
            target = str(share.named(share.tags[0], group.digest))
            with during("push manifest to", "target", target):
                raise TagExists(f"the tag means {there} there, not {group.digest}", references=(target,))

    # -- what is attached ----------------------------------------------------------------------------------

    async def may_have_attached(self, group: Group) -> bool:
        """Whether there may be signatures and the like at the source that have to be looked for at a target.

        One question to the referrers API at most, for all targets. Without the API they have tags, which are
        copied as such unless patterns leave them out. Of an index all manifests may have some. # network
        """
        if group.has_attached is None:
            wants = self._options.referrers is not False
            group.has_attached = wants and await self._look_for_attached(group)
        return group.has_attached

    def knows_referrers(self, source: Reference | LayoutReference) -> bool:
        """Whether it is known, or does not matter, if the source's registry has the referrers API."""
        if self._options.referrers is False or not isinstance(source, Reference):
            return True
        return self._places.has_referrers(source) is not None

    def is_without_attached(self, group: Group) -> bool:
        """Whether it is known that nothing is attached, except by tags that are copied anyway."""
        if self._options.referrers is False:
            return True
        if not isinstance(group.source, Reference) or self._places.has_referrers(group.source) is not False:
            return False
        return group.takes_all_tags or not group.digest_tags

    async def _look_for_attached(self, group: Group) -> bool:
        if not isinstance(group.source, Reference):
            return True
        kept = await self._open(group)
        if self._places.has_referrers(group.source) is not False:
            try:
                referrers, tags = await kept.attached(group.digest)
            except CrossdockError:
                return True  # the copy will show it
            if self._places.has_referrers(group.source):
                is_index = kept.named.is_index or not kept.named.media_type
                return is_index or bool(referrers or (not group.takes_all_tags and tags))
        if group.takes_all_tags:
            return False
        if kept.named.is_index or not kept.named.media_type:
            return bool(group.digest_tags)
        stem = fallback_tag(group.digest)
        return any(tag.startswith(stem) for tag in group.digest_tags)

    async def _copy_attached(
        self,
        group: Group,
        share: Share,
        kept: KeptSource,
        tally: Tally,
        started: float,
        reads: TargetReads | None,
    ) -> CopyResult:
        """Copy the manifest of a tag made of a digest. The target's own entries in a referrers list stay."""
        (tag,) = share.tags
        subject = listed_subject(tag)
        if share.there.get(tag) is not None and subject is not None:
            named = await kept.find()
            writing = await self._places.open(share.target, "target", tally.retried)
            adds, drops = await compare_lists(kept, writing, named, share.named(tag, named.digest))
            if drops and not adds:
                return _unchanged(group, share, tally, started)
            if drops and await self._takes_whole(writing, share.target, subject):
                # The engine adds the entries that are missing there.
                origin = replace(group.source, tag=None, digest=subject)
                listed = replace(share.target, tag=None, digest=subject)
                spec = CopySpec(
                    origin, listed, is_alone=True, picks_platforms=False, reading=kept, reads=reads
                )
                result = await copy_one(spec, self._shared, tally)
                return replace(
                    result, source=str(group.named(tag)), target=str(share.named(tag, group.digest))
                )
        await self._read(kept)
        return await self._copy(group, share, share, kept, tally, reads)

    async def _takes_whole(self, writing: Any, target: Reference, subject: Digest) -> bool:
        """Whether the subject of a list may be copied whole: an index of which platforms were chosen may not,
        unless the target has it anyway. # network
        """
        if not self._shared.platforms:
            return True
        checking = cast("ChecksManifests", writing)
        found = Descriptor("", subject, 0)
        with during("resolve", "target", f"{target.locator}@{subject}"):
            return await checking.has_manifest(found) and await checking.is_pushed_manifest(found)


class _ManyTags:
    """A target on which one tag stands for several: a manifest pushed by it is pushed by all of them."""

    def __init__(self, target: Target, tag: str, others: Sequence[str]) -> None:
        self.errors: dict[str, Exception] = {}
        self._target = target
        self._tag = tag
        self._left = [tag, *others]
        self._has_written = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """As `Target.push_manifest`. A tag that is refused does not keep the others from being written."""
        if tag != self._tag:
            await self._target.push_manifest(descriptor, data, tag)
            return
        await self._push(descriptor, data)

    async def finish(self, kept: KeptSource) -> None:
        """Write the tags that are left because the first was right already. Raises `CopyError`."""
        if self._left and self._tag in self._left:
            self._left.remove(self._tag)
        if self._left:
            named = kept.named
            with during("push manifest to", "target", f"{self._target.name}:{self._left[0]}"):
                await self._push(named, await kept.fetch_manifest(named))

    async def _push(self, descriptor: Descriptor, data: bytes) -> None:
        push_tags = getattr(self._target, "push_tags", None)
        if push_tags is not None and len(self._left) > 1:
            given = await push_tags(descriptor, data, self._left)
            self._left = [each for each in self._left if each not in given]
            self._has_written = self._has_written or bool(given)
        while self._left:
            tag = self._left[0]
            try:
                await self._target.push_manifest(descriptor, data, tag)
            except CrossdockError as error:
                codes = error.codes if isinstance(error, RegistryError) else frozenset[str]()
                is_last = len(self._left) == 1 and not self._has_written
                if is_last or not was_refused(error) or not CONTENT_MISSED.isdisjoint(codes):
                    raise
                self.errors[tag] = _named(error, f"{self._target.name}:{tag}")
            else:
                self._has_written = True
            self._left.remove(tag)


def _named(error: CrossdockError, reference: str) -> Exception:
    try:
        with during("push manifest to", "target", reference):
            raise error
    except CopyError as named:
        return without_traceback(named)


def _unchanged(group: Group, share: Share, tally: Tally, started: float) -> CopyResult:
    tag = share.tags[0] if share.tags else None
    source, target = str(group.named(tag)), str(share.named(tag, group.digest))
    seconds = time.monotonic() - started
    media_type = group.kept.named.media_type if group.kept is not None else group.media_type
    tally.emit(CopyStarted(source, target, group.digest, media_type))
    became, previous = tag_outcome(group.digest, group.digest) if tag is not None else (None, None)
    tally.emit(CopyDone(group.digest, seconds, became, previous, changed=False))
    return CopyResult(
        source=source,
        target=target,
        digest=group.digest,
        source_digest=group.digest,
        media_type=media_type,
        seconds=seconds,
        warnings=tuple(tally.warnings),
        manifests=1,
        retries=tally.retries,
        tag=became,
        previous_digest=previous,
        changed=False,
    )
