"""The desk of a run: a part of the scheduler's process that the client and all workers can ask.

Workers and client cannot reach each other, but each reaches the scheduler. So it holds everything that they
share: the buckets of the limits, the pauses that registries asked for, the progress of uploads, and the
workers' reports to the client. Requests name an operation of `Desk`; they hold plain values, as Dask's
messages do.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from crossdock.limits import BURST_S
from crossdock.rate import Bucket

HANDLER = "crossdock"
POLL_S = 5.0  # a request for news is answered after this time even if there are none
LOOK_S = 0.5
MOST_WAITING = 64 << 20  # bytes that wait for the client; workers wait before they report more
OVER = {"over": True}


class Desk:
    """The desk of one run, whose client is `client`. Only workers read the `settings`."""

    def __init__(self, scheduler: Any, client: str, settings: bytes, uploads: dict[str, bytes]) -> None:
        self._scheduler = scheduler
        self._client = client
        self._settings = settings
        self._uploads = uploads
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._pauses: dict[str, float] = {}  # hosts, and when they end, on the monotonic clock
        self._begun: set[int] = set()
        self._messages: list[bytes] = []
        self._changed: list[tuple[str, bytes | None]] = []  # uploads
        self._size = 0
        self._events: set[asyncio.Event] = set()
        self.is_over = False

    @property
    def is_left(self) -> bool:
        """Whether the client is gone."""
        return self._client not in self._scheduler.clients

    def _tell(self) -> None:
        for each in self._events:
            each.set()

    async def _wait(self, seconds: float) -> None:
        """Return after the next `_tell`, or after this time."""
        event = asyncio.Event()
        self._events.add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._events.discard(event)

    # -- of workers ----------------------------------------------------------------------------------------

    async def join(self) -> bytes:
        """The settings of the run."""
        return self._settings

    async def begin(self, attempt: int) -> bool:
        """Whether the attempt may begin. Dask repeats one that was lost, and the client makes a new one."""
        is_first = attempt not in self._begun
        self._begun.add(attempt)
        return is_first

    async def upload(self, key: str) -> bytes | None:
        """The saved progress of an upload."""
        return self._uploads.get(key)

    async def tell(self, messages: list[bytes], uploads: list[tuple[str, bytes | None]]) -> None:
        """Take messages for the client, and uploads that have changed (None: ended)."""
        for key, row in uploads:
            if row is None:
                self._uploads.pop(key, None)
            else:
                self._uploads[key] = row
        self._changed += uploads
        self._messages += messages
        self._size += sum(map(len, messages))
        self._tell()
        while self._size > MOST_WAITING and not self.is_over:
            await self._wait(LOOK_S)

    async def news(self, seen: dict[str, float], worker: str = "") -> dict[str, Any]:
        """The hosts that asked for a pause, with the seconds left; waits until there are others than `seen`.

        It waits `POLL_S` at most. The run is over for a client that is gone and for an unknown worker.
        """
        until = time.monotonic() + POLL_S
        while True:
            if self.is_left or (worker and worker not in self._scheduler.workers):
                return OVER
            now = time.monotonic()
            if self.is_over or self._pauses != seen or now >= until:
                left = {host: at - now for host, at in self._pauses.items() if at > now}
                return {"over": self.is_over, "seen": dict(self._pauses), "pauses": left}
            await self._wait(LOOK_S)

    # -- of both -------------------------------------------------------------------------------------------

    async def take(self, kind: str, host: str, per_second: float, count: float) -> float:
        """Take `count` of what a limit allows; the seconds to wait before it is used."""
        bucket = self._buckets.setdefault((kind, host), Bucket(per_second, BURST_S))
        now = time.monotonic()
        wait = bucket.wait(now)
        bucket.take(count, now)
        return wait

    async def pause(self, host: str, seconds: float) -> None:
        """A host asks for a pause."""
        at = time.monotonic() + seconds
        if at > self._pauses.get(host, 0.0):
            self._pauses[host] = at
            self._tell()

    # -- of the client -------------------------------------------------------------------------------------

    async def inbox(self, seconds: float) -> dict[str, Any]:
        """Reports of workers within these seconds, and the workers: threads, seconds of silence."""
        if not self._messages and not self._changed:
            await self._wait(seconds)
        messages, self._messages = self._messages, []
        uploads, self._changed = self._changed, []
        self._size = 0
        self._tell()
        return {"messages": messages, "uploads": uploads, "workers": workers_of(self._scheduler)}

    async def forget(self, worker: str) -> None:
        """Give a worker up, so that nothing waits for it."""
        await self._scheduler.remove_worker(worker, stimulus_id="crossdock-silent")

    async def end(self) -> None:
        """The run is over: workers end their tasks."""
        self.is_over = True
        self._tell()


class Desks:
    """The desks of a scheduler. A request about a run that is over or unknown is answered with `OVER`."""

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}

    def open(self, run: str, desk: Desk) -> None:
        """Add the desk of a run."""
        for name in [name for name, each in self._desks.items() if each.is_left]:
            del self._desks[name]
        self._desks[run] = desk

    async def answer(self, run: str, operation: str, values: dict[str, Any]) -> Any:
        """Dask's handler: the result of an operation of the run's desk."""
        desk = self._desks.get(run)
        if desk is None or operation.startswith("_"):
            return OVER
        if operation == "close":
            del self._desks[run]
            return None
        return await getattr(desk, operation)(**values)


def workers_of(dask_scheduler: Any) -> dict[str, tuple[int, float]]:
    """The threads of each worker, and the seconds of its silence."""
    now = time.time()
    return {
        address: (each.nthreads, now - each.last_seen) for address, each in dask_scheduler.workers.items()
    }


def open_desk(run: str, client: str, settings: bytes, uploads: dict[str, bytes], dask_scheduler: Any) -> None:
    """Open the desk of a run, in the scheduler's process."""
    desks = dask_scheduler.extensions.setdefault("crossdock", Desks())
    dask_scheduler.handlers[HANDLER] = desks.answer
    desks.open(run, Desk(dask_scheduler, client, settings, uploads))
