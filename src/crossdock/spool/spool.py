"""What a copy asks of the spool. Nothing here fails a copy: at the first trouble the spool is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossdock.errors import SpoolUnavailable
from crossdock.locks import BlobLock
from crossdock.spool.file import SpoolFile
from crossdock.spool.folder import EXPIRY_S, SpoolFolder, no_room, unavailable

T = TypeVar("T")


class Spool:
    """The spool of one run of copies, of at most `cap` bytes in `folder`.

    `warn` is called with what is wrong, once, and with each blob that there is no room for, in the thread of
    the call that found it. Calls block on the disk; blobs may be used from several threads, each from one at
    a time. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        cap: int,
        warn: Callable[[SpoolUnavailable], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = SpoolFolder(folder, cap)
        self._warn = warn
        self._clock = clock
        self._guard = threading.Lock()
        self._is_on = True
        self._is_prepared = False

    def claim(self, digest: str, size: int) -> SpooledBlob | None:
        """A blob's bytes for this copy alone; None: there is no room, another copy has it, or it is off."""
        self.open()
        return self._attempt(lambda: self._claim(digest, size))

    def open(self) -> None:
        """Make the folder and remove what is too old, to find out whether it can be used."""
        with self._guard:
            if not self._is_prepared:
                self._is_prepared = True
                self._attempt(self._prepare)

    def give_up(self, error: OSError) -> None:
        """Take no more blobs; those that are open go on."""
        if self._is_on:
            self._is_on = False
            self._warn(unavailable(self._folder.path, error))

    def _attempt(self, action: Callable[[], T]) -> T | None:
        if not self._is_on:
            return None
        try:
            return action()
        except OSError as error:
            self.give_up(error)
            return None

    def _prepare(self) -> None:
        self._folder.prepare()
        self._folder.prune(self._clock() - EXPIRY_S)

    def _claim(self, digest: str, size: int) -> SpooledBlob | None:
        lock = self._folder.lock(digest)
        if lock is None:
            return None
        try:
            kept = self._folder.open(digest, size)
        except BaseException:
            lock.release()
            raise
        if kept is None or kept.room < size:
            room = 0 if kept is None else kept.room
            self._warn(no_room(self._folder.path, digest, room, size))
        if kept is None:
            lock.release()
            return None
        return SpooledBlob(self, self._folder, lock, digest, kept)


class SpooledBlob:
    """What is kept of one blob, which nobody else uses until `close`. Raises nothing.

    After trouble it has nothing and takes nothing, and its file is gone: a full disk gets its room back.
    """

    def __init__(
        self, spool: Spool, folder: SpoolFolder, lock: BlobLock, digest: str, kept: SpoolFile
    ) -> None:
        self._spool = spool
        self._folder = folder
        self._lock = lock
        self._digest = digest
        self._file: SpoolFile | None = kept
        self._size = kept.size

    @property
    def kept(self) -> int:
        """Bytes that seem to be here."""
        return self._file.kept if self._file is not None else 0

    @property
    def room(self) -> int:
        """Bytes before this offset can be kept."""
        return self._file.room if self._file is not None else 0

    def has(self, offset: int) -> bool:
        """Whether the byte at `offset` seems to be here."""
        return self._file is not None and self._file.has(offset)

    def next_kept(self, offset: int) -> int:
        """The first offset at or after `offset` that seems to be here; the blob's size when none is."""
        return self._file.next_kept(offset) if self._file is not None else self._size

    def read(self, offset: int, into: memoryview) -> int:
        """As `SpoolFile.read`."""
        return self._do(lambda file: file.read(offset, into)) or 0

    def write(self, offset: int, data: memoryview) -> None:
        """As `SpoolFile.write`."""
        self._do(lambda file: file.write(offset, data))

    def clear(self) -> None:
        """What is here is wrong, or must be doubted: keep nothing of it."""
        self._do(lambda file: file.clear())

    def forget(self) -> None:
        """The target has the blob: remove the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._remove()

    def close(self) -> None:
        """Let others have the file; it stays as it is. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def _do(self, action: Callable[[SpoolFile], T]) -> T | None:
        if self._file is None:
            return None
        try:
            return action(self._file)
        except OSError as error:
            self._spool.give_up(error)
            self.forget()
            return None

    def _remove(self) -> None:
        try:
            self._folder.remove(self._digest)
        except OSError as error:
            self._spool.give_up(error)
