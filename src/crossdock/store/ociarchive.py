"""An OCI archive, a layout in a tar file, as a `content.Source`. It is read by position and not unpacked."""

from __future__ import annotations

from pathlib import Path

from crossdock.errors import Advice, ContentError, NotFound, Side, StoreError
from crossdock.oci.archivereference import OciArchiveReference
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.options import CopyOptions
from crossdock.store.archivetarget import LEFT_OUT, ArchiveTarget, path_of
from crossdock.store.files import RECREATE
from crossdock.store.indexed import IndexedSource
from crossdock.store.indexfile import INDEX_LIMIT, LAYOUT_LIMIT, Entry, check_version, decode, entries_of
from crossdock.store.tarblob import TarBlob
from crossdock.store.tarindex import Member, TarIndex, opened_tar


class TarBlobs:
    """The ``blobs`` folder of a layout in an archive (`indexed.Blobs`)."""

    def __init__(self, index: TarIndex) -> None:
        self._index = index

    def find(self, digest: Digest) -> Member:
        """The member that holds the blob. Raises `NotFound`."""
        member = self._index.find(path_of(digest))
        if member is None:
            words = f"blob {digest} is not in {self._index.data.path}{self._index.cut_short}"
            if self._index.find(LEFT_OUT) is not None:
                words += ": it was written without the blobs of an older archive"
            raise NotFound(words)
        return member

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when it is not there."""
        member = self._index.find(path_of(digest))
        return None if member is None else member.size

    def read(self, digest: Digest, limit: int) -> bytes:
        """A small blob, unverified. Raises `NotFound`, `LimitExceeded`, `StoreError`, `ContentError`."""
        self.find(digest)
        return self._index.read(path_of(digest), limit)


class OciArchive(IndexedSource):
    """The archive in `tar`, which is called `path` and may be stdin."""

    def __init__(self, path: str, tar: TarIndex, *, joins_platforms: bool = False) -> None:
        """Read the index. Raises `StoreError`, `ContentError`, `LimitExceeded`."""
        self._data = tar.data
        self._listed = read_index(tar)
        self._files = TarBlobs(tar)
        self._path = path
        super().__init__(self._data.path, self._files, joins_platforms=joins_platforms)

    @property
    def name(self) -> str:
        """``oci-archive:FILE``."""
        return f"oci-archive:{self._path}"

    def blob(self, descriptor: Descriptor) -> TarBlob:
        """The blob, to be opened in ranges. Raises `NotFound`."""
        return TarBlob(self._data, self._files.find(descriptor.digest), descriptor)

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def _entries(self) -> list[Entry]:
        return self._listed


def read_index(tar: TarIndex) -> list[Entry]:
    """The entries of the layout in `tar`. Raises `StoreError`, `ContentError`, `LimitExceeded`."""
    path = tar.data.path
    if tar.find("oci-layout") is None or tar.find("index.json") is None:
        raise StoreError(
            f"{path} is not an OCI archive: it has no {_missing(tar)}{tar.cut_short}",
            advice=Advice("choose-archive", f"docker or podman may have saved it: docker-archive:{path}")
            if tar.find("manifest.json") is not None
            else None,
        )
    try:
        check_version(Path(path, "oci-layout"), tar.read("oci-layout", LAYOUT_LIMIT))
        index = Path(path, "index.json")
        return entries_of(decode(index, tar.read("index.json", INDEX_LIMIT)), index)
    except ContentError as error:
        raise error.replace(advice=RECREATE) from error.__cause__


def open_archive(
    location: OciArchiveReference, side: Side, options: CopyOptions
) -> OciArchive | ArchiveTarget:
    """The archive (`oci.reference.Scheme.open`). Raises as `OciArchive` and `ArchiveTarget`."""
    if side == "target":
        return ArchiveTarget(location.path)
    with opened_tar(location.path) as tar:
        return OciArchive(location.path, tar, joins_platforms=bool(options.platforms))


def _missing(tar: TarIndex) -> str:
    return "oci-layout file" if tar.find("oci-layout") is None else "index.json"
