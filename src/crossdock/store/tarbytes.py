"""The bytes of a tar file by position: of a plain file, a gzip file, or of stdin. Blocking.

A gzip file is never unpacked: while it is read, the state of the decompressor is kept every so many bytes,
and reading at a position begins at the nearest state before it. What comes through a pipe cannot be read
twice and is kept in an unnamed temporary file.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
import threading
import zlib
from pathlib import Path

from crossdock.errors import Advice, ContentError, StoreError
from crossdock.oci.archivereference import STREAM
from crossdock.store.filebody import FileBody
from crossdock.store.files import damaged, explain, explained, refuse_abandoned, wait_for, write_all
from crossdock.store.parts import PartsBytes, first_of_parts

PIECE = 1 << 20  # bytes that are read, or come out of a decompressor, at a time
MOST_STATES = 256  # of the decompressor, some 50 KiB each
FIRST_SPACING = 4 << 20  # bytes between them; doubled when there are too many
_INSTEAD_OF_TMP = "/var/tmp"  # /tmp is in memory on many systems

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_OTHER_COMPRESSIONS = {
    ZSTD_MAGIC: "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}


def open_bytes(path: str) -> AnyBytes:
    """The bytes of the tar file at `path`, which may be in parts, or from stdin.

    Raises `StoreError`, `ContentError`.
    """
    if path != STREAM and (whole := first_of_parts(path)) is not None:
        return PartsBytes(whole)
    shown = Path("stdin") if path == STREAM else Path(path)
    with explained("cannot read", shown):
        # A named pipe without a writer would block the thread in open(2), where it cannot be abandoned.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.dup(0) if path == STREAM else os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            advice = Advice("check-folder", "a folder is a layout: oci:DIR")
            raise StoreError(f"{shown} is a folder, and an archive is a file", advice=advice)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # a character device may have no end: /dev/zero
            raise StoreError(f"{shown} is a device, and an archive is a file or comes through a pipe")
        with explained("cannot read", shown):
            if not stat.S_ISREG(mode):
                descriptor = _spooled(descriptor)
            begin = os.pread(descriptor, 6, 0)
    except BaseException:
        os.close(descriptor)
        raise
    if begin.startswith(GZIP_MAGIC):
        return GzipBytes(descriptor, shown)
    for magic, name in _OTHER_COMPRESSIONS.items():
        if begin.startswith(magic):
            os.close(descriptor)
            raise ContentError(
                f"{shown} is compressed with {name}; plain and gzip archives can be read",
                advice=Advice("decompress", f"decompress it with {name} -d first"),
            )
    return PlainBytes(descriptor, shown)


def _spooled(source: int) -> int:
    """A temporary file with all bytes of `source`, which is closed."""
    folder = tempfile.gettempdir()  # TMPDIR decides
    if folder == "/tmp" and os.access(_INSTEAD_OF_TMP, os.W_OK):
        folder = _INSTEAD_OF_TMP
    with tempfile.TemporaryFile(dir=folder) as file:
        while piece := _read_pipe(source):
            write_all(file.fileno(), memoryview(piece))
        kept = os.dup(file.fileno())
    os.close(source)
    return kept


def _read_pipe(descriptor: int) -> bytes:
    """The next bytes of the pipe, once there are any; nothing at its end."""
    wait_for(descriptor, select.POLLIN)
    return os.read(descriptor, PIECE)


class PlainBytes:
    """A file that holds the bytes as they are."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self.descriptor = descriptor
        self._end = os.fstat(descriptor).st_size

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on, fewer only at the end. Raises `StoreError`, `ContentError`."""
        with explained("cannot read", self.path):
            return os.pread(self.descriptor, size, offset)

    def end(self) -> int | None:
        """The number of bytes, if it is known without reading them."""
        return self._end

    def body(self, start: int, stop: int, base: int) -> FileBody:
        """The range of a blob that begins at byte `base`. Raises `StoreError`."""
        with explained("cannot read", self.path):
            descriptor = os.dup(self.descriptor)
        return FileBody(descriptor, self.path, start, stop, base=base)

    def check(self) -> None:
        """Compare the bytes with their checksums, if there are any. Raises `ContentError`, `StoreError`."""

    def close(self) -> None:
        """Give the file back."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class GzipCursor:
    """Decompresses from one state on, in order."""

    def __init__(self, descriptor: int, path: Path, state: _State | None = None) -> None:
        self._descriptor = descriptor
        self._path = path
        self.position = state.position if state else 0
        self._read_at = state.read_at if state else 0
        self._inflater = state.inflater.copy() if state else zlib.decompressobj(wbits=31)

    def state(self) -> _State:
        """The present state."""
        return _State(self.position, self._read_at, self._inflater.copy())

    def read(self, size: int) -> bytes:
        """The next bytes, up to `size`; none at the end. Raises `StoreError`, `ContentError`."""
        while True:
            inflater = self._inflater
            if inflater.eof:
                rest = inflater.unused_data or self._fill()
                if not rest.startswith(GZIP_MAGIC):  # zeros may follow, or nothing
                    return b""
                self._inflater, packed = zlib.decompressobj(wbits=31), rest
            else:
                packed = inflater.unconsumed_tail or self._fill()
            try:
                found = self._inflater.decompress(packed, size)
            except zlib.error as error:
                raise self._damaged(f"its gzip data is wrong ({error})") from None
            if found:
                self.position += len(found)
                return found
            if not packed and not self._inflater.eof:
                raise self._damaged(f"its gzip data ends early, after {self._read_at} bytes")

    def skip_to(self, position: int) -> None:
        """Decompress and drop what comes before `position`."""
        while self.position < position and self.read(min(PIECE, position - self.position)):
            pass

    def _fill(self) -> bytes:
        try:
            refuse_abandoned()
            packed = os.pread(self._descriptor, PIECE, self._read_at)
        except OSError as error:
            raise explain("cannot read", self._path, error) from error
        self._read_at += len(packed)
        return packed

    def _damaged(self, reason: str) -> ContentError:
        return damaged(self._path, reason)


