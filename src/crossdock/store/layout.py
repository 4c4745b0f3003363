"""An OCI image layout as a `content.Source` and `content.Target` (image-spec image-layout.md).

Reading is `indexed.IndexedSource`. Writing: blobs first, each complete before it gets its name; a tag is one
change of ``index.json`` (see `indexfile`). A root without a tag is listed by `add_root`, so that
`skopeo inspect oci:DIR` finds it.
"""

from __future__ import annotations

import os
from pathlib import Path

from crossdock.errors import (
    Advice,
    ContentError,
    NotFound,
    Side,
    SizeMismatch,
    StoreError,
)
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import ARCHIVE_HINT, LayoutReference
from crossdock.options import CopyOptions
from crossdock.store.blobfiles import BlobFiles, BlobWriter, remove_stale
from crossdock.store.filebody import FileBody
from crossdock.store.folder import Folder
from crossdock.store.indexed import IndexedSource, index_entry
from crossdock.store.indexfile import Entry, IndexFile, add_untagged, set_tag
from crossdock.tasks import in_thread
from crossdock.verify import verify_bytes


class LayoutStore(IndexedSource):
    """The layout in folder `path`, as source and as target.

    With `create` a missing layout is made when the first blob or manifest is written, not before: a copy that
    finds no source leaves no folder behind. Without, `StoreError` is raised at once when there is none.
    """

    def __init__(self, path: Path | str, *, create: bool = False, joins_platforms: bool = False) -> None:
        self._create = create
        self._prepared = False
        self._folder = Folder(Path(path))
        self.files = BlobFiles(self._folder)
        self.index = IndexFile(self._folder)
        super().__init__(self._folder.path, self.files, joins_platforms=joins_platforms)
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

    def blob(self, descriptor: Descriptor) -> LayoutBlob:
        """The blob's file, to be opened in ranges."""
        return LayoutBlob(self.files, descriptor)

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
            return self.read_manifest(found)
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
        is_manifest = mediatype.is_manifest(descriptor.media_type)
        return index_entry(descriptor, self.read_manifest(descriptor) if is_manifest else None)


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
