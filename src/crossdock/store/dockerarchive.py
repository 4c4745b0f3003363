"""An archive as ``docker save`` writes it, as a `content.Source`. It is read by position and not unpacked.

``manifest.json`` lists the images: a config, layers, names. The manifest itself is in archives that hold a
layout as well (docker 25 and newer, crossdock), and is used as it is. Elsewhere it is made of the config and
the layers as they are in the archive, plain or compressed.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable

import msgspec

from crossdock.errors import (
    Advice,
    ContentError,
    InvalidDigest,
    InvalidManifest,
    InvalidReference,
    NotFound,
    Side,
    StoreError,
)
from crossdock.oci import mediatype
from crossdock.oci.archivereference import DockerArchiveReference, whole_name
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Limits, Manifest, parse_manifest
from crossdock.options import CopyOptions
from crossdock.store.archivetarget import DockerArchiveTarget, digest_of_path
from crossdock.store.files import damaged, explained, refuse_abandoned
from crossdock.store.ociarchive import TarBlobs, read_index
from crossdock.store.several import listed
from crossdock.store.tarblob import TarBlob
from crossdock.store.tarbytes import GZIP_MAGIC, PIECE, ZSTD_MAGIC
from crossdock.store.tarindex import Member, TarIndex, opened_tar
from crossdock.tasks import in_abandonable_thread
from crossdock.verify import verify_bytes

LIST_LIMIT = 32 << 20  # bytes of manifest.json
MOST_MANIFESTS = 100_000  # of a layout in the archive, that are read
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_HEX_NAME = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


class _Image(msgspec.Struct):
    """An entry of ``manifest.json``."""

    config: str = msgspec.field(name="Config")
    names: list[str] | None = msgspec.field(name="RepoTags", default=None)
    layers: list[str] | None = msgspec.field(name="Layers", default=None)


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct):
    rootfs: _RootFs | None = None


class DockerArchive:
    """The archive in `tar`, which is called `path` and may be stdin."""

    def __init__(self, path: str, tar: TarIndex) -> None:
        """Read the list of images. Raises `StoreError`, `ContentError`, `LimitExceeded`."""
        self._path = path
        self._data = tar.data
        self._tar = tar
        self._images = self._read_list()
        self._limits = Limits()
        self._made: dict[int, Descriptor] = {}
        self._descriptors: dict[Digest, Descriptor] = {}  # the same, by digest
        self._by_name: dict[str, list[int]] | None = None  # positions
        self._by_config: dict[Digest, list[Digest]] | None = None  # manifests of the layout in it
        self._manifests: dict[Digest, bytes] = {}
        self._blobs: dict[Digest, Member] = {}

    @property
    def name(self) -> str:
        """``docker-archive:FILE``."""
        return f"docker-archive:{self._path}"

    def names(self) -> list[list[str]]:
        """The names of each image."""
        return [image.names or [] for image in self._images]

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        """The names of the images, as the archive writes them; ``@N`` for an image without one."""
        return [name for at, image in enumerate(self._images) for name in image.names or [f"@{at}"]]

    async def resolve(self, reference: str = "") -> Descriptor:
        """The manifest of a name, ``@N`` or digest; an empty reference means the only image.

        Raises `NotFound` and `ContentError`, which list the images, `StoreError`.
        """
        return await in_abandonable_thread(self._resolve, reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes. Raises `NotFound`, `ContentError`, `StoreError`."""
        await in_abandonable_thread(self._resolve, str(descriptor.digest))
        return self._manifests[descriptor.digest]

    def blob(self, descriptor: Descriptor) -> TarBlob:
        """A layer or config of an image that was resolved. Raises `NotFound`."""
        member = self._blobs.get(descriptor.digest)
        if member is None:
            raise NotFound(f"blob {descriptor.digest} is not in {self._data.path}{self._tar.cut_short}")
        return TarBlob(self._data, member, descriptor)

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    # -- in a thread ---------------------------------------------------------------------------------

    def _read_list(self) -> list[_Image]:
        path = self._data.path
        if self._tar.find("manifest.json") is None:
            raise StoreError(
                f"{path} is not an archive of docker: it has no manifest.json{self._tar.cut_short}",
                advice=Advice("choose-archive", f"it holds a layout: oci-archive:{path}")
                if self._tar.find("oci-layout") is not None
                else None,
            )
        try:
            images = msgspec.json.decode(
                self._tar.read("manifest.json", LIST_LIMIT), type=list[_Image], strict=True
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(path, f"manifest.json is no list of images ({error})") from None
        if not images:
            raise NotFound(f"{path} holds no image")
        return images

    def _resolve(self, reference: str) -> Descriptor:
        if reference.startswith(("sha256:", "sha512:")):
            return self._by_digest(Digest.parse(reference))
        if re.fullmatch(r"@[0-9]+", reference):
            at = int(reference[1:])
            if at >= len(self._images):
                raise NotFound(f"no image {reference} in {self._data.path}; {self._list()}")
            return self._image(at)
        if not reference:
            found = list(range(len(self._images)))
            problem = f"{self._data.path} holds {len(found)} images and none was named"
        else:
            found = self._positions().get(whole_name(reference), [])
            problem = f"{reference} in {self._data.path} means several images"
        if not found:
            raise NotFound(f"no image {reference} in {self._data.path}; {self._list()}")
        if len(found) > 1 and len({self._image(at).digest for at in found}) > 1:
            raise ContentError(
                f"{problem}; {self._list()}",
                advice=Advice("choose-image", f"write {self.name}:NAME or {self.name}:@N, N from 0"),
            )
        return self._image(found[0])

    def _positions(self) -> dict[str, list[int]]:
        """The positions of the images by their whole names."""
        if self._by_name is None:
            self._by_name = {}
            for at, image in enumerate(self._images):
                for name in dict.fromkeys(map(_whole, image.names or ())):
                    self._by_name.setdefault(name, []).append(at)
        return self._by_name

    def _list(self) -> str:
        words = []
        for at, image in enumerate(self._images):
            words.append(" ".join([f"@{at}", *(image.names or ["without a name"])]))
        return f"its images are {listed(words)}"

    def _by_digest(self, digest: Digest) -> Descriptor:
        for at in range(len(self._images)):
            if digest in self._manifests:
                break
            self._image(at)
        if digest not in self._descriptors:
            raise NotFound(f"no manifest {digest} in {self._data.path}")
        return self._descriptors[digest]

    def _image(self, at: int) -> Descriptor:
        """The manifest of the image at a position of the list."""
        if at not in self._made:
            image = self._images[at]
            descriptor, data, blobs = self._stored(image) or self._make(image)
            self._manifests[descriptor.digest] = data
            self._blobs |= blobs
            self._made[at] = self._descriptors[descriptor.digest] = descriptor
        return self._made[at]

    def _stored(self, image: _Image) -> tuple[Descriptor, bytes, dict[Digest, Member]] | None:
        """The image's manifest, where the archive holds a layout with it and with all of its blobs."""
        config = digest_of_path(image.config)
        if config is None or self._tar.find("oci-layout") is None or self._tar.find("index.json") is None:
            return None
        files = TarBlobs(self._tar)
        if self._by_config is None:
            self._by_config = self._read_layout(files)
        for digest in self._by_config.get(config, []):
            data, manifest = self._read_manifest(files, digest)
            found = manifest.successors()
            if all(files.size(each.digest) is not None for each in found):
                blobs = {each.digest: files.find(each.digest) for each in found}
                return Descriptor(manifest.media_type, digest, len(data)), data, blobs
        return None

    def _read_layout(self, files: TarBlobs) -> dict[Digest, list[Digest]]:
        """The manifests of the layout by their configs."""
        found: dict[Digest, list[Digest]] = {}
        entries = [Descriptor.from_json(each).digest for each in read_index(self._tar)][::-1]
        seen: set[Digest] = set()
        while entries and len(seen) < MOST_MANIFESTS:
            digest = entries.pop()
            if digest in seen or files.size(digest) is None:
                continue
            seen.add(digest)
            try:
                _, manifest = self._read_manifest(files, digest)
            except InvalidManifest:
                continue  # an index may list blobs that are not manifests
            entries += [each.digest for each in manifest.manifests][::-1]
            if manifest.config is not None:
                found.setdefault(manifest.config.digest, []).append(digest)
        return found

    def _read_manifest(self, files: TarBlobs, digest: Digest) -> tuple[bytes, Manifest]:
        data = files.read(digest, self._limits.size)
        verify_bytes(data, Descriptor("", digest, len(data)))
        return data, parse_manifest(data, None, self._limits)

    def _make(self, image: _Image) -> tuple[Descriptor, bytes, dict[Digest, Member]]:
        """A manifest of the image's config and of its layers as they are."""
        config = self._tar.read(_normal(image.config), self._limits.size)
        config_digest = Digest.of(config)
        stated = _HEX_NAME.fullmatch(image.config)
        if stated is not None and stated[1] != config_digest.encoded:
            raise damaged(self._data.path, f"the config {image.config} has the digest {config_digest}")
        layers = image.layers or []
        try:
            root = msgspec.json.decode(config, type=_Config).rootfs
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(self._data.path, f"{image.config} is no config of an image ({error})") from None
        ids = (root.diff_ids if root else None) or []
        if len(ids) != len(layers):
            raise damaged(
                self._data.path,
                f"manifest.json lists {len(layers)} layers of {image.config}, which has {len(ids)}",
            )
        found = [self._layer(*pair) for pair in zip(layers, ids, strict=True)]
        member = self._tar.find(_normal(image.config))
        assert member is not None
        blobs = {config_digest: member} | {digest: layer for digest, layer, _ in found}
        data = _document((config_digest, len(config)), found)
        manifest: Manifest = parse_manifest(data, None, self._limits)
        return Descriptor(manifest.media_type, Digest.of(data), len(data)), data, blobs

    def _layer(self, name: str, diff_id: str) -> tuple[Digest, Member, str]:
        """Digest and place of a layer, and what its media type ends with.

        The digest of a plain layer is in the config, that of a compressed one in its path, or is computed.
        """
        member = self._tar.find(_normal(name))
        if member is None:
            raise NotFound(f"the layer {name} is not in {self._data.path}{self._tar.cut_short}")
        begin = self._data.pread(4, member.start) if member.size else b""
        suffix = "+gzip" if begin.startswith(GZIP_MAGIC) else "+zstd" if begin == ZSTD_MAGIC else ""
        if not suffix:
            try:
                return Digest.parse(diff_id), member, suffix
            except InvalidDigest as error:
                raise damaged(self._data.path, f"a config lists a wrong digest: {error}") from None
        return digest_of_path(name) or self._hashed(member), member, suffix

    def _hashed(self, member: Member) -> Digest:
        hasher, at, stop = hashlib.sha256(), member.start, member.start + member.size
        while at < stop:
            with explained("cannot read", self._data.path):
                refuse_abandoned()
            piece = self._data.pread(min(PIECE, stop - at), at)
            if not piece:
                raise damaged(self._data.path, f"it ended at byte {at}")
            hasher.update(piece)
            at += len(piece)
        return Digest(f"sha256:{hasher.hexdigest()}")


def open_archive(
    location: DockerArchiveReference, side: Side, options: CopyOptions
) -> DockerArchive | DockerArchiveTarget:
    """The archive (`oci.reference.Scheme.open`). Raises as `DockerArchive` and `DockerArchiveTarget`."""
    if side == "target":
        if location.position is not None:
            raise StoreError(
                f"{location.tag} is a position, and a new archive is written",
                advice=Advice("choose-image", f"write docker-archive:{location.path}:NAME[:TAG]"),
            )
        return DockerArchiveTarget(location.path)
    with opened_tar(location.path) as tar:
        return DockerArchive(location.path, tar)


def _document(config: tuple[Digest, int], layers: list[tuple[Digest, Member, str]]) -> bytes:
    """An OCI manifest: skopeo passes over docker's in a layout, and docker's has no type for zstd."""

    def entry(media_type: str, digest: Digest, size: int) -> dict[str, object]:
        return {"mediaType": media_type, "digest": str(digest), "size": size}

    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": entry(mediatype.OCI_CONFIG, *config),
        "layers": [entry(_LAYER + suffix, digest, member.size) for digest, member, suffix in layers],
    }
    return msgspec.json.encode(document)


def _normal(name: str) -> str:
    return posixpath.normpath(name)


def _whole(name: str) -> str:
    try:
        return whole_name(name)
    except InvalidReference:
        return name
