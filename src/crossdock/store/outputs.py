"""Outputs for an archive: a file, parts of at most a given size, stdout or a pipe. Blocking.

A file is written beside its place, hidden and locked while its writer lives, and replaces the old one at the
end. Parts do so together. They are the archive's bytes, cut: ``cat FILE.*`` joins them. The last one ends
with a list of all, their sizes and SHA-256 (`parts`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

import msgspec

from crossdock.errors import Advice, StoreError
from crossdock.oci.archivereference import STREAM
from crossdock.store.blobfiles import create_locked, remove_stale
from crossdock.store.files import explained, sync_folder, write_all, write_pipe
from crossdock.store.folder import Folder
from crossdock.store.parts import BLOCK, LIST_NAME, MOST_PARTS, PartList, PartRow, part_path

SMALLEST_PART = 64 << 10
_LINE = 100  # bytes of a part in the list, at most
_AROUND = 4 * BLOCK  # around the list: its header, its padding and the end of the archive


class WrittenFile(msgspec.Struct, frozen=True):
    """A file of an archive that is whole. `sha256` is known of parts."""

    path: Path
    size: int
    sha256: str | None = None


class PartFile:
    """One file on its way to its place."""

    def __init__(self, folder: Folder, *, hashes: bool) -> None:
        self.name, self.descriptor = create_locked(folder)
        self.size = 0
        self.hasher = hashlib.sha256() if hashes else None

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the bytes so far; None if they are not hashed."""
        return self.hasher.hexdigest() if self.hasher is not None else None

    def put(self, data: memoryview) -> None:
        """Append `data`. Raises OSError."""
        write_all(self.descriptor, data)
        if self.hasher is not None:
            self.hasher.update(data)
        self.size += len(data)


