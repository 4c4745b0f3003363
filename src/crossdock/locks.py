"""Locks between processes, one for each number: that of a blob on its way locks the blob's row or file.

Open file description locks (fcntl(2), ``F_OFD_SETLK``) on single bytes of one file: the kernel releases them
when their holder dies in whatever way, so no lock is ever stale and nothing has to be removed. Two copies in
one process exclude each other as well, since each lock has a description of its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path

# struct flock with 64-bit offsets: type, whence, start, length, pid, which must be 0; then its padding.
_FLOCK = struct.Struct("@hhqqi0q")


def number_of(*words: str) -> int:
    """A number of 62 bits for the words; equal words have equal numbers."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "big") >> 2


class BlobLock:
    """Holds one byte of the lock file until `release`, or to the end of a ``with`` block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> BlobLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def take_lock(path: Path, number: int) -> BlobLock | None:
    """The lock of byte `number` of the file; None when it is taken. Does not wait. Raises OSError."""
    descriptor = _open(path)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, number))
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return BlobLock(descriptor)


def is_taken(path: Path, number: int) -> bool:
    """Whether the lock is taken; looks without taking it. Raises OSError."""
    descriptor = _open(path)
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, number))
    finally:
        os.close(descriptor)
    kind: int = _FLOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def _flock(kind: int, number: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, number, 1, 0)
