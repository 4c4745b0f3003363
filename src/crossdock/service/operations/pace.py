"""Measures the pace of an import: one that waits for a slow registry yields its place, and eventually fails.

It measures work done, not activity: a registry that sends a few bytes per second delays an import as much as
a silent one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossdock.events import BlobDone, BlobProgress, Event, ManifestDone

STEP = 16 << 10  # bytes added for each blob or manifest, besides its size, once the target has it
LEAST = 16 << 10  # bytes of work per second; even a copy of one small image exceeds this
PATIENCE_S = 10.0  # the period over which the pace is measured
STALL_WORK = 32 << 20  # bytes of work …
STALL_S = 3600.0  # … within this: longer than the engine's own bounds, six attempts at a commit of 600 s


class Work:
    """Bytes of work that an import has done. A listener of the engine's events."""

    def __init__(self) -> None:
        self.done = 0
        self._sent: dict[str, int] = {}  # of blobs in flight; repeated bytes do not count

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if type(event) is BlobProgress:
            before = self._sent.get(event.digest, 0)
            if event.sent > before:
                self.done += event.sent - before
                self._sent[event.digest] = event.sent
        elif type(event) is BlobDone:
            self.done += STEP
            self._sent.pop(event.digest, None)
        elif type(event) is ManifestDone:
            self.done += STEP


class Pace:
    """Checks `work` every `PATIENCE_S`; calls `slow` while it is too slow, and `moved` when it recovers.

    `slow` gets the work done in the period. For one event loop, in a ``with`` block, after which neither is
    called.
    """

    def __init__(self, work: Work, slow: Callable[[int], None], moved: Callable[[], None]) -> None:
        self._work = work
        self._slow, self._moved = slow, moved
        self._is_slow = False
        self._before = work.done
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Pace:
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = self._loop.call_later(PATIENCE_S, self._check)

    def _check(self) -> None:
        done, self._before = self._work.done - self._before, self._work.done
        is_slow = done < LEAST * PATIENCE_S
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            if is_slow:
                self._slow(done)
            else:
                self._moved()
        self._wait()
