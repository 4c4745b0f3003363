"""Content that a descriptor carries itself (image-spec descriptor.md, ``data``)."""

from __future__ import annotations

import asyncio
import binascii

from crossdock.content import BlobSource, ByteSink, Source
from crossdock.errors import ContentError, ReadFailed
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.verify import verify_bytes


def inline_bytes(descriptor: Descriptor) -> bytes | None:
    """The bytes in the descriptor; None when there are none, or others than its size and digest say."""
    if not descriptor.data:
        return None
    try:
        data = binascii.a2b_base64(descriptor.data)
        verify_bytes(data, descriptor)
    except (ValueError, ContentError):
        return None
    return data


class InlineSource:
    """A `Source` with one blob in memory; everything else is asked of the source behind it."""

    def __init__(self, source: Source, data: bytes) -> None:
        self._source = source
        self._data = data

    @property
    def name(self) -> str:
        """As the source itself is called."""
        return self._source.name

    async def resolve(self, reference: str) -> Descriptor:
        """As `Source.resolve`. # network"""
        return await self._source.resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """As `Source.fetch_manifest`. # network"""
        return await self._source.fetch_manifest(descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `Source.attached`. # network"""
        return await self._source.attached(digest)

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """The bytes in memory."""
        return _InlineBlob(self._data)


class _InlineBlob:
    """A `BlobSource` in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def open(self, start: int, stop: int) -> _InlineBody:
        return _InlineBody(self._data, start, stop)


class _InlineBody:
    """A `Body` in memory. Only a full sink makes it wait."""

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self._left = memoryview(data)[start:stop]
        self._closed = False
        self._waiting = asyncio.Event()

    async def receive(self, sink: ByteSink) -> None:
        while self._left:
            if self._closed:
                raise ReadFailed("reading was given up", retryable=False)
            self._waiting.clear()
            buffer = sink.get_buffer()
            if buffer is None:
                await self._waiting.wait()
                continue
            count = min(len(buffer), len(self._left))
            buffer[:count] = self._left[:count]
            self._left = self._left[count:]
            sink.received(count)

    def resume(self) -> None:
        self._waiting.set()

    def close(self) -> None:
        self._closed = True
        self._waiting.set()
