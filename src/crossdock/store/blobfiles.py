"""The ``blobs`` folder of an OCI image layout: files named by what they hold. Blocking; call it in a thread.

Only a checked `Digest` becomes a path, so a name from the network cannot leave the folder. Symbolic
links are followed only while they stay inside the layout: a foreign layout must not make a server hand
out other files of the machine.

A blob is written to a temporary file in the layout (same file system, so the rename is one step) and gets
its name when it is complete. Its writer holds a lock on the temporary file; one that is not locked
belongs to a dead process and is removed by the next writer (`remove_stale`). A file without a digest for
a name stays out of ``blobs``: other tools take every name there for content.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

from crossdock.errors import LimitExceeded, NotFound, SizeMismatch, StoreError
from crossdock.oci.digest import Digest
from crossdock.store.files import explain, write_all, write_pieces

TEMPORARY_PREFIX = ".crossdock-upload-"


class BlobFiles:
    """Blobs under ``root/blobs``. ``root`` need not exist yet; reading then finds nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: set[str] = set()  # algorithms whose folder was found to be inside root

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.root / "blobs" / digest.algorithm / digest.encoded

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when it is not there. Raises `StoreError`."""
        path = self.path(digest)
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) or digest.algorithm not in self._known:
                self._check_inside(path)
                found = path.stat()
                self._known.add(digest.algorithm)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except StoreError:
            raise
        except OSError as error:
            raise explain("cannot look for", path, error) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, digest: Digest, size: int | None = None) -> tuple[int, int]:
        """An open file descriptor for reading, which the caller closes, and the blob's bytes.

        With `size`, another length is a `SizeMismatch`. Raises `NotFound`, `StoreError`.
        """
        path = self.path(digest)
        if self.size(digest) is None:
            raise NotFound(f"blob {digest} is not in {self.root}")
        try:
            # O_NONBLOCK: a named pipe put there must not hang the copy.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise explain("cannot read", path, error) from error
        found = os.fstat(descriptor).st_size
        if size is not None and found != size:
            os.close(descriptor)
            raise SizeMismatch(
                f"blob {digest} in {self.root} has {found} bytes, its descriptor says {size}",
                hint="the layout is damaged: delete that file and copy the content into it again",
                expected=size,
                received=found,
            )
        return descriptor, found

    def read(self, digest: Digest, limit: int) -> bytes:
        """A small blob as it is on disk, unverified. Raises `NotFound`, `LimitExceeded`, `StoreError`."""
        descriptor, size = self.open(digest)
        try:
            if size > limit:
                raise LimitExceeded(
                    f"{digest} in {self.root} has {size} bytes, more than the limit of {limit}"
                )
            data = bytearray()
            while piece := os.pread(descriptor, size + 1 - len(data), len(data)):
                data += piece
        except OSError as error:
            raise explain("cannot read", self.path(digest), error) from error
        finally:
            os.close(descriptor)
        return bytes(data)

    def writer(self) -> BlobWriter:
        """A new temporary file in the layout. Raises `StoreError`."""
        return BlobWriter(self.root)

    def adopt(self, source: Path, digest: Digest) -> bool:
        """Let the blob share the file at `source` (hard link); False when the file system will not."""
        path = self.path(digest)
        try:
            self.prepare(digest)
            os.link(os.path.realpath(source), path)
        except FileExistsError:
            return True
        except OSError:
            return False
        return True

    def prepare(self, digest: Digest) -> None:
        """Make sure of the folder that the blob's file goes to. Raises OSError, `StoreError`."""
        path = self.path(digest)
        if digest.algorithm not in self._known:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._check_inside(path.parent)
            self._known.add(digest.algorithm)

    def remove(self, digest: Digest) -> bool:
        """Delete the blob's file; False when there was none. Raises `StoreError`."""
        if self.size(digest) is None:
            return False
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise explain("cannot delete", self.path(digest), error) from error
        return True

    def _check_inside(self, path: Path) -> None:
        home = os.path.realpath(self.root)
        real = os.path.realpath(path)
        if os.path.commonpath((home, real)) != home:
            raise StoreError(
                f"{path} leads out of the layout, to {real}",
                hint="copy the layout with its links resolved (cp -rL) and use the copy",
            )


class BlobWriter:
    """A temporary file on its way to become a blob. Ends in `commit` or `discard`; both may be repeated."""

    def __init__(self, folder: Path) -> None:
        self.size = 0  # bytes written
        self._descriptor = -1
        self._committed = False
        try:
            self.path, self._descriptor = _create_locked(folder)
        except OSError as error:
            raise explain("cannot write in", folder, error) from error

    def write(self, data: memoryview) -> None:
        """Append `data`. On an error the file is gone and `StoreError` raised."""
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            self._fail("cannot write", error)
        self.size += len(data)

    def write_pieces(self, pieces: list[bytes]) -> None:
        """Append `pieces` one after the other without joining them. Errors as in `write`."""
        try:
            write_pieces(self._descriptor, pieces)
        except OSError as error:
            self._fail("cannot write", error)
        self.size += sum(map(len, pieces))

    def commit(self, files: BlobFiles, digest: Digest) -> None:
        """Give the file its name in `files`. The caller has verified size and digest.

        The bytes are on disk before the name is; the name itself is made durable by the index update
        that makes it reachable (`IndexFile.update`). On an error the file is gone, `StoreError` raised.
        """
        if self._committed:
            return
        if self._descriptor < 0:
            raise StoreError(f"{self.path} was given up before {digest} was whole")
        try:
            os.fdatasync(self._descriptor)
            files.prepare(digest)
            os.replace(self.path, files.path(digest))
        except OSError as error:
            if isinstance(error, StoreError):
                self.discard()
                raise
            self._fail(f"cannot store {digest} from", error)
        self._committed = True
        self._close()

    def discard(self) -> None:
        """Delete the file, unless it was committed. Never raises."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self._close()

    def reader(self) -> int:
        """A second descriptor on the file, for reading back what was written; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def _fail(self, operation: str, error: OSError) -> None:
        self.discard()
        raise explain(operation, self.path, error) from error


def remove_stale(folder: Path) -> int:
    """Delete the temporary files in `folder` whose writer is gone; how many there were. Never raises."""
    removed = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed += 1
                finally:
                    os.close(descriptor)
    return removed


def _create_locked(folder: Path) -> tuple[Path, int]:
    """A new file that only this process writes, locked so that others know it is alive."""
    for _ in range(8):
        path = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)  # `remove_stale` got it between the two calls and deletes it
            continue
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                os.close(descriptor)
                raise
            return path, descriptor  # no locks here, so `remove_stale` deletes nothing either
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
