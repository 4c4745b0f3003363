"""In-memory source and target that keep the contracts of `content` strictly and fail on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from crossdock.content import BlobSource, Body, ByteSink, UploadSession
from crossdock.errors import NotFound, ReadFailed, UploadInterrupted, UploadRejected
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.verify import verify_bytes


@dataclass
class MemorySource:
    """Serves blobs and manifests from dictionaries. ``ranged`` False: every answer is the whole blob."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    name: str = "source.test/repo"
    ranged: bool = True
    piece: int = 7777
    # Called with (start, stop, number of the open call): may raise, or return how many bytes to deliver.
    on_open: Callable[[int, int, int], int | None] = lambda start, stop, number: None
    ignore_range_from: int | None = None  # the open call from which on ranges are ignored
    opened: list[tuple[int, int]] = field(default_factory=list)
    live: int = 0
    pause_at: tuple[int, int] | None = None  # likewise, until `go_on` is set
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    silent: set[int] = field(default_factory=set)  # open calls by number that get no answer
    # (start of a body, offset) at which it stalls until it is closed
    stall_at: tuple[int, int] | None = None

    attachments: dict[str, tuple[list[Descriptor], list[str]]] = field(default_factory=dict)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        return self.attachments.get(digest, ([], []))

    async def resolve(self, reference: str) -> Descriptor:
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            raise NotFound(f"no {reference}")
        media_type, data = self.manifests[digest]
        return Descriptor(media_type=media_type, digest=Digest(digest), size=len(data))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.manifests:
            raise NotFound(f"no {descriptor.digest}")
        return self.manifests[descriptor.digest][1]

    def blob(self, descriptor: Descriptor) -> BlobSource:
        return MemoryBlob(self, self.blobs[descriptor.digest])


@dataclass
class MemoryBlob:
    owner: MemorySource
    data: bytes

    async def open(self, start: int, stop: int) -> Body:
        owner = self.owner
        number = len(owner.opened)
        owner.opened.append((start, stop))
        await asyncio.sleep(0)
        if number in owner.silent:
            await asyncio.Event().wait()
        limit = owner.on_open(start, stop, number)
        ignores = not owner.ranged or (
            owner.ignore_range_from is not None and number >= owner.ignore_range_from
        )
        if ignores:
            start, stop = 0, len(self.data)
        owner.live += 1
        return MemoryBody(owner, self.data, start, stop, limit)


class MemoryBody:
    def __init__(self, owner: MemorySource, data: bytes, start: int, stop: int, limit: int | None) -> None:
        self.owner, self.data, self.start, self.stop, self.limit = owner, data, start, stop, limit
        self._room = asyncio.Event()
        self._closing = asyncio.Event()
        self._closed = False

    async def receive(self, sink: ByteSink) -> None:
        position = self.start
        end = self.stop if self.limit is None else min(self.stop, self.start + self.limit)
        while position < end:
            if self.owner.stall_at == (self.start, position):
                await self._closing.wait()
                raise ReadFailed("closed by this side")
            if self.owner.pause_at == (self.start, position):
                await self.owner.go_on.wait()
            buffer = sink.get_buffer()
            if buffer is None:
                self._room.clear()
                await self._room.wait()
                if self._closed:
                    raise ReadFailed("closed by this side")
                continue
            stops = [
                at for start, at in filter(None, (self.owner.stall_at, self.owner.pause_at)) if at > position
            ]
            most = min(self.owner.piece, end - position, *(at - position for at in stops))
            assert len(buffer), "a sink must never offer an empty buffer"
            count = min(len(buffer), most)
            buffer[:count] = self.data[position : position + count]
            sink.received(count)
            position += count
            await asyncio.sleep(0)
        if end < self.stop:
            raise ReadFailed(f"broke after {end - self.start} bytes")

    def resume(self) -> None:
        self._room.set()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._closing.set()
            self._room.set()
            self.owner.live -= 1


