"""A source whose manifests are fetched once for several targets."""

from __future__ import annotations

from crossdock.content import BlobSource, Source
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.transfer.sides import find_attached

MOST_BYTES = 32 << 20  # of manifests; those over it are fetched again for each target


class KeptSource:
    """A `Source` over another that remembers manifests and their referrers, but no blobs."""

    def __init__(self, source: Source, root: Descriptor) -> None:
        """`root` is the manifest that the source was resolved to."""
        self._source = source
        self._root = root
        self._manifests: dict[Digest, bytes] = {}
        self._room = MOST_BYTES
        self._attached: dict[Digest, tuple[list[Descriptor], list[str]]] = {}

    @property
    def name(self) -> str:
        """The name of the source itself."""
        return self._source.name

    def rename(self, root: Descriptor) -> None:
        """The source was resolved again, to another manifest."""
        self._root = root

    async def resolve(self, reference: str) -> Descriptor:
        """As `Source.resolve`; the root is known. # network"""
        return self._root if reference == self._root.digest else await self._source.resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """As `Source.fetch_manifest`. # network, the first time"""
        data = self._manifests.get(descriptor.digest)
        if data is None:
            data = await self._source.fetch_manifest(descriptor)
            if len(data) <= self._room:
                self._room -= len(data)
                self._manifests[descriptor.digest] = data
        return data

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """As `Source.blob`."""
        return self._source.blob(descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `FindsAttached.attached`. # network, the first time"""
        found = self._attached.get(digest)
        if found is None:
            found = self._attached[digest] = await find_attached(self._source, digest)
        return found
