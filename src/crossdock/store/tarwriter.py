"""A tar file written in one pass: beside its place, where it goes in the end, or to stdout. Blocking."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from pathlib import Path

from crossdock.errors import Advice, StoreError
from crossdock.oci.archivereference import STREAM
from crossdock.store.blobfiles import create_locked, remove_stale
from crossdock.store.files import explain, explained, sync_folder, write_all, write_pipe
from crossdock.store.folder import Folder
from crossdock.store.tarindex import BLOCK


class TarWriter:
    """Writes one member after the other. Nothing is made before the first.

    A file goes to a temporary one in its folder, locked while its writer lives, and replaces what was there
    by `finish`. What is no file (stdout, a pipe) gets the bytes at once, and a member cannot be taken back.
    """

    def __init__(self, path: str) -> None:
        """Raises `StoreError` where no archive can be written."""
        self.path = Path("stdout") if path == STREAM else Path(os.path.realpath(path))
        self.is_begun = False
        self._is_broken = False
        self._descriptor = -1
        self._name = ""
        self._position = self._begin = self._left = 0
        self._is_stream = path == STREAM
        if not self._is_stream and self.path.exists():
            mode = self.path.stat().st_mode
            if stat.S_ISDIR(mode):
                advice = Advice("use-another-target", "a folder is a layout: oci:DIR")
                raise StoreError(f"{self.path} is a folder, and an archive is a file", advice=advice)
            self._is_stream = not stat.S_ISREG(mode)
        if path == STREAM and os.isatty(1):
            advice = Advice("redirect", "redirect it to a file, or pipe it to another command")
            raise StoreError("an archive is not written to a terminal", advice=advice)
        if not self._is_stream and not self.path.parent.is_dir():
            advice = Advice("check-folder", "create it first")
            raise StoreError(f"{self.path.parent}: no such folder", advice=advice)
        self._folder = Folder(self.path.parent)

    def add(self, name: str, data: bytes) -> None:
        """A whole member. Raises `StoreError`."""
        self.begin(name, len(data))
        self.write(memoryview(data))
        self.end()

    def begin(self, name: str, size: int) -> None:
        """The header of a member of `size` bytes. Raises `StoreError`."""
        self._check()
        if not self.is_begun:
            self._open()
        header = tarfile.TarInfo(name)
        header.size = size
        self._begin, self._left = self._position, size
        self._put(memoryview(header.tobuf(tarfile.GNU_FORMAT)))  # its sizes may exceed 8 GiB

    def write(self, data: memoryview) -> None:
        """The next bytes of the member. Raises `StoreError`."""
        self._left -= len(data)
        self._put(data)

    def end(self) -> None:
        """The member is whole. Raises `StoreError`."""
        assert not self._left
        self._put(memoryview(bytes(-self._position % BLOCK)))
        self._begin = self._position

    def take_back(self) -> None:
        """Drop the member that was begun. Never raises."""
        if self._is_stream or self._is_broken:
            self._is_broken = True
            return
        try:
            os.ftruncate(self._descriptor, self._begin)
            self._position = os.lseek(self._descriptor, self._begin, os.SEEK_SET)
        except OSError:
            self._is_broken = True

    def finish(self) -> None:
        """End the archive and put it in its place, durably.

        Raises `StoreError`; then the place is as it was.
        """
        self._check()
        try:
            self._put(memoryview(bytes(2 * BLOCK)))
            if self._is_stream:
                return self._close()
            with explained("cannot write", self.path), self._folder.entered() as folder:
                with contextlib.suppress(FileNotFoundError):
                    old = os.stat(self.path.name, dir_fd=folder)
                    os.fchmod(self._descriptor, old.st_mode & 0o777)
                os.fsync(self._descriptor)
                os.replace(self._name, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)
                sync_folder(folder)
        except BaseException:
            self.discard()
            raise
        self._close()

    def discard(self) -> None:
        """Delete what was written, unless it is finished or on its way elsewhere. Never raises."""
        if self._descriptor < 0:
            return
        if not self._is_stream:
            with contextlib.suppress(OSError), self._folder.entered() as folder:
                os.unlink(self._name, dir_fd=folder)
        self._is_broken = True
        self._close()

    def _check(self) -> None:
        if self._is_broken:
            raise StoreError(f"the archive on {self.path} was broken off, and cannot be continued")

    def _open(self) -> None:
        with explained("cannot write", self.path):
            if not self._is_stream:
                remove_stale(self._folder)
                self._name, self._descriptor = create_locked(self._folder)
            elif self.path == Path("stdout"):
                self._descriptor = _own_stdout()
            else:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        self.is_begun = True

    def _put(self, data: memoryview) -> None:
        try:
            (write_pipe if self._is_stream else write_all)(self._descriptor, data)
        except OSError as error:
            self._is_broken = self._is_stream
            raise explain("cannot write", self.path, error) from error
        self._position += len(data)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _own_stdout() -> int:
    """A descriptor of stdout. Of a pipe it does not block, and others that have the pipe are left alone."""
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        with contextlib.suppress(OSError):  # a system without /proc
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(1)
