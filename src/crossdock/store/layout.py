"""An OCI image layout as a `content.Source` and `content.Target` (image-spec image-layout.md).

Names: a tag is looked for as the annotation ``org.opencontainers.image.ref.name`` exactly; then as a whole
image name, as containerd and BuildKit write it in ``io.containerd.image.name``; then as the tag at the end of
such names, when that means one manifest. A digest is looked for in the index and then among the blobs.

Writing: blobs first, each complete before it gets its name; a tag is one change of ``index.json`` (see
`indexfile`). A root without a tag is listed by `add_root`, so that `skopeo inspect oci:DIR` finds it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from crossdock.content import ByteSink, ManifestRow
from crossdock.errors import (
    Advice,
    ContentError,
    NotFound,
    ReadFailed,
    Side,
    SizeMismatch,
    StoreError,
)
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Limits, Manifest, parse_manifest
from crossdock.oci.reference import ARCHIVE_HINT, LayoutReference
from crossdock.options import CopyOptions
from crossdock.store.attached import Attached
from crossdock.store.blobfiles import BlobFiles, BlobWriter, remove_stale
from crossdock.store.files import explain
from crossdock.store.folder import Folder
from crossdock.store.indexfile import (
    Entry,
    IndexFile,
    add_untagged,
    entries_by_tag,
    name_of,
    set_tag,
)
from crossdock.store.several import index_document, join_platforms, listed, platforms_of, several_named
from crossdock.tasks import in_thread
from crossdock.verify import verify_bytes, verify_manifest

PLATFORM_LIMIT = 4096  # characters of the platform that an entry of the index states
MAX_READ = 4 << 20  # bytes one thread reads at a time: a cancelled copy waits for at most this much


class LayoutStore:
    """The layout in folder `path`, as source and as target.

    With `create` a missing layout is made when the first blob or manifest is written, not before: a copy that
    finds no source leaves no folder behind. Without, `StoreError` is raised at once when there is none.

    With `joins_platforms` the manifests of several platforms that ``index.json`` lists under one name, or all
    without one, are resolved to an index of them, which exists in memory only: for a choice of platforms.
    """

    def __init__(self, path: Path | str, *, create: bool = False, joins_platforms: bool = False) -> None:
        self.path = Path(path)
        self._create = create
        self._joins_platforms = joins_platforms
        self._joined: dict[Digest, bytes] = {}
        self._limits = Limits()
        self._prepared = False
        self._folder = Folder(self.path)
        self.files = BlobFiles(self._folder)
        self.index = IndexFile(self._folder)
        self._attached = Attached(self._read_manifest)
        if not create or self.index.exists():
            self.index.entries()
        elif self.path.exists() and not self.path.is_dir():
            raise StoreError(
                f"{self.path} is a file, and a layout is a folder",
                advice=Advice("unpack-archive", ARCHIVE_HINT),
            )
        elif self.index.path.exists() and not self.index.exists():
            if (self.path / "oci-layout").exists():
                self.index.entries()  # it raises the right error
            raise StoreError(
                f"{self.path} has an index.json but no oci-layout file: it is not an OCI image layout",
                advice=Advice("use-another-target", "give a new folder"),
            )

    @property
    def name(self) -> str:
        """``oci:DIR``."""
        return f"oci:{self.path}"

    # -- source --------------------------------------------------------------------------------------

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        """Every tag, sorted; nothing is left out and warned of. Raises `StoreError`, `ContentError`."""
        entries = await in_thread(self._entries)
        return sorted({tag for entry in entries if (tag := name_of(entry))})

    async def list_manifests(
        self,
        on_warning: Callable[[str], None] | None = None,
        *,
        untagged: bool = False,
        needed: bool = False,
    ) -> list[ManifestRow] | None:
        """Every manifest that ``index.json`` lists, with its tags; it keeps no times.

        None when a tag has several manifests: what it means is for `resolve` to say. Raises as `tags`.
        """
        rows: dict[Digest, ManifestRow] = {}
        owners: dict[str, Digest] = {}
        for entry in await in_thread(self._entries):
            digest, tag = Digest.parse(entry["digest"]), name_of(entry)
            if tag and owners.setdefault(tag, digest) != digest:
                return None
            tags = rows[digest].tags if digest in rows else ()
            media_type = entry.get("mediaType")
            rows[digest] = ManifestRow(
                digest,
                tuple(dict.fromkeys((*tags, tag))) if tag else tags,
                media_type if isinstance(media_type, str) else "",
            )
        return list(rows.values())

    async def resolve(self, reference: str = "") -> Descriptor:
        """The descriptor behind a tag or digest; an empty reference means the only manifest there is.

        Raises `NotFound` (the tags that exist are named), `ContentError` (damaged, or the name means
        several manifests), `StoreError`.
        """
        return await in_thread(self._resolve, reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes, digest verified. Raises `NotFound`, `ContentError`, `StoreError`."""
        return await in_thread(self._read_manifest, descriptor)

    def blob(self, descriptor: Descriptor) -> LayoutBlob:
        """The blob's file, to be opened in ranges."""
        return LayoutBlob(self.files, descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """The listed manifests whose subject is `digest`, and the tags that are made of it."""
        return await in_thread(
            lambda: (self._referrers(digest), self._attached.tags(self._entries(), digest))
        )

    # -- target --------------------------------------------------------------------------------------

    async def find_manifest(self, reference: str) -> bytes | None:
        """The manifest behind a tag or digest; None: it is not here, or damaged.

        Raises `ContentError` when the tag means several manifests, `StoreError`.
        """
        return await in_thread(self._find_manifest, reference)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob's file is there with the descriptor's size."""
        return await in_thread(self.files.size, descriptor.digest) == descriptor.size

    async def start_upload(self, descriptor: Descriptor) -> LayoutUpload:
        """A temporary file in the layout. Raises `StoreError`."""
        writer = await in_thread(self._writer, undo=BlobWriter.discard)
        return LayoutUpload(self.files, descriptor, writer)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """Store the manifest's unchanged bytes; with `tag`, let the tag mean it.

        Raises `ContentError` when `data` does not match `descriptor`, `StoreError`.
        """
        await in_thread(self._push_manifest, descriptor, data, tag)

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """The listed manifests whose subject is `digest`."""
        return await in_thread(self._referrers, digest)

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest and list it in the index, where its subject is looked for."""
        await self.push_manifest(descriptor, data, None)
        await self.add_root(descriptor)

    async def add_root(self, descriptor: Descriptor) -> None:
        """List a stored manifest that has no tag, unless it is listed. Raises `StoreError`."""
        entry = await in_thread(self._entry_of, descriptor)
        await in_thread(self.index.update, lambda entries: add_untagged(entries, entry))

    # -- in a thread ---------------------------------------------------------------------------------

    def _entries(self) -> list[Entry]:
        """The entries of the index; none when the layout is still to be made."""
        return [] if self._create and not self.index.exists() else self.index.entries()

    def _referrers(self, digest: Digest) -> list[Descriptor]:
        return self._attached.referrers(self._entries(), digest)

    def _resolve(self, reference: str) -> Descriptor:
        entries = self._entries()
        if reference.startswith(("sha256:", "sha512:")):
            return self._by_digest(entries, Digest.parse(reference))
        if not reference:
            return self._only(entries)
        for candidates in entries_by_tag(entries, reference):
            if len({entry["digest"] for entry in candidates}) == 1:
                return self._descriptor(candidates[0])
            if candidates:
                if (joined := join_platforms(candidates, self._read_small)) is None:
                    raise several_named(self.path, reference, candidates)
                return self._join(joined, f"tag {reference} in {self.path} means")
        raise NotFound(f"no tag {reference} in {self.path}; {_tags_sentence(entries)}")

    def _only(self, entries: list[Entry]) -> Descriptor:
        """The only manifest that has tags, or the only one: manifests that lost their tag do not count.

        Referrers and tags of digests do not count either.
        """
        named = [entry for entry in entries if not (name_of(entry) or "").startswith("sha256-")]
        candidates = [entry for entry in named if name_of(entry)] or named
        if len({entry["digest"] for entry in candidates}) > 1:
            candidates = [each for each in candidates if not self._attached.has_subject(each)] or candidates
        candidates = candidates or entries
        if len({entry["digest"] for entry in candidates}) == 1:
            return self._descriptor(candidates[0])
        if not entries:
            raise NotFound(
                f"{self.path} holds no manifest", advice=Advice("check-folder", "copy an image into it first")
            )
        if (joined := join_platforms(candidates, self._read_small)) is not None:
            return self._join(joined, f"{self.path} holds, and none was named,")
        raise ContentError(
            f"{self.path} holds {len(candidates)} manifests and none was named; {_tags_sentence(entries)}",
            advice=Advice("choose-tag", f"write oci:{self.path}:TAG or oci:{self.path}@DIGEST"),
        )

    def _join(self, joined: list[Entry], what: str) -> Descriptor:
        """An index of manifests of several platforms, if platforms will be chosen of it."""
        if not self._joins_platforms:
            raise ContentError(
                f"{what} manifests for these platforms: {listed(platforms_of(joined))}",
                advice=Advice("use-another-target", "give another tag, or a new folder")
                if self._create
                else Advice("choose-platform-or-digest", file=str(self.path)),
            )
        data = index_document(joined)
        digest = Digest.of(data)
        self._joined[digest] = data
        return Descriptor(mediatype.OCI_INDEX, digest, len(data))

    def _read_small(self, digest: Digest) -> bytes:
        """The bytes of a manifest or of a config."""
        data = self.files.read(digest, self._limits.size)
        verify_bytes(data, Descriptor("", digest, len(data)))
        return data

    def _by_digest(self, entries: list[Entry], digest: Digest) -> Descriptor:
        for entry in entries:
            if entry["digest"] == digest:
                return self._descriptor(entry)
        if self.files.size(digest) is None:
            raise NotFound(f"no manifest {digest} in {self.path}")
        data = self.files.read(digest, self._limits.size)
        return Descriptor(parse_manifest(data, None, self._limits).media_type, digest, len(data))

    def _descriptor(self, entry: Entry) -> Descriptor:
        """The entry as a value, without its annotations: the tag is not copied with it."""
        try:
            found = Descriptor.from_json(entry)
        except ContentError as error:
            raise ContentError(
                f"{self.index.path} is damaged: {error}",
                advice=Advice("recreate-layout", "copy the content into a new folder"),
            ) from error
        media_type = found.media_type
        if not media_type:
            data = self._read_manifest(found)
            media_type = parse_manifest(data, None, self._limits).media_type
        return Descriptor(
            media_type, found.digest, found.size, platform=found.platform, artifact_type=found.artifact_type
        )

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        if (joined := self._joined.get(descriptor.digest)) is not None:
            return joined
        data = self.files.read(descriptor.digest, self._limits.size)
        verify_manifest(data, descriptor)
        return data

    def _find_manifest(self, reference: str) -> bytes | None:
        try:
            found = self._resolve(reference)
        except NotFound:
            return None
        except ContentError:
            if ":" in reference:  # a damaged file, to be written again; a tag may mean several manifests
                return None
            raise
        try:
            return self._read_manifest(found)
        except (NotFound, ContentError):
            return None

    def _writer(self) -> BlobWriter:
        self._prepare()
        return self.files.writer()

    def _prepare(self) -> None:
        if self._prepared:
            return
        if self._create:
            self.index.create()
        remove_stale(self._folder)
        self._prepared = True

    def _push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        verify_bytes(data, descriptor)
        writer = self._writer()
        try:
            writer.write(memoryview(data))
            writer.commit(self.files, descriptor.digest)
        finally:
            writer.discard()
        if tag is not None:
            entry = self._entry_of(descriptor)
            self.index.update(lambda entries: set_tag(entries, entry, tag))

    def _entry_of(self, descriptor: Descriptor) -> Entry:
        """The entry of ``index.json``, with platform and artifactType where they are known."""
        manifest = self._parsed(descriptor)
        artifact_type = descriptor.artifact_type or (manifest.artifact_type if manifest else None)
        platform = descriptor.platform
        if platform is not None and len(repr(platform)) > PLATFORM_LIMIT:
            platform = None  # an entry would be as large as the index that states it
        return Descriptor(
            manifest.media_type if manifest else descriptor.media_type,
            descriptor.digest,
            descriptor.size,
            platform=platform,
            artifact_type=mediatype.listed(artifact_type),
        ).to_json()

    def _parsed(self, descriptor: Descriptor) -> Manifest | None:
        if not mediatype.is_manifest(descriptor.media_type):
            return None
        return parse_manifest(self._read_manifest(descriptor), descriptor.media_type, self._limits)


def open_layout(location: LayoutReference, side: Side, options: CopyOptions) -> LayoutStore:
    """The store of a layout (`oci.reference.Scheme.open`). Raises as `LayoutStore`."""
    joins = side == "source" and bool(options.platforms)
    return LayoutStore(location.path, create=side == "target", joins_platforms=joins)


class LayoutBlob:
    """One blob of a layout (`content.BlobSource`)."""

    def __init__(self, files: BlobFiles, descriptor: Descriptor) -> None:
        self._files = files
        self._descriptor = descriptor

    async def open(self, start: int, stop: int) -> FileBody:
        """Exactly ``start``..``stop``. Raises `NotFound`, `SizeMismatch`, `StoreError`."""
        digest = self._descriptor.digest
        opened, _ = await in_thread(
            self._files.open, digest, self._descriptor.size, undo=lambda opened: os.close(opened[0])
        )
        return FileBody(opened, self._files.path(digest), start, stop)


class FileBody:
    """A range of an open file (`content.Body`), read straight into the sink's memory. Closes the file."""

    def __init__(self, descriptor: int, path: Path, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self._at = start
        self._path = path
        self._descriptor = descriptor
        self._closed = False
        self._reading = False
        self._room = asyncio.Event()

    async def receive(self, sink: ByteSink) -> None:
        """Deliver every byte.

        Raises `SizeMismatch` when the file has become shorter, `StoreError`, `ReadFailed` when closed.
        """
        try:
            while self._at < self.stop:
                self._room.clear()
                buffer = sink.get_buffer()
                if buffer is None:
                    await self._room.wait()
                elif not self._closed:
                    count = await self._read(buffer[: min(self.stop - self._at, MAX_READ)])
                    self._at += count
                    sink.received(count)
                if self._closed:
                    raise ReadFailed(f"reading {self._path} was given up", retryable=False)
        finally:
            self.close()

    def resume(self) -> None:
        """The sink has room again."""
        self._room.set()

    def close(self) -> None:
        """Give the file back; a read that is under way ends first."""
        self._closed = True
        self._room.set()
        if self._descriptor >= 0 and not self._reading:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _read(self, buffer: memoryview) -> int:
        self._reading = True
        try:
            count = await in_thread(os.preadv, self._descriptor, [buffer], self._at)
        except OSError as error:
            raise explain("cannot read", self._path, error) from error
        finally:
            self._reading = False
        if not count:
            raise SizeMismatch(
                f"{self._path} ended at byte {self._at} while it was read",
                advice=Advice(
                    "retry-later", "something else is changing the layout; copy again when it is done"
                ),
                expected=self.stop,
                received=self._at,
            )
        return count


class LayoutUpload:
    """One blob on its way into a layout (`content.UploadSession`)."""

    def __init__(self, files: BlobFiles, descriptor: Descriptor, writer: BlobWriter) -> None:
        self._files = files
        self._descriptor = descriptor
        self._writer = writer

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._writer.size

    async def append(self, data: memoryview) -> None:
        """Write the next bytes. Raises `SizeMismatch` past the descriptor's size, `StoreError`."""
        if self.offset + len(data) > self._descriptor.size:
            await self.cancel()
            raise self._wrong_size(self.offset + len(data))
        await in_thread(self._writer.write, data)

    async def commit(self) -> None:
        """Give the file its name. Raises `SizeMismatch`, `StoreError`; then the file is gone."""
        if self.offset != self._descriptor.size:
            await self.cancel()
            raise self._wrong_size(self.offset)
        await in_thread(self._writer.commit, self._files, self._descriptor.digest)

    async def cancel(self) -> None:
        """Delete the temporary file; nothing after `commit`."""
        await in_thread(self._writer.discard)

    def _wrong_size(self, size: int) -> SizeMismatch:
        return SizeMismatch(
            f"blob {self._descriptor.digest} got {size} bytes, its descriptor says {self._descriptor.size}",
            expected=self._descriptor.size,
            received=size,
        )


def _tags_sentence(entries: list[Entry]) -> str:
    tags = sorted({tag for entry in entries if (tag := name_of(entry))})
    return f"its tags are {listed(tags)}" if tags else "it has no tags"
