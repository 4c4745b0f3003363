"""One copy: takes a request, the session's shared state and a tally, and returns a result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from crossdock.events import TagOutcome, ignore
from crossdock.frozen import Frozen
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import Verify
from crossdock.runs.places import Place, Shared
from crossdock.runs.run import Watchers
from crossdock.runs.totals import Totals
from crossdock.tally import Tally
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest

if TYPE_CHECKING:
    from crossdock.content import Source, Target
    from crossdock.transfer.fanout import TargetReads


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class CopyResult(Frozen):
    """The result of a copy. Sizes in bytes; a blob that occurs twice counts once.

    ``digest`` is what the target has, ``source_digest`` what the source named: they differ when several
    platforms made a new index or one platform was taken out of an index. ``verified`` is what was done of
    `CopyOptions.verify`: a layout checks nothing, so ``target`` became ``stream``. ``bytes_resumed`` are
    those of ``bytes_moved`` that an earlier process had sent, in ``uploads_resumed`` uploads;
    ``bytes_spooled`` came from the spool and were not requested from the source. ``referrers`` counts what is
    attached to the manifests, ``referrers_copied`` those of them that the target did not have; ``manifests``
    counts them as well. ``merged``: the tag is one of those made of digests (``sha256-….sig``), and the
    target now has its own content and the source's under it. ``tag``: whether the target's tag is new, was
    moved, or is unchanged; ``previous_digest``: its digest before. Both are None for a target without a tag,
    and if the target did not tell what it had. ``changed``: the target got a manifest or a blob that it did
    not have.
    """

    source: str
    target: str
    digest: str
    source_digest: str
    media_type: str
    manifests: int = 0
    blobs_moved: int = 0
    blobs_skipped: int = 0
    blobs_mounted: int = 0
    bytes_moved: int = 0
    bytes_skipped: int = 0
    bytes_mounted: int = 0
    bytes_requested: int = 0
    bytes_resumed: int = 0
    bytes_spooled: int = 0
    uploads_resumed: int = 0
    retries: int = 0
    seconds: float = 0.0
    verified: Verify = "stream"
    referrers: int = 0
    referrers_copied: int = 0
    merged: bool = False
    tag: TagOutcome | None = None
    previous_digest: str | None = None
    warnings: tuple[str, ...] = ()
    changed: bool = True

    @property
    def digest_changed(self) -> bool:
        """The target's digest is not the one the source reference names."""
        return self.digest != self.source_digest

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``digest_changed`` is one of them, ``changed`` is not."""
        values = {name: getattr(self, name) for name in CopyResult.__slots__ if name != "changed"}
        return {**values, "digest_changed": self.digest_changed}


class CopySpec(Struct, frozen=True):
    """One copy to make.

    `is_alone`: it is not one of a list, so referrers are copied unless the options forbid it. `is_named`: a
    person named this target, so a tag made of a digest may be replaced there. `reading`: `source` as the
    caller has opened it, who counts its retries; `writing`: the same of `target`. `reads`: it is one of the
    copies to several targets, for which the source is read once.
    """

    source: Place
    target: Place
    is_alone: bool = False
    is_named: bool = False
    picks_platforms: bool = True
    reading: Source | None = None
    writing: Target | None = None
    reads: TargetReads | None = None


class OneCopy:
    """A single copy as a run (`run.Work`)."""

    def __init__(self, spec: CopySpec, places: asyncio.Semaphore) -> None:
        """`places` bounds how many copies are under way at once."""
        self.totals = Totals(images=1)
        self._spec = spec
        self._places = places
        self._tally = Tally(ignore)
        self._result: CopyResult | None = None

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Make the copy. Raises `CopyError`. # network"""
        spec = self._spec
        async with self._places:
            try:
                self._result = await watchers.follow(
                    0,
                    str(spec.source),
                    str(spec.target),
                    self._tally,
                    lambda tally: copy_one(spec, shared, tally),
                )
            except Exception:
                self.totals.images_failed += 1
                raise
        self.totals.images_done += 1

    def result(self) -> CopyResult:
        """The result so far; its digests are empty until it has succeeded."""
        return self._result or result_so_far(self._spec, self._tally, seconds=self.totals.seconds)


