"""The library: `copy`, `inspect` and `list_tags`; `copy_many` is in `many`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from crossdock.events import Listener, check_listener, ignore
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.platform import Platform
from crossdock.oci.reference import Location, Reference, as_location
from crossdock.options import CopyOptions, Verify
from crossdock.reading import read_manifest
from crossdock.transfer.attachedtags import is_attached_tag
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.naming import fetch_named
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.resume import Resuming
from crossdock.transfer.steps import during
from crossdock.transfer.tally import Tally, log_retry
from crossdock.transfer.workshop import Workshop
from crossdock.wiring import Places, open_resuming, open_workshop

if TYPE_CHECKING:
    from crossdock.content import Source

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyResult:
    """What a copy did. Sizes in bytes; a blob that occurs twice counts once.

    ``digest`` is what the target has, ``source_digest`` what the source named: they differ when several
    platforms made a new index or one platform was taken out of an index. ``verified`` is what was done of
    `CopyOptions.verify`: a layout checks nothing, so ``target`` became ``stream``. ``bytes_resumed`` are
    those of ``bytes_moved`` that an earlier process had sent, in ``uploads_resumed`` uploads;
    ``bytes_spooled`` came from the spool and were not asked of the source. ``referrers`` counts what is
    attached to the manifests, ``referrers_copied`` what of it the target did not have; ``manifests`` counts
    them as well. ``merged``: the tag is one of those made of digests (``sha256-….sig``), and what the target
    has under it now is its own content and the source's.
    """

    source: str
    target: str
    digest: str
    source_digest: str
    media_type: str
    manifests: int
    blobs_moved: int
    blobs_skipped: int
    blobs_mounted: int
    bytes_moved: int
    bytes_skipped: int
    bytes_mounted: int
    bytes_requested: int
    bytes_resumed: int
    bytes_spooled: int
    uploads_resumed: int
    retries: int
    seconds: float
    verified: Verify = "stream"
    referrers: int = 0
    referrers_copied: int = 0
    merged: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def digest_changed(self) -> bool:
        """The target's digest is not the one the source reference names."""
        return self.digest != self.source_digest

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, ``digest_changed`` included."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "digest_changed": self.digest_changed}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a reference names: its descriptor's fields, the document's bytes and the parsed document."""

    reference: str
    digest: str
    media_type: str
    size: int
    raw: bytes
    manifest: Manifest


async def copy(
    source: str | Location,
    target: str | Location,
    options: CopyOptions | None = None,
    *,
    on_event: Listener = ignore,
) -> CopyResult:
    """Copy what `source` names to `target`, byte-exact, with everything below it; the tag is written last.

    `source` and `target` are references (``host[:port]/repository[:tag][@digest]``) or layouts
    (``oci:DIR[:tag|@digest]``), as text or parsed. `on_event` gets values of `crossdock.events` and must not
    block. Retries and warnings are logged by the logger ``crossdock`` as well.

    Raises TypeError for an `on_event` that is a coroutine function, `InvalidInput` before anything is sent;
    `CopyError` with operation, side, reference and cause when the copy fails. Then the target has no new tag.
    Upload sessions are dropped, also on cancellation, except those that the same copy can resume later
    (``options.state``; the event `UploadKept` names them).
    """
    check_listener(on_event)
    options = options or CopyOptions()
    origin, destination = as_location(source), as_location(target)
    platforms = tuple(Platform.parse(text) for text in options.platforms)
    tally = Tally(on_event)
    async with (
        Places(options, tally.retried) as places,
        open_workshop(options) as workshop,
        open_resuming(options) as resuming,
    ):
        parts = (places, workshop, resuming, tally)
        return await copy_one(origin, destination, platforms, *parts, is_alone=True, is_named=True)


