"""The folder of spooled blobs: which file belongs to which copy, how large they may be, which are too old.

Rules:

1. A file is read and written by the one process that holds the lock of its digest; the kernel releases a
   lock when its process dies.
2. The files' lengths together never exceed the cap, and a new file takes at most half of what the file system
   has free. Lengths count, not blocks: from the start a file is as long as it can become.
3. When there is no room, unused files are removed, those with the oldest last write first. If that is not
   enough, the new file keeps the beginning of its blob.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from crossdock.errors import (
    Advice,
    SpoolUnavailable,
)
from crossdock.kept.keeper import Pruned, make_folder, reason_of, remove_unused
from crossdock.kept.spoolfile import BLOCK, SpoolFile, file_size, room_in
from crossdock.locks import BlobLock, is_taken, number_of, take_lock

SUFFIX = ".spool"
LOCK_FILE = "spool.lock"
LEAST_ROOM = 16 * BLOCK  # a shorter beginning of a blob is not worth a file
ROOM_LOCK = 1 << 62  # above the numbers of digests: held while making room
ROOM_LOCK_TRIES = 200  # every 10 ms; making room takes one listing of the folder


class SpooledFile(Struct, frozen=True):
    """One file of the folder."""

    path: Path
    digest: str
    size: int  # its length in bytes, which the cap counts
    used: int  # bytes on disk
    written: float  # seconds since 1970
    in_use: bool


class SpoolFolder:
    """The files of one folder, which is made if it is missing (0700, files 0600). Methods raise OSError."""

    def __init__(self, path: Path, cap: int) -> None:
        self.path = path.absolute()
        self._cap = cap

    def prepare(self) -> None:
        """Make the folder if it is missing, and check that files can be made there."""
        make_folder(self.path)
        lock = take_lock(self.path / LOCK_FILE, ROOM_LOCK + 1)
        if lock is not None:
            lock.release()

    def lock(self, digest: str) -> BlobLock | None:
        """The right to use the digest's file; None when another copy has it."""
        return take_lock(self.path / LOCK_FILE, number_of(digest))

    def open(self, digest: str, size: int) -> SpoolFile | None:
        """The file of a blob whose lock the caller holds; None when there is no room for it."""
        path = self.path / _name(digest)
        descriptor = self._open(path)
        kept = None
        try:
            kept = SpoolFile.open(descriptor, size, self._cap)
            if kept is None:
                os.ftruncate(descriptor, 0)
                kept = self._create(descriptor, size)
            return kept
        finally:
            if kept is None:
                os.close(descriptor)
                self.remove(digest)

    def remove(self, digest: str) -> None:
        """Remove the file of a blob whose lock the caller holds."""
        (self.path / _name(digest)).unlink(missing_ok=True)

    def files(self) -> list[SpooledFile]:
        """The files here, the last written at the end."""
        return sorted(self._files(), key=lambda file: file.written)

    def prune(self, before: float) -> Pruned:
        """Remove files written before `before` (seconds since 1970), except those of running copies."""
        return self._remove([file for file in self.files() if file.written < before])

    # -- room --------------------------------------------------------------------------------------------

    def _create(self, descriptor: int, size: int) -> SpoolFile | None:
        with self._lock_room():
            needed = file_size(size)
            files = self.files()
            left = self._cap - sum(file.size for file in files)
            for file in files:
                if left >= needed:
                    break
                if file.size and self._remove([file]).removed:
                    left += file.size
            free = os.fstatvfs(descriptor)
            room = room_in(min(left, free.f_bavail * free.f_frsize // 2), size)
            if room < min(size, LEAST_ROOM):
                return None
            return SpoolFile.create(descriptor, size, room)

    def _lock_room(self) -> BlobLock:
        for _ in range(ROOM_LOCK_TRIES):
            lock = take_lock(self.path / LOCK_FILE, ROOM_LOCK)
            if lock is not None:
                return lock
            time.sleep(0.01)
        raise TimeoutError("another process keeps it locked")

    def _files(self) -> Iterator[SpooledFile]:
        for path in self.path.glob(f"*{SUFFIX}"):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                digest = path.name.removesuffix(SUFFIX).replace("-", ":", 1)
                in_use = is_taken(self.path / LOCK_FILE, number_of(digest))
                yield SpooledFile(path, digest, found.st_size, found.st_blocks * 512, found.st_mtime, in_use)

    def _remove(self, files: list[SpooledFile]) -> Pruned:
        return remove_unused(
            files, lambda file: self.lock(file.digest), lambda file: file.path.unlink(missing_ok=True)
        )

    @staticmethod
    def _open(path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(descriptor)
            raise PermissionError(f"{path.name} is not a regular file of this user")
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        return descriptor


def open_existing(path: Path) -> SpoolFolder | None:
    """The spool at `path`, to list and prune it; None when it has never been one."""
    return SpoolFolder(path, 0) if (path / LOCK_FILE).exists() else None


def unavailable(path: Path, error: OSError) -> SpoolUnavailable:
    """The error to report for `error`."""
    return SpoolUnavailable(
        f"the spool {path} cannot be used: {reason_of(error)}",
        advice=Advice("choose-spool"),
    )


def no_room(path: Path, digest: str, room: int, size: int) -> SpoolUnavailable:
    """The warning about a blob that is kept in part, or not at all."""
    part = f"the first {room} of the" if room else "none of the"
    return SpoolUnavailable(
        f"the spool {path} has room for {part} {size} bytes of {digest}",
        advice=Advice("raise-spool-size"),
    )


def _name(digest: str) -> str:
    return digest.replace(":", "-") + SUFFIX
