"""Limits, pauses and uploads of the whole cluster, which client and workers ask the desk for (`desk`)."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from crossdock.activity import CURRENT
from crossdock.errors import JournalUnavailable
from crossdock.kept.uploads import SavedUpload, UploadKey
from crossdock.limits import Limits, Pauses, Throttle
from crossdock.options import CopyOptions

AHEAD_S = 0.02
"""Seconds whose share is taken at once, so that a high limit does not cost a message for each request."""


class Asks(Protocol):
    """Asks the desk."""

    async def __call__(self, operation: str, **values: Any) -> Any:
        """The result of the operation. Raises OSError when the scheduler cannot be reached."""


class DeskThrottle(Throttle):
    """A bucket of the whole cluster."""

    def __init__(self, per_second: float, kind: str, host: str, ask: Asks) -> None:
        super().__init__(per_second)
        self._names = {"kind": kind, "host": host, "per_second": per_second}
        self._ask = ask
        self._ahead = 0.0
        self._ahead_until = 0.0

    async def take(self, count: float) -> None:
        """As `Throttle.take`; one that is cancelled may have taken it."""
        async with self._turn:
            if self._ahead >= count and time.monotonic() < self._ahead_until:
                self._ahead -= count
                return
            ahead = float(int(self.per_second * AHEAD_S))
            activity = CURRENT.get()
            wait_s = await self._ask("take", count=count + ahead, **self._names)
            if isinstance(wait_s, float) and wait_s > 0:
                if activity is not None:
                    activity.limited += 1
                try:
                    await asyncio.sleep(wait_s)
                finally:
                    if activity is not None:
                        activity.limited -= 1
            self._ahead, self._ahead_until = ahead, time.monotonic() + AHEAD_S


class ClusterLimits(Limits):
    """The limits of a run on a cluster, where they hold for all workers and the client together."""

    def __init__(self, options: CopyOptions, ask: Asks) -> None:
        super().__init__(options)
        self._ask = ask
        self._telling: set[asyncio.Future[Any]] = set()
        self.pauses = self._pauses = Pauses(self._paused)

    def _new_throttle(self, kind: str, key: str, per_second: float) -> Throttle:
        return DeskThrottle(per_second, kind, key, self._ask)

    def _paused(self, host: str, seconds: float) -> None:
        telling = asyncio.ensure_future(self._ask("pause", host=host, seconds=seconds))
        self._telling.add(telling)
        telling.add_done_callback(self._told)

    def _told(self, telling: asyncio.Future[Any]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled():
            telling.exception()  # without the scheduler the run ends anyway

    async def follow(self, worker: str = "") -> None:
        """Take the pauses of others over until the run ends. Raises OSError without the scheduler."""
        seen: dict[str, float] = {}
        while True:
            news = await self._ask("news", seen=seen, worker=worker)
            if news["over"]:
                return
            for host, left_s in news["pauses"].items():
                if news["seen"][host] != seen.get(host):
                    self._pauses.close(host, left_s)
            seen = news["seen"]


# -- uploads -----------------------------------------------------------------------------------------------


def key_of(key: UploadKey) -> str:
    """The key under which the desk keeps an upload."""
    return f"{key.target}@{key.digest}"


class _Lock:
    """The right to one row, in this process."""

    def __init__(self, taken: set[UploadKey], key: UploadKey) -> None:
        self._taken, self._key = taken, key
        taken.add(key)

    def release(self) -> None:
        """Release it. Safe to call twice."""
        self._taken.discard(self._key)


class DeskRows:
    """The rows of a journal (`kept.journal.Rows`) at the desk, where other workers find them.

    The client writes them to disk. No two workers have the same repository at once.
    """

    def __init__(
        self, read: Callable[[str], bytes | None], write: Callable[[str, bytes | None], None]
    ) -> None:
        """`read` waits for the desk; `write` does not, and may be called in any thread."""
        self._read, self._write = read, write
        self._taken: set[UploadKey] = set()

    def lock(self, key: UploadKey) -> _Lock | None:
        """As `Rows.lock`."""
        return _Lock(self._taken, key) if key not in self._taken else None

    def read(self, key: UploadKey) -> SavedUpload | None:
        """As `Rows.read`."""
        try:
            row = self._read(key_of(key))
        except OSError as error:
            raise JournalUnavailable(f"the scheduler cannot be asked: {error}", busy=True) from error
        return pickle.loads(row) if row is not None else None

    def write(self, saved: SavedUpload) -> None:
        """As `Rows.write`."""
        self._write(key_of(saved.key), pickle.dumps(saved))

    def delete(self, key: UploadKey) -> None:
        """As `Rows.delete`."""
        self._write(key_of(key), None)

    def prune(self, before: float) -> None:
        """As `Rows.prune`."""

    def add_finished(self, *line: object) -> None:
        """As `Rows.add_finished`."""

    def close(self) -> None:
        """As `Rows.close`."""


async def unreachable(asking: Awaitable[Any]) -> Any:
    """The answer, with Dask's errors of a lost connection as OSError."""
    try:
        return await asking
    except OSError:
        raise
    except Exception as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