async def copy_one(spec: CopySpec, shared: Shared, tally: Tally) -> CopyResult:
    """Make the copy; its figures and events go to `tally`. Raises `CopyError`. # network"""
    started = time.monotonic()
    shared.resuming.warn_of_trouble(tally)
    source, target = spec.source, spec.target
    reading = spec.reading or await shared.places.open(source, "source", tally.retried)
    writing = spec.writing or await shared.places.open(target, "target", tally.retried)
    request = _request(spec, shared)
    copying = ImageCopy(request, reading, writing, shared.workshop, shared.resuming, tally, spec.reads)
    named, root = await copying.run()
    for warning in shared.places.take_warnings():
        tally.warn(warning)
    return result_so_far(
        spec,
        tally,
        digest=root.digest,
        source_digest=named.digest,
        media_type=root.media_type,
        seconds=time.monotonic() - started,
        verified=copying.verified,
        merged=copying.merged,
        tag=copying.tag,
        previous_digest=copying.previous_digest,
    )


def result_so_far(
    spec: CopySpec,
    tally: Tally,
    *,
    seconds: float,
    digest: str = "",
    source_digest: str = "",
    media_type: str = "",
    verified: Verify = "stream",
    merged: bool = False,
    tag: TagOutcome | None = None,
    previous_digest: str | None = None,
) -> CopyResult:
    """The result of a copy from its figures; without digests unless it has succeeded."""
    return CopyResult(
        source=str(spec.source),
        target=str(spec.target),
        digest=digest,
        source_digest=source_digest,
        media_type=media_type,
        manifests=tally.manifests,
        referrers=tally.referrers,
        referrers_copied=tally.referrers_copied,
        blobs_moved=tally.blobs["moved"],
        blobs_skipped=tally.blobs["skipped"],
        blobs_mounted=tally.blobs["mounted"],
        bytes_moved=tally.bytes["moved"],
        bytes_skipped=tally.bytes["skipped"],
        bytes_mounted=tally.bytes["mounted"],
        bytes_requested=tally.bytes_requested,
        bytes_resumed=tally.bytes_resumed,
        bytes_spooled=tally.bytes_spooled,
        uploads_resumed=tally.uploads_resumed,
        retries=tally.retries,
        seconds=seconds,
        verified=verified,
        merged=merged,
        tag=tag,
        previous_digest=previous_digest,
        warnings=tuple(tally.warnings),
        changed=tally.changed,
    )


def _request(spec: CopySpec, shared: Shared) -> CopyRequest:
    source, target, options = spec.source, spec.target, shared.options
    mount_from: tuple[str, ...] = ()
    if (
        isinstance(source, Reference)
        and isinstance(target, Reference)
        and source.registry == target.registry
        and source.repository != target.repository
    ):
        mount_from = (source.repository,)
    platforms = shared.platforms if spec.picks_platforms else ()
    if not spec.is_named and (is_attached_tag(source.tag) or is_attached_tag(target.tag)):
        platforms = ()  # a list of referrers is an index, but not one of platforms
    return CopyRequest(
        source_reference=str(source),
        target_reference=str(target),
        source_name=source.tag or str(source.digest or ""),
        source_digest=Digest(source.digest) if source.digest else None,
        target_tag=target.tag,
        target_digest=Digest(target.digest) if target.digest else None,
        platforms=platforms,
        mount_from=mount_from,
        referrers=spec.is_alone if options.referrers is None else options.referrers,
        requires_referrers=options.referrers is True,
        copies_foreign=options.foreign_layers == "copy",
        keeps_existing=options.existing != "overwrite",
        keeps_attached=not spec.is_named,
    )
