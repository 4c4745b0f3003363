"""Choosing platforms: what ``--platform`` makes of an index.

One platform on an index is that platform's manifest. Several are a filtered index, a new document with a new
digest. On a single image the platform is checked against its config.
"""

from __future__ import annotations

from crossdock.content import Body, Source
from crossdock.errors import ContentError, InvalidOption, LimitExceeded, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.index import filter_index, matching, platform_of_config
from crossdock.oci.manifest import Manifest
from crossdock.oci.platform import Platform, matches
from crossdock.reading import read_manifest
from crossdock.transfer.blob import during
from crossdock.verify import verify_bytes

CONFIG_LIMIT = 4 << 20  # the manifest limit serves: real configs are a few KiB
NESTING = 8
INDEXES = 1000  # searched for one platform; a nested index has a handful
SHOWN = 40  # platforms that an error lists, and characters of each


async def select(
    named: Descriptor, data: bytes, wanted: tuple[Platform, ...], source: Source
) -> tuple[Descriptor, bytes]:
    """The root to copy and its bytes. Raises `CopyError` over `NotFound` when a platform is not there."""
    if not wanted:
        return named, data
    with during("choose platform of", "source", f"{source.name}@{named.digest}"):
        manifest = await read_manifest(data, named.media_type)
        if not manifest.is_index:
            await _check_single(manifest, wanted, source)
            return named, data
        if len(wanted) == 1:
            return await _descend(manifest, wanted[0], source)
        keep = [_direct(manifest, platform).digest for platform in wanted]
        filtered = filter_index(data, keep)
        descriptor = Descriptor(
            media_type=manifest.media_type, digest=Digest.of(filtered), size=len(filtered)
        )
        return descriptor, filtered


def _direct(index: Manifest, platform: Platform) -> Descriptor:
    found = matching(index, platform)
    if found is None:
        raise _missing(platform, index)
    return found


async def _descend(index: Manifest, platform: Platform, source: Source) -> tuple[Descriptor, bytes]:
    """The platform's manifest in the index, or in the indexes below it, breadth first."""
    level = [index]
    seen: set[Digest] = set()
    for _ in range(NESTING):
        below: list[Manifest] = []
        for current in level:
            found = matching(current, platform)
            if found is not None:
                return found, await source.fetch_manifest(found)  # network
            for child in current.manifests:
                if child.is_index and child.digest not in seen:
                    seen.add(child.digest)
                    if len(seen) > INDEXES:
                        raise LimitExceeded(f"over {INDEXES} indexes were searched for {platform}")
                    data = await source.fetch_manifest(child)  # network
                    below.append(await read_manifest(data, child.media_type))
        level = below
    raise _missing(platform, index)


async def _check_single(manifest: Manifest, wanted: tuple[Platform, ...], source: Source) -> None:
    if len(wanted) > 1:
        raise InvalidOption(
            "several platforms were asked of a single image", hint="give one --platform or none"
        )
    if manifest.config is None:
        return
    offered = platform_of_config(await _read(manifest.config, source))
    if offered is not None and not matches(wanted[0], offered):
        raise NotFound(
            f"the image is for {str(offered)[:SHOWN]}, not {wanted[0]}",
            hint="leave --platform out to copy it",
        )


async def _read(blob: Descriptor, source: Source) -> bytes:
    """A small blob whole."""
    if blob.size > CONFIG_LIMIT:
        raise ContentError(f"config {blob.digest} has {blob.size} bytes, more than {CONFIG_LIMIT}")
    sink = _Memory(blob.size)
    body: Body = await source.blob(blob).open(0, blob.size)  # network
    try:
        await body.receive(sink)  # network
    finally:
        body.close()
    data = bytes(sink.data)
    verify_bytes(data, blob)
    return data


class _Memory:
    """A sink of known size."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._filled = 0

    def get_buffer(self) -> memoryview | None:
        return memoryview(self.data)[self._filled :]

    def received(self, count: int) -> None:
        self._filled += count


def _missing(platform: Platform, index: Manifest) -> NotFound:
    offered = sorted({str(entry.platform)[:SHOWN] for entry in index.manifests if entry.platform})
    words = ", ".join(offered[:SHOWN]) + (" …" if len(offered) > SHOWN else "")
    return NotFound(f"no manifest for {platform}; offered: {words or 'none with a platform'}")