class Files:
    """An archive in one file, or in parts of at most `part_size` bytes."""

    is_stream = False

    def __init__(self, path: Path, part_size: int | None) -> None:
        """Raises `StoreError` where none can be written."""
        self.path = path
        self.written: list[WrittenFile] = []
        """The files that `finish` put in their places."""
        self._folder = Folder(path.parent)
        self._parts: list[PartFile] = []
        self._mark: tuple[int, int, hashlib._Hash | None] = (0, 0, None)
        self._part_size = part_size and max(part_size // BLOCK * BLOCK, SMALLEST_PART)
        if self._part_size:
            self._most = min(MOST_PARTS, (self._part_size - _AROUND) // _LINE)
        if not path.parent.is_dir():
            raise StoreError(
                f"{path.parent}: no such folder", advice=Advice("check-folder", "create it first")
            )
        if part_size and path.exists():
            raise StoreError(
                f"{path} is there, and would be read instead of its parts",
                advice=Advice("use-another-target", "remove it, or write to another name"),
            )

    def open(self) -> None:
        """Make the first file. Raises `StoreError`."""
        with explained("cannot write", self.path):
            remove_stale(self._folder)
            self._add()

    def put(self, data: memoryview) -> None:
        """Append `data`. Raises `StoreError`."""
        with explained("cannot write", self.path):
            while self._part_size and len(data) > (room := self._part_size - self._parts[-1].size):
                self._parts[-1].put(data[:room])
                data = data[room:]
                self._add()
            self._parts[-1].put(data)

    def mark(self) -> None:
        """Set the point to which `take_back` returns."""
        last = self._parts[-1]
        self._mark = len(self._parts), last.size, last.hasher and last.hasher.copy()

    def take_back(self) -> bool:
        """Drop the bytes written since `mark`; False: that is impossible."""
        number, size, hasher = self._mark
        try:
            while len(self._parts) > number:
                self._drop(self._parts[-1])
                self._parts.pop()
            last = self._parts[-1]
            os.ftruncate(last.descriptor, size)
            os.lseek(last.descriptor, size, os.SEEK_SET)
        except (OSError, IndexError):
            return False
        last.size, last.hasher = size, hasher and hasher.copy()
        return True

    def closing(self) -> tuple[str, bytes] | None:
        """Name and content of the member that lists the parts, if there are any. Raises `StoreError`."""
        if self._part_size is None:
            return None
        needed = _AROUND + _LINE * (len(self._parts) + 1)
        if self._parts[-1].size + needed > self._part_size:
            with explained("cannot write", self.path):
                self._add()
        rows = [PartRow(each.size, each.sha256 or "") for each in self._parts]
        data = msgspec.json.encode(PartList(rows))
        return LIST_NAME.format(hashlib.sha256(data).hexdigest()), data

    def finish(self) -> None:
        """Put everything in its place, durably. Raises `StoreError`; then the places are as they were."""
        names = [self.path.name]
        if self._part_size is not None:
            names = [part_path(self.path, number).name for number in range(1, len(self._parts) + 1)]
        with explained("cannot write", self.path), self._folder.entered() as folder:
            for part, name in zip(self._parts, names, strict=True):
                with contextlib.suppress(FileNotFoundError):
                    old = os.stat(name, dir_fd=folder)
                    if not stat.S_ISREG(old.st_mode):
                        raise StoreError(f"{self.path.parent / name} is there and is no file")
                    os.fchmod(part.descriptor, old.st_mode & 0o777)
                os.fsync(part.descriptor)
            for part, name in zip(self._parts, names, strict=True):
                os.replace(part.name, name, src_dir_fd=folder, dst_dir_fd=folder)
            if self._part_size is not None:
                self._drop_old(folder)
            sync_folder(folder)
        self.written = [
            WrittenFile(self.path.parent / name, each.size, each.sha256)
            for name, each in zip(names, self._parts, strict=True)
        ]

    def discard(self) -> None:
        """Delete the files that are not in their place. Never raises."""
        while self._parts:
            part = self._parts.pop()
            with contextlib.suppress(OSError):
                if not self.written:
                    self._drop(part)
                else:
                    os.close(part.descriptor)

    def _add(self) -> None:
        if self._part_size is not None and len(self._parts) >= self._most:
            raise StoreError(
                f"{self.path} would have more than {self._most} parts",
                advice=Advice("use-larger-parts", "choose larger parts"),
            )
        self._parts.append(PartFile(self._folder, hashes=self._part_size is not None))

    def _drop(self, part: PartFile) -> None:
        with contextlib.suppress(OSError), self._folder.entered() as folder:
            os.unlink(part.name, dir_fd=folder)
        os.close(part.descriptor)

    def _drop_old(self, folder: int) -> None:
        """Delete the parts of an older archive that had more."""
        with contextlib.suppress(FileNotFoundError):
            for number in range(len(self._parts) + 1, MOST_PARTS + 1):
                os.unlink(part_path(self.path, number).name, dir_fd=folder)


class Stream:
    """An archive on stdout or on a pipe: bytes that are written cannot be taken back."""

    is_stream = True

    def __init__(self, path: str) -> None:
        """Raises `StoreError`."""
        self._is_stdout = path == STREAM
        self.path = Path("stdout") if self._is_stdout else Path(path)
        self.written: list[WrittenFile] = []
        self._descriptor = -1
        if self._is_stdout and os.isatty(1):
            advice = Advice("redirect", "redirect it to a file, or pipe it to another command")
            raise StoreError("an archive is not written to a terminal", advice=advice)

    def open(self) -> None:
        """Open the pipe. Raises `StoreError`."""
        with explained("cannot write", self.path):
            if self._is_stdout:
                self._descriptor = _own_stdout()
            else:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)

    def put(self, data: memoryview) -> None:
        """Write `data`. Raises `StoreError`."""
        with explained("cannot write", self.path):
            write_pipe(self._descriptor, data)

    def mark(self) -> None:
        """Nothing: it is written."""

    def take_back(self) -> bool:
        """False."""
        return False

    def closing(self) -> None:
        """None: there are no parts."""
        return

    def finish(self) -> None:
        """Nothing: it is written."""

    def discard(self) -> None:
        """Close it. Never raises."""
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)


def output(path: str, part_size: int | None = None) -> Files | Stream:
    """The output for the archive `path`. Raises `StoreError` where none can be written."""
    if path == STREAM:
        return Stream(path)
    place = Path(os.path.realpath(path))
    if place.exists():
        mode = place.stat().st_mode
        if stat.S_ISDIR(mode):
            advice = Advice("use-another-target", "a folder is a layout: oci:DIR")
            raise StoreError(f"{place} is a folder, and an archive is a file", advice=advice)
        if not stat.S_ISREG(mode):
            return Stream(str(place))
    return Files(place, part_size)


def _own_stdout() -> int:
    """A descriptor of stdout. Of a pipe it does not block, and others that have the pipe are left alone."""
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        with contextlib.suppress(OSError):  # a system without /proc
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(1)