async def inspect(
    reference: str | Location,
    options: CopyOptions | None = None,
    *,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Inspection:
    """What `reference` names; nothing but its manifest is fetched. Uses the options' source side.

    `on_warning` is told of places of logins that cannot be used.
    """
    options = options or CopyOptions()
    location = as_location(reference)
    async with Places(options) as places:
        repository = await places.open(location, "source", log_retry)
        with during("inspect", "source", str(location)):

            async def resolve() -> Descriptor:
                return await repository.resolve(_name_of(location))

            named, data = await fetch_named(repository.fetch_manifest, await resolve(), resolve)
            manifest = await read_manifest(data, named.media_type)
        for warning in places.take_warnings():
            on_warning(warning)
    return Inspection(
        reference=str(location),
        digest=named.digest,
        media_type=manifest.media_type,
        size=len(data),
        raw=data,
        manifest=manifest,
    )


async def list_tags(
    repository: str | Location,
    options: CopyOptions | None = None,
    *,
    on_warning: Callable[[str], None] = lambda message: None,
) -> list[str]:
    """The tags of a repository or layout, as it lists them. Uses the options' source side.

    `on_warning` is told of entries that are no tags, which are left out, and as of `inspect`.
    """
    options = options or CopyOptions()
    location = as_location(repository)
    async with Places(options) as places:
        opened = await places.open(location, "source", log_retry)
        with during("list tags of", "source", opened.name):
            names = await opened.tags(on_warning)
        for warning in places.take_warnings():
            on_warning(warning)
    return names


def copy_sync(
    source: str | Location,
    target: str | Location,
    options: CopyOptions | None = None,
    *,
    on_event: Listener = ignore,
) -> CopyResult:
    """`copy` for callers without an event loop; runs on uvloop.

    Raises RuntimeError inside a running event loop, which it would block: there, ``await copy(...)``.
    """
    refuse_running_loop("copy")
    return run(copy(source, target, options, on_event=on_event))


def refuse_running_loop(name: str) -> None:
    """Raise RuntimeError inside a running event loop, which the synchronous form of `name` would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name}_sync cannot run inside a running event loop: await crossdock.{name}() there")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine on a uvloop of its own."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


# -- one copy -------------------------------------------------------------------------------------------


async def copy_one(
    origin: Location,
    destination: Location,
    platforms: tuple[Platform, ...],
    places: Places,
    workshop: Workshop,
    resuming: Resuming,
    tally: Tally,
    *,
    is_alone: bool = False,
    is_named: bool = False,
    reading: Source | None = None,
) -> CopyResult:
    """Copy `origin` to `destination` with parts that the caller owns. Raises `CopyError`.

    `is_alone`: it is no copy of a list, so referrers are copied unless they are not wanted. `is_named`: a
    person asked for this target by name, so a tag of a digest may be replaced there. `reading`: `origin` as
    the caller has opened it, whose retries the caller counts.
    """
    started = time.monotonic()
    resuming.warn_of_trouble(tally)
    reading = reading or await places.open(origin, "source", tally.retried)
    writing = await places.open(destination, "target", tally.retried)
    wish = _wish(origin, destination, platforms, places.options, is_alone, is_named)
    copying = ImageCopy(wish, reading, writing, workshop, resuming, tally)
    named, root = await copying.run()
    for warning in places.take_warnings():
        tally.warn(warning)
    return CopyResult(
        source=str(origin),
        target=str(destination),
        digest=root.digest,
        source_digest=named.digest,
        media_type=root.media_type,
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
        seconds=time.monotonic() - started,
        verified=copying.verified,
        merged=copying.merged,
        warnings=tuple(tally.warnings),
    )


def _name_of(location: Location) -> str:
    """Tag or digest to resolve; empty for a layout without either: its only manifest."""
    return location.tag or (str(location.digest) if location.digest else "")


def _wish(
    origin: Location,
    destination: Location,
    platforms: tuple[Platform, ...],
    options: CopyOptions,
    is_alone: bool,
    is_named: bool,
) -> CopyRequest:
    mount_from: tuple[str, ...] = ()
    if (
        isinstance(origin, Reference)
        and isinstance(destination, Reference)
        and origin.registry == destination.registry
        and origin.repository != destination.repository
    ):
        mount_from = (origin.repository,)
    if not is_named and (is_attached_tag(origin.tag) or is_attached_tag(destination.tag)):
        platforms = ()  # a list of referrers is an index, but not one of platforms
    return CopyRequest(
        source_reference=str(origin),
        target_reference=str(destination),
        source_name=_name_of(origin),
        source_digest=Digest(origin.digest) if origin.digest else None,
        target_tag=destination.tag,
        target_digest=Digest(destination.digest) if destination.digest else None,
        platforms=platforms,
        mount_from=mount_from,
        referrers=is_alone if options.referrers is None else options.referrers,
        requires_referrers=options.referrers is True,
        copies_foreign=options.foreign_layers == "copy",
        keeps_attached=not is_named,
    )
