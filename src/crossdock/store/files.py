"""Blocking file work: run off the event loop, explained when it fails, durable when it must be."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import stat
from collections.abc import Iterator
from pathlib import Path

from crossdock.errors import (
    Advice,
    ContentError,
    StoreError,
)
from crossdock.store.folder import Folder
from crossdock.tasks import is_abandoned

POLL = 0.2  # seconds between looks at whether a wait for a pipe was given up
MAX_WRITE = 8 << 20  # one write call: a cancelled copy waits for at most this much
IOV_MAX = 1024  # Linux refuses longer vectors (writev(2), limits.h)


@contextlib.contextmanager
def explained(operation: str, path: Path) -> Iterator[None]:
    """Raise an OSError of the block in the words of `explain`; a `StoreError` passes as it is."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise explain(operation, path, error) from error


def explain(operation: str, path: Path, error: OSError) -> StoreError:
    """`error` as one sentence that names the path, with advice."""
    code = error.errno
    reason = os.strerror(code) if code else str(error)
    advice = None
    if code in (errno.ENOSPC, errno.EDQUOT):
        advice = Advice("free-space", "free space there, or copy to another file system")
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = Advice("check-folder", "check who owns the folder and whether it may be written")
    elif code in (errno.EMFILE, errno.ENFILE):
        advice = Advice("raise-open-files", "raise the limit on open files (ulimit -n)")
    elif code == errno.ENOTDIR:
        advice = Advice("check-folder", "a file stands where a folder is needed")
    elif code == errno.EIO:
        advice = Advice("see-log", "the disk reports an error; see the kernel log")
    failed = StoreError(f"{operation} {path}: {reason}", advice=advice)
    failed.errno = code
    return failed


RECREATE = Advice("recreate-archive", "fetch or write the archive again")


def damaged(path: Path, reason: str) -> ContentError:
    """The error for an archive that cannot be understood."""
    return ContentError(f"{path} is damaged: {reason}", advice=RECREATE)


def read_file(folder: Folder, name: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file. Raises `StoreError` for anything else, and OSError.

    A layout may come from anyone: reading a named pipe or a device put there would wait for ever.
    """
    descriptor = folder.open(name)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(
                f"{folder.path / name} is not a regular file",
                advice=Advice("check-folder", "this is not an OCI image layout"),
            )
        return file.read(limit)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write every byte of `data`, however the kernel cuts it."""
    at = 0
    while at < len(data):
        at += os.write(descriptor, data[at : at + MAX_WRITE])


def write_pipe(descriptor: int, data: memoryview) -> None:
    """As `write_all`, to a pipe that does not block.

    Raises OSError, as `wait_for`.
    """
    at = 0
    while at < len(data):
        try:
            at += os.write(descriptor, data[at : at + MAX_WRITE])
        except BlockingIOError:
            wait_for(descriptor, select.POLLOUT)


def wait_for(descriptor: int, event: int) -> None:
    """Wait for an event of poll(2). Raises OSError with ``ECANCELED`` when the wait is given up."""
    poll = select.poll()
    poll.register(descriptor, event)
    while not poll.poll(POLL * 1000):
        refuse_abandoned()


def refuse_abandoned() -> None:
    """Raise OSError with ``ECANCELED`` when this thread's work was abandoned."""
    if is_abandoned():
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))


def write_pieces(descriptor: int, pieces: list[bytes]) -> None:
    """Write `pieces` one after the other without joining them."""
    for first in range(0, len(pieces), IOV_MAX):
        group = pieces[first : first + IOV_MAX]
        size = sum(map(len, group))
        written = os.writev(descriptor, group)
        if written < size:  # rare: a signal, or the disk is about to be full
            write_all(descriptor, memoryview(b"".join(group))[written:])


def sync_folder(folder: int) -> None:
    """Make the names in the open `folder` survive a crash; file systems that cannot are left in peace."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def replace_file(folder: int, name: str, data: bytes) -> None:
    """Put `data` at `name` in the open `folder` in one step: a reader sees the old file or the whole new one.

    The new file has the old one's permissions. A file that a crash leaves beside it is small, hidden and
    ignored. Raises OSError.
    """
    temporary = f".{name}-{os.getpid()}-{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        try:
            with contextlib.suppress(FileNotFoundError):
                old = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(old.st_mode):
                    os.fchmod(descriptor, old.st_mode & 0o777)
            write_all(descriptor, memoryview(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
