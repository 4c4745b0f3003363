"""Archives as `content.Target`: blobs in the order in which they complete, and the index at the end.

A large blob is written while it arrives, so one at a time; the others wait before they are read. A small one
waits in memory until it is whole. The archive is new, whatever is in its place.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import msgspec

from crossdock.errors import (
    Advice,
    ContentError,
    InvalidDigest,
    InvalidReference,
    SizeMismatch,
    StoreError,
)
from crossdock.oci import mediatype
from crossdock.oci.archivereference import whole_name
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.store.indexed import index_entry
from crossdock.store.indexfile import IMAGE_NAME, INDEX_LIMIT, REF_NAME, Entry
from crossdock.store.outputs import WrittenFile
from crossdock.store.tarwriter import TarWriter
from crossdock.tasks import in_abandonable_thread, in_thread
from crossdock.verify import verify_bytes

IN_MEMORY = 1 << 20  # bytes of a blob that waits in memory; the engine moves few of them at once
LEFT_OUT = "crossdock/left-out.json"
"""The member that lists the blobs of the images that are in another archive."""

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CONFIGS = (mediatype.OCI_CONFIG, mediatype.DOCKER_CONFIG)


class Held(msgspec.Struct, frozen=True):
    """A blob that another archive holds: its size, and the repositories whose images it belongs to there."""

    size: int
    repositories: tuple[str, ...] = ()


class LeftOut(msgspec.Struct, frozen=True):
    """The content of the member `LEFT_OUT`, by digest."""

    blobs: dict[str, Held]


class ArchiveTarget:
    """A new OCI archive at `path`, in its place when it is whole (`finish`).

    With `part_size` it is in parts. Blobs that are in `since` are left out, and listed; manifests never are.
    """

    scheme = "oci-archive:"

    def __init__(
        self, path: str, part_size: int | None = None, since: Mapping[Digest, Held] | None = None
    ) -> None:
        """Raises `StoreError` where no archive can be written."""
        self._path = path
        self._writer = TarWriter(path, part_size)
        self._turn = asyncio.Lock()  # to write a member
        self._turns: dict[Digest, asyncio.Lock] = {}  # to copy a blob
        self._sizes: dict[Digest, int] = {}  # of what is in the archive
        self._since = since or {}
        self.left_out: dict[Digest, Held] = {}
        """The blobs that images of the archive have, and that are left out."""
        self._named: dict[str, Entry] = {}
        self._untagged: dict[Digest, Entry] = {}
        self._has_root = False  # something that was to be copied is whole

    @property
    def name(self) -> str:
        """``oci-archive:FILE``."""
        return f"{self.scheme}{self._path}"

    @property
    def written(self) -> list[WrittenFile]:
        """The files of the archive, once it is finished; none of a pipe."""
        return self._writer.written

    async def find_manifest(self, reference: str) -> bytes | None:
        """Always None: a new archive has no tags, and a manifest that is in it is not written again."""
        return None

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the archive, or left out."""
        return self._holds(descriptor)

    def other_repository(self, descriptor: Descriptor) -> str | None:
        """As `content.Mounts.other_repository`: the archive itself, once it has the blob."""
        return self.name if self._holds(descriptor) else None

    def claim(self, blobs: Iterable[Descriptor], source: str) -> AbstractContextManager[None]:
        """As `content.Mounts.claim`. There is nothing to claim: a blob is read in its first `turn`."""
        return nullcontext()

    @asynccontextmanager
    async def turn(self, descriptor: Descriptor, source: str) -> AsyncIterator[None]:
        """As `content.Mounts.turn`, whatever the source: a blob is read once for the archive."""
        async with self._turns.setdefault(descriptor.digest, asyncio.Lock()):
            yield

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        """As `content.Mounts.mount`: whether the archive has the blob."""
        return self._holds(descriptor)

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
        self._untagged[descriptor.digest] = index_entry(descriptor, data)

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """An empty list: manifests that are in the archive are not written again."""
        return []

    async def add_root(self, descriptor: Descriptor) -> None:
        """List a manifest that has no tag."""
        self._untagged.setdefault(descriptor.digest, index_entry(descriptor, None))
        self._has_root = True

    async def finish(self) -> None:
        """Write the index, and put the archive in its place. Raises `StoreError`.

        If every copy failed, no archive is written, and an older one stays.
        """
        async with self._turn:
            if not self._has_root:
                self._writer.discard()
                return
            documents = self._lists()
            if self.left_out:
                documents[LEFT_OUT] = LeftOut({str(digest): held for digest, held in self.left_out.items()})
            for name, document in documents.items():
                data = msgspec.json.encode(document)
                if len(data) > INDEX_LIMIT:
                    raise StoreError(
                        f"{name} of {self._writer.path} would have {len(data)} bytes, over {INDEX_LIMIT}",
                        advice=Advice("split-list", "write several archives"),
                    )
                await in_abandonable_thread(self._writer.add, name, data)
            await in_abandonable_thread(self._writer.finish)

    def close(self) -> None:
        """Delete the unfinished archive."""
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
        """Begin the archive with the ``oci-layout`` member, unless it is begun. Raises `StoreError`."""
        if not self._writer.is_begun:
            await in_abandonable_thread(self._writer.add, "oci-layout", _LAYOUT)

    def _holds(self, blob: Descriptor) -> bool:
        if self._sizes.get(blob.digest) == blob.size:
            return True
        held = self._since.get(blob.digest)
        if held is None or held.size != blob.size:
            return False
        self.left_out[blob.digest] = held
        return True

    def _list(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        if tag is not None:
            self._named[tag] = index_entry(descriptor, data)
            self._has_root = self._has_root or not is_attached_tag(tag.rpartition(":")[2])

    def _lists(self) -> dict[str, object]:
        """The documents at the end of the archive, by name."""
        return _index(
            [
                *({**entry, "annotations": _names(name)} for name, entry in self._named.items()),
                *_without(self._untagged, {entry["digest"] for entry in self._named.values()}),
            ]
        )


class ArchiveRepository:
    """A repository in an archive of many: tags made of digests are named ``host/repository:tag``, too.

    Everything else, and what the archive can do, is the archive's.
    """

    def __init__(self, archive: ArchiveTarget, repository: str) -> None:
        """`repository` is ``host/repository``."""
        self._archive = archive
        self._repository = repository

    def __getattr__(self, name: str) -> Any:
        return getattr(self._archive, name)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        """As `ArchiveTarget.push_manifest`."""
        if is_attached_tag(tag):
            tag = f"{self._repository}:{tag}"
        await self._archive.push_manifest(descriptor, data, tag)


class DockerArchiveTarget(ArchiveTarget):
    """A new archive of docker at `path`, in the form of docker 25: with ``manifest.json`` and a layout.

    Docker and podman read the one, containerd the other. Layers keep their bytes, and those that images
    share are written once.
    """

    scheme = "docker-archive:"

    def __init__(
        self, path: str, part_size: int | None = None, since: Mapping[Digest, Held] | None = None
    ) -> None:
        """As `ArchiveTarget`."""
        super().__init__(path, part_size, since)
        self._images: dict[Digest, tuple[Entry, Manifest]] = {}
        self._pushed: dict[Digest, bytes] = {}  # manifests without a name

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
        if (data := self._pushed.pop(descriptor.digest, None)) is not None:
            self._add_image(descriptor, data)

    def _list(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        if tag is None:
            self._pushed[descriptor.digest] = data
            return
        try:
            name = whole_name(tag)
        except InvalidReference as error:
            raise ContentError(f"{tag} cannot be a name in an archive of docker: {error}") from None
        self._named[name] = self._add_image(descriptor, data)

    def _add_image(self, descriptor: Descriptor, data: bytes) -> Entry:
        """List the image. Raises `ContentError` where it cannot be, or lacks a layer."""
        self.check_image(descriptor, data)
        manifest = parse_manifest(data, descriptor.media_type)
        for layer in manifest.successors():
            if not self._holds(layer):
                raise ContentError(
                    f"the layer {layer.digest} has not been copied, and an archive of docker needs it",
                    advice=Advice("copy-foreign-layers") if layer.urls else None,
                )
        self._has_root = True
        image = self._images.setdefault(descriptor.digest, (index_entry(descriptor, data), manifest))
        return image[0]

    def _lists(self) -> dict[str, object]:
        names: dict[str, list[str]] = {}
        for name, entry in self._named.items():
            names.setdefault(entry["digest"], []).append(name)
        images, entries = [], []
        for entry, manifest in self._images.values():
            assert manifest.config is not None
            own = names.get(entry["digest"])
            images.append(
                {
                    "Config": path_of(manifest.config.digest),
                    "RepoTags": own,
                    "Layers": [path_of(layer.digest) for layer in manifest.layers],
                }
            )
            for name in own or ():
                annotations = {IMAGE_NAME: name, REF_NAME: name.rpartition(":")[2]}
                entries.append({**entry, "annotations": annotations})
            if not own:
                entries.append(entry)
        return {**_index(entries), "manifest.json": images}


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


def path_of(digest: Digest) -> str:
    """The path of the content in a layout."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def digest_of_path(path: str) -> Digest | None:
    """The digest of ``blobs/ALGORITHM/HEX``."""
    parts = posixpath.normpath(path).split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except InvalidDigest:
        return None


def _index(entries: list[Entry]) -> dict[str, object]:
    return {"index.json": {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": entries}}


def _names(name: str) -> dict[str, str]:
    """The annotations of a name: containerd looks for whole ones under a key of its own."""
    is_whole = "/" in name and ":" in name
    return {REF_NAME: name, **({IMAGE_NAME: name} if is_whole else {})}


def _without(entries: Mapping[Digest, Entry], listed: set[str]) -> Iterator[Entry]:
    return (entry for digest, entry in entries.items() if digest not in listed)
