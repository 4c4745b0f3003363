"""Choosing platforms: the manifest or index to copy in place of an index.

One platform on an index is that platform's manifest. Several are a new index, with a new digest, of the
entries of these platforms and the attestations that BuildKit lists beside them. A single image is copied as
it is, if its config states one of the platforms or none, as those of signatures and Helm charts do.

Rules of the search:

1. Platforms that entries state count first, in the index and in those below it, level by level. An entry
   without a type may be an index, and is fetched to find out.
2. Entries that state no platform are matched by their configs, if the others do not have all that is wanted.
3. An entry whose manifest is missing or not understood offers nothing; other failures end the copy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from msgspec import Struct, field

from crossdock.content import Body, Source
from crossdock.errors import (
    Advice,
    ContentError,
    InvalidManifest,
    LimitExceeded,
    NotFound,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.index import (
    attestations,
    matching,
    offers_exactly,
    platform_of_config,
    raw_entries,
    with_entries,
)
from crossdock.oci.manifest import Manifest
from crossdock.oci.mediatype import is_manifest
from crossdock.oci.platform import Platform, matches
from crossdock.reading import read_manifest
from crossdock.steps import during
from crossdock.transfer.sinks import MemorySink
from crossdock.verify import size_note, verify_bytes

CONFIG_LIMIT = 4 << 20  # the manifest limit serves: real configs are a few KiB
NESTING = 8
MANIFESTS = 1000  # read to find platforms; a nested index has a handful
MANIFEST_BYTES = 64 << 20
CONFIGS = 100  # read to find out platforms; each costs two requests
SHOWN = 40  # platforms that an error lists, and characters of each

Warn = Callable[[str], None]


async def select(
    named: Descriptor,
    data: bytes,
    wanted: tuple[Platform, ...],
    source: Source,
    warn: Warn = lambda text: None,
) -> tuple[Descriptor, bytes]:
    """The root to copy and its bytes. Raises `CopyError` over `NotFound` when a platform is not there."""
    if not wanted:
        return named, data
    with during("choose platform of", "source", f"{source.name}@{named.digest}"):
        manifest = await read_manifest(data, named.media_type)
        if not manifest.is_index:
            await _check_single(manifest, wanted, source)
            return named, data
        search = _Search(_Index(data, manifest), wanted, source)
        await search.run()
        if len(wanted) == 1:
            return await search.only(warn)
        filtered = await search.filtered(warn)
        descriptor = Descriptor(
            media_type=manifest.media_type, digest=Digest.of(filtered), size=len(filtered)
        )
        return descriptor, filtered


class _Index(Struct):
    """An index that is searched."""

    data: bytes
    manifest: Manifest
    offered: list[Platform | None] = field(default_factory=list)  # of each entry, as far as it is known
    chosen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        platforms = (entry.platform for entry in self.manifest.manifests)
        self.offered = [each if each and each.os and each.architecture else None for each in platforms]

    def subjects(self) -> set[Digest]:
        """The manifests that were chosen."""
        return {self.manifest.manifests[at].digest for at in self.chosen}


class _Search:
    """Looks for platforms in an index and in those below it."""

    def __init__(self, root: _Index, wanted: tuple[Platform, ...], source: Source) -> None:
        self._wanted = wanted
        self._missing = list(dict.fromkeys(wanted))
        self._source = source
        self._indexes = [root]
        self._seen: dict[Digest, tuple[bytes, Manifest] | None] = {}  # what was fetched; None: offers nothing
        self._unread: list[Digest] = []
        self._configs = 0
        self._bytes = 0

    async def run(self) -> None:
        """Choose the entries. Raises `NotFound` for a platform that is not there. # network"""
        level = self._indexes[:1]
        for _ in range(NESTING):
            for index in level:
                self._choose(index)
            if not self._missing:
                return
            level = [below async for below in self._below(level)]
            self._indexes += level
        await self._choose_by_config()
        if self._missing:
            raise self._not_found()

    async def only(self, warn: Warn) -> tuple[Descriptor, bytes]:
        """The one manifest that was chosen. # network"""
        index = next(each for each in self._indexes if each.chosen)
        entry = index.manifest.manifests[next(iter(index.chosen))]
        known = self._seen.get(entry.digest)
        data = known[0] if known else await self._source.fetch_manifest(entry)  # network
        if note := size_note(data, entry):
            warn(note)
        if attestations(index.manifest, index.subjects()):
            warn(
                f"the attestations of {self._wanted[0]} are not copied: the index lists them, and a copy of "
                "one platform copies the manifest alone"
            )
        return entry, data

    async def filtered(self, warn: Warn) -> bytes:
        """The first index with all entries that were chosen, and their attestations. # network"""
        entries = []
        for index in self._indexes:
            if index.chosen:
                kept = index.chosen | {at async for at in self._attestations(index, warn)}
                raw = raw_entries(index.data)
                entries += [raw[at] for at in sorted(kept)]
        return with_entries(self._indexes[0].data, entries)

    async def _attestations(self, index: _Index, warn: Warn) -> AsyncIterator[int]:
        """Those that the source has: clean-ups delete them as untagged manifests."""
        for at in attestations(index.manifest, index.subjects()):
            digest = index.manifest.manifests[at].digest
            try:
                await self._source.resolve(digest)  # network
            except NotFound:
                warn(
                    f"{digest}, an attestation, is listed and not at the source: the new index leaves it out"
                )
            else:
                yield at

    def _choose(self, index: _Index) -> None:
        for platform in list(self._missing):
            if (at := matching(index.offered, platform)) is not None:
                index.chosen.add(at)
                self._missing.remove(platform)

    async def _below(self, level: list[_Index]) -> AsyncIterator[_Index]:
        """The indexes that these list."""
        for index in level:
            for entry in index.manifest.manifests:
                if entry.digest in self._seen or not (entry.is_index or _says_nothing(entry)):
                    continue
                found = await self._read(entry)
                if found is not None and found[1].is_index:
                    yield _Index(*found)

    async def _read(self, entry: Descriptor) -> tuple[bytes, Manifest] | None:
        if entry.digest in self._seen:
            return self._seen[entry.digest]
        if len(self._seen) >= MANIFESTS or self._bytes > MANIFEST_BYTES:
            raise LimitExceeded(f"too many manifests were searched for {self._missing[0]}")
        found = None
        try:
            data = await self._source.fetch_manifest(entry)  # network
            self._bytes += len(data)
            found = data, await read_manifest(data, entry.media_type)
        except (NotFound, InvalidManifest):
            self._unread.append(entry.digest)
        self._seen[entry.digest] = found
        return found

    async def _choose_by_config(self) -> None:
        """Choose among entries that state no platform. # network"""
        for index in self._indexes:
            for at, entry in enumerate(index.manifest.manifests):
                if index.offered[at] is None and (not entry.media_type or is_manifest(entry.media_type)):
                    index.offered[at] = await self._offered(entry)
                    if all(offers_exactly(index.offered, each) for each in self._missing):
                        break
            self._choose(index)
            if not self._missing:
                return

    async def _offered(self, entry: Descriptor) -> Platform | None:
        """The platform of an image, by its config."""
        if self._configs >= CONFIGS:
            return None
        self._configs += 1
        found = await self._read(entry)
        config = found[1].config if found else None
        if config is None or config.size > CONFIG_LIMIT:
            return None
        try:
            return platform_of_config(await _read_blob(config, self._source))
        except NotFound:
            self._unread.append(entry.digest)
            return None

    def _not_found(self) -> NotFound:
        known = (each for index in self._indexes for each in index.offered)
        offered = sorted({str(each)[:SHOWN] for each in known if each and not each.is_unknown})
        words = ", ".join(offered[:SHOWN]) + (" …" if len(offered) > SHOWN else "")
        unread = f"; {self._unread[0]} is listed and cannot be read" if self._unread else ""
        return NotFound(
            f"no manifest for {self._missing[0]}; offered: {words or 'none with a platform'}{unread}",
            advice=Advice(
                "choose-platform" if offered else "omit-platform", platforms=tuple(offered[:SHOWN])
            ),
        )


