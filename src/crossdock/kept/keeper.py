"""The parts that journal and spool share: opening, claiming, reporting trouble, removing old entries."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct

from crossdock.errors import StoreError

if TYPE_CHECKING:  # a protocol would add about 0.1 ms to every start
    from crossdock.locks import BlobLock

    class Lock(Protocol):
        """The right to one entry."""

        def release(self) -> None:
            """Give it back. Safe to call twice."""


T = TypeVar("T")
L = TypeVar("L", bound="Lock")

EXPIRY_S = 7 * 24 * 3600.0  # distribution removes sessions after 168 h (configuration, uploadpurging.age)


class Keeper:
    """Something on disk that outlives a run. Its methods block on the disk, and raise nothing.

    The first OSError switches it off. `open` opens it again `retry_after_s` seconds later.
    """

    def __init__(self, retry_after_s: float = math.inf) -> None:
        self.is_open = False
        self._retry_after_s = retry_after_s
        self._retry_at = -math.inf  # `time.monotonic`
        self._guard = threading.Lock()
        self._troubles: list[StoreError] = []

    def open(self) -> None:
        """Open it now, if it is not, to find out whether it can be used."""
        with self._guard:
            if not self.is_open and time.monotonic() >= self._retry_at:
                try:
                    self._open()
                    self.is_open = True
                except OSError as error:
                    self._switch_off(error)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The result of `action`; None when this is switched off, or fails now."""
        if not self.is_open:
            return None
        try:
            return action()
        except OSError as error:
            self.give_up(error)
            return None

    def give_up(self, error: OSError) -> None:
        """Switch off because of `error`, which is reported, unless another error has done so."""
        if self.is_open:
            self._switch_off(error)

    def take_troubles(self) -> list[StoreError]:
        """The errors since the last call. Does not block."""
        troubles, self._troubles = self._troubles, []
        return troubles

    def close(self) -> None:
        """Close it for good; what it keeps stays on disk. Safe to call twice."""
        self.is_open = False
        self._retry_at = math.inf
        self._release()

    def _switch_off(self, error: OSError) -> None:
        self.is_open = False
        self._retry_at = time.monotonic() + self._retry_after_s
        self._troubles.append(self._explain(error))
        self._release()

    def _open(self) -> None:
        raise NotImplementedError

    def _explain(self, error: OSError) -> StoreError:
        raise NotImplementedError

    def _release(self) -> None:
        """Give descriptors back; safe to call twice."""


class Pruned(Struct, frozen=True):
    """Numbers of entries."""

    removed: int
    in_use: int  # old enough to be removed, but a running copy uses them
    finished: int = 0  # lines about finished content, of a journal only


def claimed(lock: L | None, take: Callable[[L], T | None]) -> T | None:
    """The result of `take`, which then owns the lock; the lock is released if that is None or an error.

    None when `lock` is None, because another copy has it.
    """
    if lock is None:
        return None
    taken = None
    try:
        taken = take(lock)
    finally:
        if taken is None:
            lock.release()
    return taken


def remove_unused(
    entries: Iterable[T], lock: Callable[[T], BlobLock | None], remove: Callable[[T], object]
) -> Pruned:
    """Remove each entry that no copy has locked."""
    removed = in_use = 0
    for entry in entries:
        held = lock(entry)
        if held is None:
            in_use += 1
            continue
        with held:
            remove(entry)
        removed += 1
    return Pruned(removed, in_use)


def make_folder(path: Path) -> None:
    """Make the folder and its missing parents, for their owner alone. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def reason_of(error: OSError) -> str:
    """The system's text for an error."""
    return os.strerror(error.errno) if error.errno else str(error)
