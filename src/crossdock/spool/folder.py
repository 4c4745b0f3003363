"""The folder of spooled blobs: whose file is whose, how much they may be, which are too old.

Rules:

1. A file is read and written by the one process that holds the lock of its digest; the kernel lets go of a
   lock when its process dies.
2. The files' lengths together are never over the cap, nor does a new one take more than half of what the file
   system has free. Lengths count, not blocks: a file is as long from the beginning as it can become.
3. Where there is no room, the files that nobody uses go, those last written first of all first. If that is
   not enough, the new file keeps the beginning of its blob.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from crossdock.errors import SpoolUnavailable
from crossdock.locks import BlobLock, is_taken, number_of, take_lock
from crossdock.spool.file import BLOCK, SpoolFile, file_size, room_in

SUFFIX = ".spool"
LOCK_FILE = "spool.lock"
EXPIRY_S = 7 * 24 * 3600.0  # as the journal's: who has not come back in a week does not
LEAST_ROOM = 16 * BLOCK  # a shorter beginning of a blob is not worth a file
ROOM_LOCK = 1 << 62  # above the numbers of digests: who makes room
ROOM_LOCK_TRIES = 200  # every 10 ms; making room takes one listing of the folder


class Kept(Struct, frozen=True):
    """One file of the folder."""

    path: Path
    digest: str
    size: int  # its length, bytes: what the cap counts
    used: int  # bytes on disk
    written: float  # seconds since 1970
    in_use: bool


class Pruned(Struct, frozen=True):
    """What `SpoolFolder.prune` did."""

    files: int
    bytes: int  # of their lengths
    in_use: int  # would have gone, but a running copy has them


class SpoolFolder:
    """The files of one folder, which is made when it is missing (0700, files 0600). Raises OSError."""

    def __init__(self, path: Path, cap: int) -> None:
        self.path = path.absolute()
        self._cap = cap

    def prepare(self) -> None:
        """Make the folder where it is missing, and see that files can be made there."""
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        lock = take_lock(self.path / LOCK_FILE, ROOM_LOCK + 1)
        if lock is not None:
            lock.release()

    def lock(self, digest: str) -> BlobLock | None:
        """The right to the digest's file; None when somebody has it."""
        return take_lock(self.path / LOCK_FILE, number_of(digest))

    def open(self, digest: str, size: int) -> SpoolFile | None:
        """The file of a blob whose lock the caller holds; None when there is no room for one."""
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

    def files(self) -> list[Kept]:
        """What is here, the last written at the end."""
        return sorted(self._files(), key=lambda kept: kept.written)

    def prune(self, before: float) -> Pruned:
        """Remove what was last written before `before` (seconds since 1970), unless a copy has it."""
        removed = count = in_use = 0
        for kept in self.files():
            if kept.written >= before:
                continue
            if self._remove_unused(kept):
                count += 1
                removed += kept.size
            else:
                in_use += 1
        return Pruned(count, removed, in_use)

    # -- room --------------------------------------------------------------------------------------------

    def _create(self, descriptor: int, size: int) -> SpoolFile | None:
        lock = self._lock_room()
        try:
            needed = file_size(size)
            files = self.files()
            left = self._cap - sum(kept.size for kept in files)
            for kept in files:
                if left >= needed:
                    break
                if kept.size and self._remove_unused(kept):
                    left += kept.size
            free = os.fstatvfs(descriptor)
            room = room_in(min(left, free.f_bavail * free.f_frsize // 2), size)
            if room < min(size, LEAST_ROOM):
                return None
            return SpoolFile.create(descriptor, size, room)
        finally:
            lock.release()

    def _lock_room(self) -> BlobLock:
        for _ in range(ROOM_LOCK_TRIES):
            lock = take_lock(self.path / LOCK_FILE, ROOM_LOCK)
            if lock is not None:
                return lock
            time.sleep(0.01)
        raise TimeoutError("another process keeps it locked")

    def _files(self) -> Iterator[Kept]:
        for path in self.path.glob(f"*{SUFFIX}"):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                in_use = is_taken(self.path / LOCK_FILE, number_of(_digest(path)))
                yield Kept(path, _digest(path), found.st_size, found.st_blocks * 512, found.st_mtime, in_use)

    def _remove_unused(self, kept: Kept) -> bool:
        lock = self.lock(kept.digest)
        if lock is None:
            return False
        try:
            kept.path.unlink(missing_ok=True)
        finally:
            lock.release()
        return True

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
    """The folder at `path`, to list and prune it; None when it has never been a spool."""
    return SpoolFolder(path, 0) if (path / LOCK_FILE).exists() else None


def unavailable(path: Path, error: OSError) -> SpoolUnavailable:
    """The error for a person."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return SpoolUnavailable(
        f"the spool {path} cannot be used: {reason}",
        hint="check who owns the folder and what is free there, or choose another with --spool",
    )


def no_room(path: Path, digest: str, room: int, size: int) -> SpoolUnavailable:
    """What a person should know of a blob that is kept in part, or not at all."""
    part = f"the first {room} of the" if room else "none of the"
    return SpoolUnavailable(
        f"the spool {path} has room for {part} {size} bytes of {digest}",
        hint="raise --spool-size, or free space there: half of what is free is used at most",
    )


def _name(digest: str) -> str:
    return digest.replace(":", "-") + SUFFIX


def _digest(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).replace("-", ":", 1)
