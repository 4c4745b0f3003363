from crossdock import BlobSource, BytesBlob, Descriptor, Digest, UploadSession
from crossdock.errors import NotFound


class MemorySource:
    """A repository in memory: manifests with their media types, blobs and tags."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}

    async def resolve(self, reference: str) -> Descriptor:
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            raise NotFound(f"no {reference} in {self.name}")
        media_type, data = self.manifests[digest]
        return Descriptor(media_type, Digest(digest), len(data))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        await self.resolve(descriptor.digest)
        return self.manifests[descriptor.digest][1]

    def blob(self, descriptor: Descriptor) -> BlobSource:
        if descriptor.digest not in self.blobs:
            raise NotFound(f"no {descriptor.digest} in {self.name}")
        return BytesBlob(self.blobs[descriptor.digest])


class MemoryTarget(MemorySource):
    """A writable store. It inherits reading, which ``verify="reread"`` needs."""

    async def find_manifest(self, reference: str) -> bytes | None:
        _, data = self.manifests.get(self.tags.get(reference, reference), ("", None))
        return data

    async def has_blob(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    async def start_upload(self, descriptor: Descriptor) -> UploadSession:
        return MemoryUpload(self.blobs, descriptor)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        self.manifests[descriptor.digest] = descriptor.media_type, data
        if tag:
            self.tags[tag] = descriptor.digest


class MemoryUpload:
    def __init__(self, blobs: dict[str, bytes], descriptor: Descriptor) -> None:
        self.blobs, self.descriptor = blobs, descriptor
        self.data = bytearray()

    async def append(self, data: memoryview) -> None:
        self.data += data

    async def commit(self) -> None:
        self.blobs[self.descriptor.digest] = bytes(self.data)

    async def cancel(self) -> None:
        self.data.clear()
