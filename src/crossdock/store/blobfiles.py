"""The ``blobs`` folder of an OCI image layout: files named by their digests. Blocking; call it in a thread.

Only a checked `Digest` becomes a path, so a name from the network cannot leave the folder. Symbolic
links are followed only while they stay inside the layout (`folder`): a foreign layout must not make a server
hand out other files of the machine.

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

from crossdock.errors import (
    Advice,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    StoreError,
)
from crossdock.oci.digest import Digest
from crossdock.store.files import explain, explained, write_all, write_pieces
from crossdock.store.folder import Folder

TEMPORARY_PREFIX = ".crossdock-upload-"


class BlobFiles:
    """Blobs under ``root/blobs``. ``root`` need not exist yet; reading then finds nothing."""

    def __init__(self, root: Path | Folder) -> None:
        self.folder = root if isinstance(root, Folder) else Folder(root)
        self.root = self.folder.path

    def path(self, digest: Digest) -> Path:
        """The path of the blob, there or not. For messages: access goes through `folder`."""
        return self.root.joinpath(*_parts(digest))

    def stat(self, digest: Digest) -> os.stat_result | None:
        """The stat result of the blob's file, None when there is none. Raises `StoreError`."""
        try:
            found = self.folder.stat(*_parts(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except StoreError:
            raise
        except OSError as error:
            raise explain("cannot look for", self.path(digest), error) from error
        return found if stat.S_ISREG(found.st_mode) else None

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when it is not there. Raises `StoreError`."""
        found = self.stat(digest)
        return None if found is None else found.st_size

    def open(self, digest: Digest, size: int | None = None) -> tuple[int, int]:
        """An open file descriptor for reading, which the caller closes, and the blob's bytes.

        With `size`, another length is a `SizeMismatch`. Raises `NotFound`, `StoreError`.
        """
        try:
            descriptor = self.folder.open(*_parts(digest))
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(digest) from None
        except StoreError:
            raise
        except OSError as error:
            raise explain("cannot read", self.path(digest), error) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise self._missing(digest)
        found = status.st_size
        if size is not None and found != size:
            os.close(descriptor)
            raise SizeMismatch(
                f"blob {digest} in {self.root} has {found} bytes, its descriptor says {size}",
                advice=Advice(
                    "recreate-layout",
                    "the layout is damaged: delete that file and copy the content into it again",
                ),
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
        return BlobWriter(self.folder)

    def adopt(self, source: BlobFiles, digest: Digest) -> bool:
        """Let the blob share the file of `source` (hard link); False when the file system will not."""
        name = digest.encoded
        try:
            with (
                source.folder.entered(*_parts(digest)[:-1]) as theirs,
                self.folder.entered(*_parts(digest)[:-1], create=True) as ours,
            ):
                os.link(name, name, src_dir_fd=theirs, dst_dir_fd=ours, follow_symlinks=False)
                if not stat.S_ISREG(os.stat(name, dir_fd=ours, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=ours)
                    return False
        except FileExistsError:
            return True
        except OSError:
            return False
        return True

    def store(self, folder: Folder, name: str, digest: Digest) -> None:
        """Make the file `name` of `folder` the blob. Raises OSError, `StoreError`."""
        with (
            folder.entered() as source,
            self.folder.entered(*_parts(digest)[:-1], create=True) as target,
        ):
            os.replace(name, digest.encoded, src_dir_fd=source, dst_dir_fd=target)

    def remove(self, digest: Digest) -> bool:
        """Delete the blob's file; False when there was none. Raises `StoreError`."""
        if self.size(digest) is None:
            return False
        with explained("cannot delete", self.path(digest)), contextlib.suppress(FileNotFoundError):
            with self.folder.entered(*_parts(digest)[:-1]) as folder:
                os.unlink(digest.encoded, dir_fd=folder)
            return True
        return False

    def _missing(self, digest: Digest) -> NotFound:
        return NotFound(f"blob {digest} is not in {self.root}")


def _parts(digest: Digest) -> tuple[str, str, str]:
    return "blobs", digest.algorithm, digest.encoded


class BlobWriter:
    """A temporary file on its way to become a blob. Ends in `commit` or `discard`; both may be repeated."""

    def __init__(self, folder: Folder) -> None:
        self.size = 0  # bytes written
        self._descriptor = -1
        self._committed = False
        self._folder = folder
        with explained("cannot write in", folder.path):
            self._name, self._descriptor = create_locked(folder)
        self.path = folder.path / self._name

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
            files.store(self._folder, self._name, digest)
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
            with contextlib.suppress(OSError), self._folder.entered() as folder:
                os.unlink(self._name, dir_fd=folder)
            self._close()

    def reader(self) -> int:
        """A second descriptor on the file, for reading back what was written; the caller closes it."""
        return self._folder.open(self._name)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def _fail(self, operation: str, error: OSError) -> None:
        self.discard()
        raise explain(operation, self.path, error) from error


def remove_stale(folder: Folder) -> int:
    """Delete the temporary files in `folder` whose writer is gone; how many there were. Never raises."""
    removed = 0
    with contextlib.suppress(OSError), folder.entered() as within:
        for name in _temporary_names(within):
            with contextlib.suppress(OSError):
                flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(name, flags, dir_fd=within)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=within)
                    removed += 1
                finally:
                    os.close(descriptor)
    return removed


def _temporary_names(folder: int) -> list[str]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return [name for name in os.listdir(descriptor) if name.startswith(TEMPORARY_PREFIX)]
    finally:
        os.close(descriptor)


def create_locked(folder: Folder) -> tuple[str, int]:
    """A new file that only this process writes, locked so that others know it is alive."""
    for _ in range(8):
        name = f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        descriptor = folder.open(name, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)  # `remove_stale` got it between the two calls and deletes it
            continue
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                os.close(descriptor)
                raise
            return name, descriptor  # no locks here, so `remove_stale` deletes nothing either
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