def advice_on_missing(child: Descriptor, *, chosen: bool) -> Advice:
    """Advice on a manifest that an index lists and the source does not have."""
    what = f" for {child.platform}" if child.platform and not child.platform.is_unknown else ""
    if child.platform and child.platform.is_unknown:
        what = " as an attestation"
    return Advice(
        "omit-this-platform" if chosen else "choose-present-platforms",
        why=f"an index lists this manifest{what} and the source no longer has it",
        platforms=(str(child.platform),) if child.platform and not child.platform.is_unknown else (),
    )


def _says_nothing(entry: Descriptor) -> bool:
    """Whether only the manifest itself can tell what it is."""
    return not entry.media_type and entry.platform is None


async def _check_single(manifest: Manifest, wanted: tuple[Platform, ...], source: Source) -> None:
    if manifest.config is None:
        return
    offered = platform_of_config(await _read_blob(manifest.config, source))
    if offered is not None and not any(matches(each, offered) for each in wanted):
        raise NotFound(
            f"the image is for {str(offered)[:SHOWN]}, not {' or '.join(map(str, wanted))}",
            advice=Advice("omit-platform", platforms=(str(offered)[:SHOWN],)),
        )


async def _read_blob(blob: Descriptor, source: Source) -> bytes:
    """A small blob whole."""
    if blob.size > CONFIG_LIMIT:
        raise ContentError(f"config {blob.digest} has {blob.size} bytes, more than {CONFIG_LIMIT}")
    sink = MemorySink(memoryview(bytearray(blob.size)))
    body: Body = await source.blob(blob).open(0, blob.size)  # network
    try:
        await body.receive(sink)  # network
    finally:
        body.close()
    data = bytes(sink.view)
    verify_bytes(data, blob)
    return data