class _State:
    """A place in a gzip file where decompression can begin."""

    def __init__(self, position: int, read_at: int, inflater: zlib._Decompress) -> None:
        self.position = position
        self.read_at = read_at
        self.inflater = inflater


class GzipBytes:
    """A gzip file, of one or several members."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.path = path
        self._descriptor = descriptor
        self._mutex = threading.Lock()
        self._states: list[_State] = []
        self._spacing = FIRST_SPACING
        self._cursor = GzipCursor(descriptor, path)  # continues where the last read ended

    def cursor(self, position: int) -> GzipCursor:
        """A decompressor of its own, at `position` or at the end before it."""
        with self._mutex:
            before = [state for state in self._states if state.position <= position]
            cursor = GzipCursor(self._descriptor, self.path, before[-1] if before else None)
        cursor.skip_to(position)
        return cursor

    def pread(self, size: int, offset: int) -> bytes:
        """As `PlainBytes.pread`."""
        with self._mutex:
            cursor = self._cursor
            if cursor.position > offset:
                before = [state for state in self._states if state.position <= offset]
                cursor = self._cursor = GzipCursor(
                    self._descriptor, self.path, before[-1] if before else None
                )
            while cursor.position < offset and cursor.read(min(PIECE, offset - cursor.position)):
                self._keep(cursor)
            found = bytearray()
            while len(found) < size and (piece := cursor.read(min(PIECE, size - len(found)))):
                found += piece
                self._keep(cursor)
            return bytes(found)

    def end(self) -> int | None:
        """As `PlainBytes.end`."""
        return None

    def check(self) -> None:
        """As `PlainBytes.check`: gzip's own sums are compared while it is read."""

    def close(self) -> None:
        """As `PlainBytes.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _keep(self, cursor: GzipCursor) -> None:
        last = self._states[-1].position if self._states else 0
        if cursor.position < last + self._spacing:
            return
        self._states.append(cursor.state())
        if len(self._states) > MOST_STATES:
            self._states = self._states[1::2]
            self._spacing *= 2


AnyBytes = PlainBytes | GzipBytes | PartsBytes
"""The bytes of a tar file that was opened. Safe to share between threads."""
