"""A range of an open file as a `content.Body`: a blob of a layout, or of an archive."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from crossdock.content import ByteSink
from crossdock.errors import Advice, ReadFailed, SizeMismatch
from crossdock.store.files import explain
from crossdock.tasks import in_thread

MAX_READ = 4 << 20  # bytes one thread reads at a time: a cancelled copy waits for at most this much


class FileBody:
    """A range of an open file (`content.Body`), read straight into the sink's memory. Closes the file."""

    def __init__(self, descriptor: int, path: Path, start: int, stop: int, *, base: int = 0) -> None:
        """The blob begins at byte `base` of the file."""
        self._base = base
        self.start = start
        self.stop = stop
        self._at = start
        self._path = path
        self._descriptor = descriptor
        self._closed = False
        self._reading = False
        self._room = asyncio.Event()

    async def receive(self, sink: ByteSink) -> None:
        """Deliver every byte.

        Raises `SizeMismatch` when the file has become shorter, `StoreError`, `ReadFailed` when closed.
        """
        try:
            while self._at < self.stop:
                self._room.clear()
                buffer = sink.get_buffer()
                if buffer is None:
                    await self._room.wait()
                elif not self._closed:
                    count = await self._read(buffer[: min(self.stop - self._at, MAX_READ)])
                    self._at += count
                    sink.received(count)
                if self._closed:
                    raise ReadFailed(f"reading {self._path} was given up", retryable=False)
        finally:
            self.close()

    def resume(self) -> None:
        """The sink has room again."""
        self._room.set()

    def close(self) -> None:
        """Give the file back; a read that is under way ends first."""
        self._closed = True
        self._room.set()
        if not self._reading:
            self._close_file()

    async def _read(self, buffer: memoryview) -> int:
        self._reading = True
        try:
            count = await in_thread(self._pread, buffer, self._base + self._at)
        except OSError as error:
            raise explain("cannot read", self._path, error) from error
        finally:
            self._reading = False
        if not count:
            raise SizeMismatch(
                f"{self._path} ended at byte {self._base + self._at} while it was read",
                advice=Advice("retry-later", "something else is changing it; copy again when that is done"),
                expected=self.stop,
                received=self._at,
            )
        return count

    def _pread(self, buffer: memoryview, offset: int) -> int:
        """Read at `offset` of the file; 0: there is no more. In a thread. Raises OSError."""
        return os.preadv(self._descriptor, [buffer], offset)

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