@dataclass
class MemoryTarget:
    """Stores its input; refuses input that a registry would refuse."""

    name: str = "target.test/repo"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, bytes]] = field(default_factory=dict)  # repository → blobs to mount
    seen: list[str] = field(default_factory=list)  # those whose blobs are known before a mount is tried
    chunk_size: int | None = None
    compares_digests: bool = False
    # Called with (session, bytes about to be taken): may raise.
    on_append: Callable[[MemorySession, int], None] = lambda session, count: None
    on_commit: Callable[[MemorySession], None] = lambda session: None
    sessions: list[MemorySession] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)  # digests of the blobs that were looked for

    # Called with the bytes that are read back: returns those that come.
    on_read: Callable[[bytes], bytes] = lambda data: data

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        data = self.on_read(self.manifests[descriptor.digest][1])
        verify_bytes(data, descriptor)
        return data

    def blob(self, descriptor: Descriptor) -> BlobSource:
        return MemoryBlob(MemorySource(), self.on_read(self.blobs[descriptor.digest]))

    async def find_manifest(self, reference: str) -> bytes | None:
        digest = self.tags.get(reference, reference)
        return self.manifests[digest][1] if digest in self.manifests else None

    def knows_manifest(self, descriptor: Descriptor) -> bool:
        return False

    def knows_blob(self, descriptor: Descriptor) -> bool:
        return False

    async def is_pushed_manifest(self, descriptor: Descriptor) -> bool:
        return descriptor.digest not in self.blobs

    def other_repository(self, descriptor: Descriptor) -> str | None:
        return next((name for name in self.seen if descriptor.digest in self.elsewhere[name]), None)

    async def has_manifest(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.manifests

    async def has_blob(self, descriptor: Descriptor) -> bool:
        self.checks.append(descriptor.digest)
        return descriptor.digest in self.blobs

    def claim(self, blobs: Iterable[Descriptor], source: str) -> AbstractContextManager[None]:
        return nullcontext()

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        data = self.elsewhere.get(from_repository, {}).get(descriptor.digest)
        if data is None:
            return False
        self.blobs[descriptor.digest] = data
        return True

    def checks_digest(self, descriptor: Descriptor) -> bool:
        return self.compares_digests

    async def start_upload(self, descriptor: Descriptor) -> UploadSession:
        session = MemorySession(self, descriptor)
        self.sessions.append(session)
        return session

    listed: dict[str, list[Descriptor]] = field(default_factory=dict)  # by subject

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        return self.listed.get(digest, [])

    async def push_referrer(self, descriptor: Descriptor, data: bytes) -> None:
        await self.push_manifest(descriptor, data, None)
        subject = json.loads(data)["subject"]["digest"]
        self.listed.setdefault(subject, []).append(descriptor)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str | None) -> None:
        assert Digest.of(data) == descriptor.digest
        self.log.append(f"manifest {tag or descriptor.digest}")
        self.manifests[descriptor.digest] = (descriptor.media_type, data)
        if tag:
            self.tags[tag] = descriptor.digest


class MemorySession:
    def __init__(self, target: MemoryTarget, descriptor: Descriptor) -> None:
        self.target, self.descriptor = target, descriptor
        self.data = bytearray()
        self.boundary = target.chunk_size
        self.state = "open"
        self.interruptions = 0

    @property
    def offset(self) -> int:
        return len(self.data)

    def prepare(self) -> None:
        assert self.state == "open"

    async def append(self, data: memoryview) -> None:
        assert self.state == "open"
        self.target.on_append(self, len(data))
        await asyncio.sleep(0)
        self.data += data

    def interrupt(self, offset: int, *, announce: bool = False) -> None:
        """Lose everything from `offset` on, as a target that needs the bytes again."""
        self.interruptions += 1
        del self.data[offset:]
        raise UploadInterrupted("asked again", offset=offset, announce=announce)

    async def commit(self) -> None:
        assert self.state == "open"
        self.target.on_commit(self)
        if Digest.of(bytes(self.data), self.descriptor.digest.algorithm) != self.descriptor.digest:
            assert self.target.compares_digests, "a wrong blob was complete at a target that does not look"
            raise UploadRejected("DIGEST_INVALID", status=400)
        self.state = "committed"
        self.target.log.append(f"blob {self.descriptor.digest}")
        self.target.blobs[self.descriptor.digest] = bytes(self.data)

    async def cancel(self) -> None:
        if self.state == "open":
            self.state = "cancelled"
