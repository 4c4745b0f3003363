"""A tar file written in one pass, member after member. Blocking."""

from __future__ import annotations

import tarfile

from crossdock.errors import StoreError
from crossdock.store.outputs import WrittenFile, output
from crossdock.store.parts import BLOCK


class TarWriter:
    """Writes one member after the other. The file is created with the first one."""

    def __init__(self, path: str, part_size: int | None = None) -> None:
        """With `part_size` the archive goes to parts. Raises `StoreError` where none can be written."""
        self._output = output(path, part_size)
        self.path = self._output.path
        self.is_begun = False
        self._is_broken = False
        self._padding = self._left = 0

    @property
    def written(self) -> list[WrittenFile]:
        """The files of the archive, once it is finished; none of a pipe."""
        return self._output.written

    def add(self, name: str, data: bytes) -> None:
        """A whole member. Raises `StoreError`."""
        self.begin(name, len(data))
        self.write(memoryview(data))
        self.end()

    def begin(self, name: str, size: int) -> None:
        """The header of a member of `size` bytes. Raises `StoreError`."""
        self._check()
        if not self.is_begun:
            self._output.open()
            self.is_begun = True
        header = tarfile.TarInfo(name)
        header.size = size
        self._left, self._padding = size, -size % BLOCK
        self._output.mark()
        self._put(memoryview(header.tobuf(tarfile.GNU_FORMAT)))  # its sizes may exceed 8 GiB

    def write(self, data: memoryview) -> None:
        """The next bytes of the member. Raises `StoreError`."""
        self._left -= len(data)
        self._put(data)

    def end(self) -> None:
        """The member is whole. Raises `StoreError`."""
        assert not self._left
        self._put(memoryview(bytes(self._padding)))
        self._output.mark()

    def take_back(self) -> None:
        """Drop the member that was begun. Never raises."""
        if self.is_begun and (self._is_broken or not self._output.take_back()):
            self._is_broken = True

    def finish(self) -> None:
        """End the archive and put it in its place, durably.

        Raises `StoreError`; then the place is as it was.
        """
        self._check()
        try:
            if (listed := self._output.closing()) is not None:
                self.add(*listed)
            self._put(memoryview(bytes(2 * BLOCK)))
            self._output.finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete the unfinished archive; a pipe keeps the bytes that it has. Never raises."""
        if self.is_begun:
            self._is_broken = True
            self._output.discard()

    def _check(self) -> None:
        if self._is_broken:
            raise StoreError(f"the archive on {self.path} was broken off, and cannot be continued")

    def _put(self, data: memoryview) -> None:
        try:
            self._output.put(data)
        except StoreError:
            self._is_broken = self._is_broken or self._output.is_stream
            raise
