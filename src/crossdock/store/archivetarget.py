"""Archives as `content.Target`: blobs in the order in which they are whole, what lists them at the end.

A large blob is written while it arrives, so one at a time; the others wait before they are read. A small one
waits in memory until it is whole. The archive is new, whatever is in its place.
"""

from __future__ import annotations

import asyncio
import functools

import msgspec

from crossdock.errors import Advice, ContentError, InvalidReference, SizeMismatch
from crossdock.oci import mediatype
from crossdock.oci.archivereference import whole_name
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.store.indexed import index_entry
from crossdock.store.indexfile import IMAGE_NAME, REF_NAME, Entry, add_untagged, set_tag
from crossdock.store.tarwriter import TarWriter
from crossdock.tasks import in_abandonable_thread, in_thread
from crossdock.verify import verify_bytes

IN_MEMORY = 1 << 20  # bytes of a blob that waits in memory; the engine moves few of them at once
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CONFIGS = (mediatype.OCI_CONFIG, mediatype.DOCKER_CONFIG)


class ArchiveTarget:
    """A new OCI archive at `path`, in its place when it is whole (`finish`)."""

    scheme = "oci-archive:"

    def __init__(self, path: str) -> None:
        """Raises `StoreError` where no archive can be written."""
        self._path = path
        self._writer = TarWriter(path)
        self._turn = asyncio.Lock()  # to write a member
        self._sizes: dict[Digest, int] = {}  # of what is in the archive
        self._entries: list[Entry] = []
        self._has_root = False  # something that was to be copied is whole

    @property
    def name(self) -> str:
        """``oci-archive:FILE``."""
        return f"{self.scheme}{self._path}"

    async def find_manifest(self, reference: str) -> bytes | None:
        """None: a new archive has no tags, and a manifest that is in it is not written again."""
        return None

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the archive."""
        return self._sizes.get(descriptor.digest) == descriptor.size

    async def start_upload(self, descriptor: Descriptor) -> ArchiveUpload:
        """A blob that is to be written. A large one waits for its turn. Raises `StoreError`."""
        upload = ArchiveUpload(self, descriptor)
        await upload.begin()
        return upload

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """Write the manifest; with `tag`, list it under that name.

        Raises `ContentError` when `data` does not match `descriptor`, `StoreError`.
        """
        verify_bytes(data, descriptor)
        await self.write(descriptor.digest, data)
        self._list(descriptor, data, tag)

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        """Write the manifest and list it without a name, where its subject is looked for."""
        await self.push_manifest(descriptor, data, None)
        add_untagged(self._entries, index_entry(descriptor, data))

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """None: those that are in the archive are not written again."""
        return []

    async def add_root(self, descriptor: Descriptor) -> None:
        """List a manifest that has no tag."""
        add_untagged(self._entries, index_entry(descriptor, None))
        self._has_root = True

    async def finish(self) -> None:
        """Write what lists the content, and put the archive in its place. Raises `StoreError`.

        Where every copy failed, there is no archive, and what was there stays.
        """
        async with self._turn:
            if not self._has_root:
                self._writer.discard()
                return
            for name, document in self._lists().items():
                await in_abandonable_thread(self._writer.add, name, msgspec.json.encode(document))
            await in_abandonable_thread(self._writer.finish)

    def close(self) -> None:
        """Delete what was written, unless it is finished."""
        self._writer.discard()

    async def write(self, digest: Digest, data: bytes) -> None:
        """A whole blob or manifest, unless it is there. Raises `StoreError`."""
        async with self._turn:
            await self.mark()
            if digest in self._sizes:
                return
            try:
                await in_abandonable_thread(self._writer.add, path_of(digest), data)
            except BaseException:
                self._writer.take_back()
                raise
            self._sizes[digest] = len(data)

    async def mark(self) -> None:
        """Begin the archive with what marks a layout, unless it is begun. Raises `StoreError`."""
        if not self._writer.is_begun:
            await in_abandonable_thread(self._writer.add, "oci-layout", _LAYOUT)

    def _list(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        if tag is not None:
            set_tag(self._entries, index_entry(descriptor, data), tag)
            self._has_root = self._has_root or not is_attached_tag(tag)

    def _lists(self) -> dict[str, object]:
        """The documents at the end of the archive, by name."""
        index = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": self._entries}
        return {"index.json": index}


class DockerArchiveTarget(ArchiveTarget):
    """A new archive of docker at `path`, in the form of docker 25: with ``manifest.json`` and a layout.

    Docker and podman read the one, containerd the other. Layers keep their bytes, and those that images
    share are written once.
    """

    scheme = "docker-archive:"

    def __init__(self, path: str) -> None:
        """As `ArchiveTarget`."""
        super().__init__(path)
        self._images: dict[Digest, tuple[Entry, Manifest, list[str]]] = {}
        self._untagged: dict[Digest, bytes] = {}

    def check_image(self, descriptor: Descriptor, data: bytes) -> None:
        """Raise `ContentError` for a root that is not one image of one platform (`content.HoldsImages`)."""
        manifest = parse_manifest(data, descriptor.media_type)
        if manifest.is_index:
            raise ContentError(
                "an archive of docker holds one platform of an image, and this is an index",
                advice=Advice("choose-one-platform"),
            )
        if manifest.config is None or mediatype.bare(manifest.config.media_type) not in _CONFIGS:
            raise ContentError(
                "an archive of docker holds images, and this is another artifact",
                advice=Advice("use-another-target", "copy it to oci-archive:FILE"),
            )

    async def add_root(self, descriptor: Descriptor) -> None:
        """List an image without a name."""
        if (data := self._untagged.pop(descriptor.digest, None)) is not None:
            self._image(descriptor, data)

    def _list(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        if tag is None:
            self._untagged[descriptor.digest] = data
            return
        try:
            name = whole_name(tag)
        except InvalidReference as error:
            raise ContentError(f"{tag} cannot be a name in an archive of docker: {error}") from None
        for _, _, names in self._images.values():
            if name in names:
                names.remove(name)
        self._image(descriptor, data).append(name)

    def _image(self, descriptor: Descriptor, data: bytes) -> list[str]:
        """The names of the image, which is listed."""
        self.check_image(descriptor, data)
        manifest = parse_manifest(data, descriptor.media_type)
        for layer in manifest.successors():
            if layer.digest not in self._sizes:
                raise ContentError(
                    f"the layer {layer.digest} has not been copied, and an archive of docker needs it",
                    advice=Advice("copy-foreign-layers") if layer.urls else None,
                )
        entry = index_entry(descriptor, data)
        self._has_root = True
        return self._images.setdefault(descriptor.digest, (entry, manifest, []))[2]

    def _lists(self) -> dict[str, object]:
        images, entries = [], []
        for entry, manifest, names in self._images.values():
            assert manifest.config is not None
            images.append(
                {
                    "Config": path_of(manifest.config.digest),
                    "RepoTags": names or None,
                    "Layers": [path_of(layer.digest) for layer in manifest.layers],
                }
            )
            for name in names:
                annotations = {IMAGE_NAME: name, REF_NAME: name.rpartition(":")[2]}
                entries.append({**entry, "annotations": annotations})
            if not names:
                entries.append(entry)
        self._entries = entries
        return {**super()._lists(), "manifest.json": images}


class ArchiveUpload:
    """One blob on its way into an archive (`content.UploadSession`)."""

    def __init__(self, target: ArchiveTarget, descriptor: Descriptor) -> None:
        self._target = target
        self._descriptor = descriptor
        self._kept: bytearray | None = bytearray() if descriptor.size <= IN_MEMORY else None
        self._size = 0
        self._has_turn = False

    async def begin(self) -> None:
        """Wait for the turn, if the blob is large. Raises `StoreError`."""
        if self._kept is not None:
            return
        target, descriptor = self._target, self._descriptor
        await target._turn.acquire()
        self._has_turn = True
        try:
            await target.mark()
            await in_abandonable_thread(target._writer.begin, path_of(descriptor.digest), descriptor.size)
        except BaseException:
            await self.cancel()
            raise

    async def append(self, data: memoryview) -> None:
        """Write the next bytes. Raises `SizeMismatch` past the descriptor's size, `StoreError`."""
        if self._size + len(data) > self._descriptor.size:
            raise self._wrong_size(self._size + len(data))
        if self._kept is not None:
            self._kept += data
        else:
            await in_abandonable_thread(self._target._writer.write, data)
        self._size += len(data)

    async def commit(self) -> None:
        """The blob is whole. Raises `SizeMismatch`, `StoreError`."""
        if self._size != self._descriptor.size:
            raise self._wrong_size(self._size)
        if self._kept is not None:
            await self._target.write(self._descriptor.digest, bytes(self._kept))
            return
        await in_abandonable_thread(self._target._writer.end)
        self._target._sizes[self._descriptor.digest] = self._size
        self._release()

    async def cancel(self) -> None:
        """Take the blob back; nothing after `commit`."""
        if self._has_turn:
            await in_thread(self._target._writer.take_back)
            self._release()

    def _release(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._target._turn.release()

    def _wrong_size(self, size: int) -> SizeMismatch:
        return SizeMismatch(
            f"blob {self._descriptor.digest} got {size} bytes, its descriptor says {self._descriptor.size}",
            expected=self._descriptor.size,
            received=size,
        )


@functools.cache
def path_of(digest: Digest) -> str:
    """Where the content is in a layout."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"
