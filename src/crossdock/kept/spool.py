"""The spool of a run of copies: source bytes of large blobs, for targets that cannot resume an upload."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from crossdock.errors import SpoolUnavailable
from crossdock.kept.keeper import EXPIRY_S, Keeper, claimed
from crossdock.kept.spoolfile import SpoolFile
from crossdock.kept.spoolfolder import SpoolFolder, no_room, unavailable
from crossdock.locks import BlobLock

T = TypeVar("T")


class Spool(Keeper):
    """The spool of at most `cap` bytes in `folder`.

    Blobs may be used from several threads, each from one at a time. `clock` gives seconds since 1970.
    """

    def __init__(self, folder: Path, cap: int, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._folder = SpoolFolder(folder, cap)
        self._clock = clock

    def claim(self, digest: str, size: int) -> SpooledBlob | None:
        """A blob's bytes, for this copy alone; None: no room, another copy has them, or the spool is off."""
        self.open()
        return self.attempt(lambda: self._claim(digest, size))

    def _open(self) -> None:
        self._folder.prepare()
        self._folder.prune(self._clock() - EXPIRY_S)

    def _claim(self, digest: str, size: int) -> SpooledBlob | None:
        def take(lock: BlobLock) -> SpooledBlob | None:
            file = self._folder.open(digest, size)
            room = 0 if file is None else file.room
            if room < size:
                self._troubles.append(no_room(self._folder.path, digest, room, size))
            return None if file is None else SpooledBlob(self, self._folder, lock, digest, file)

        return claimed(self._folder.lock(digest), take)

    def _explain(self, error: OSError) -> SpoolUnavailable:
        return unavailable(self._folder.path, error)


class SpooledBlob:
    """The kept bytes of one blob, which no other copy uses until `close`. Methods raise nothing.

    Threads may use it at once: the copies to several targets, of which one may read what another writes.
    After trouble it is empty and keeps nothing, and its file is removed: a full disk gets its room back.
    """

    def __init__(
        self, spool: Spool, folder: SpoolFolder, lock: BlobLock, digest: str, file: SpoolFile
    ) -> None:
        self._spool = spool
        self._folder = folder
        self._lock = lock
        self._digest = digest
        self._file: SpoolFile | None = file
        self._size = file.size
        self._guard = threading.Lock()

    @property
    def kept(self) -> int:
        """Bytes that seem to be here."""
        file = self._file
        return file.kept if file is not None else 0

    @property
    def room(self) -> int:
        """Bytes before this offset can be kept."""
        file = self._file
        return file.room if file is not None else 0

    def has(self, offset: int) -> bool:
        """Whether the byte at `offset` seems to be here. Does not block."""
        file = self._file
        return file is not None and file.has(offset)

    def next_kept(self, offset: int) -> int:
        """The first offset at or after `offset` that seems to be here, or the blob's size. Does not block."""
        file = self._file
        return file.next_kept(offset) if file is not None else self._size

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into` from `offset`, a multiple of `BLOCK`; returns how many bytes are here and intact."""
        return self._attempt(lambda file: file.read(offset, into)) or 0

    def write(self, offset: int, data: memoryview) -> None:
        """Keep the bytes from `offset` on, as far as there is room; bytes of a block in order."""
        self._attempt(lambda file: file.write(offset, data))

    def clear(self) -> None:
        """Keep nothing: the bytes are wrong, or must be doubted."""
        self._attempt(lambda file: file.clear())

    def forget(self) -> None:
        """The target has the blob: remove the file."""
        with self._guard:
            if self._close_file():
                try:
                    self._folder.remove(self._digest)
                except OSError as error:
                    self._spool.give_up(error)

    def close(self) -> None:
        """Let other copies use the file; it stays as it is. Safe to call twice. Does not block."""
        with self._guard:
            self._close_file()
        self._lock.release()

    def _close_file(self) -> bool:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None

    def _attempt(self, action: Callable[[SpoolFile], T]) -> T | None:
        with self._guard:
            if self._file is None:
                return None
            try:
                return action(self._file)
            except OSError as error:
                self._spool.give_up(error)
        self.forget()
        return None
