"""Ready-made blobs for `content.Source`: bytes in memory, or whatever yields them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable

from crossdock.content import ByteSink
from crossdock.errors import ReadFailed

Read = Callable[[int, int], AsyncIterable[bytes | memoryview]]
"""``(start, stop)`` → exactly these bytes of the blob, in pieces of any size."""


class StreamBlob:
    """A `content.BlobSource` over a function that yields a range of the blob."""

    def __init__(self, read: Read) -> None:
        """`read` may raise what `content.BlobSource.open` and `content.Body.receive` raise."""
        self._read = read

    async def open(self, start: int, stop: int) -> StreamBody:
        """The range ``start``..``stop``. Nothing is read yet."""
        return StreamBody(self._read(start, stop), start, stop)


class BytesBlob(StreamBlob):
    """A `content.BlobSource` in memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        view = memoryview(data)

        async def read(start: int, stop: int) -> AsyncIterator[memoryview]:
            yield view[start:stop]

        super().__init__(read)


class StreamBody:
    """A `content.Body` over an asynchronous iterable of bytes."""

    def __init__(self, pieces: AsyncIterable[bytes | memoryview], start: int, stop: int) -> None:
        """`pieces` are the bytes ``start``..``stop`` of the blob. An async generator is closed in the end."""
        self.start = start
        self.stop = stop
        self._pieces = pieces
        self._closed = False
        self._room = asyncio.Event()
        self._delivery: asyncio.Task[None] | None = None

    async def receive(self, sink: ByteSink) -> None:
        """Deliver every byte. Raises `ReadFailed` when there are fewer or more, or after `close`."""
        if not self._closed:
            self._delivery = asyncio.ensure_future(self._deliver_all(sink))
            try:
                return await self._delivery
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._closed or (task is not None and task.cancelling()):
                    raise
        raise ReadFailed("the body was closed", retryable=False)

    def resume(self) -> None:
        """The sink has room again."""
        self._room.set()

    def close(self) -> None:
        """End `receive`, wherever it waits."""
        self._closed = True
        if self._delivery is not None:
            self._delivery.cancel()

    async def _deliver_all(self, sink: ByteSink) -> None:
        missing = self.stop - self.start
        try:
            async for piece in self._pieces:
                missing -= len(piece)
                if missing < 0:
                    raise ReadFailed(f"more bytes than the range {self.start}-{self.stop - 1} has")
                await self._deliver(memoryview(piece), sink)
        finally:
            if (end := getattr(self._pieces, "aclose", None)) is not None:
                await end()
        if missing:
            raise ReadFailed(
                f"ended {missing} bytes before the end of the range {self.start}-{self.stop - 1}"
            )

    async def _deliver(self, left: memoryview, sink: ByteSink) -> None:
        while left:
            self._room.clear()
            if (buffer := sink.get_buffer()) is None:
                await self._room.wait()
                continue
            count = min(len(buffer), len(left))
            buffer[:count] = left[:count]
            left = left[count:]
            sink.received(count)
