"""One timer for all connections of a client, so that reads and writes do not each need one."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Watched(Protocol):
    """An object whose waits can time out."""

    def check(self, now: float) -> None:
        """Give up if a wait has timed out at loop time `now`. Must not raise."""


class Watchdog:
    """Calls `check` on every registered object, several times within the shortest bound.

    The timer runs only while something is registered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: float) -> None:
        self._loop = loop
        self._interval = min(1.0, bound / 5)
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        """Check `watched` from now on."""
        self._watched.add(watched)
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._tick)

    def remove(self, watched: Watched) -> None:
        """Stop checking it. Safe to call if it is not registered."""
        self._watched.discard(watched)

    def stop(self) -> None:
        """Drop the timer and everything registered."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for watched in tuple(self._watched):
            watched.check(now)
        if self._watched:
            self._timer = self._loop.call_later(self._interval, self._tick)


class Pace:
    """The low-speed rule (R14): under `low_speed` bytes per second over `window` seconds of waiting for
    bytes.

    Time in which the receiver had no room does not count (`hold` to `release`). Based on samples, so a stall
    is found at most one sampling interval late.
    """

    __slots__ = ("_held_for", "_held_since", "_least", "_samples", "_window")

    def __init__(self, now: float, window: float, low_speed: int) -> None:
        self._window = window
        self._least = max(1, round(low_speed * window))
        self._samples: list[tuple[float, int]] = [(now, 0)]  # (counted time, bytes until then)
        self._held_since: float | None = None
        self._held_for = 0.0

    def hold(self, now: float) -> None:
        """The receiver is full."""
        if self._held_since is None:
            self._held_since = now

    def release(self, now: float) -> None:
        """The receiver has room."""
        if self._held_since is not None:
            self._held_for += now - self._held_since
            self._held_since = None

    def too_slow(self, now: float, total: int) -> bool:
        """Whether too few bytes arrived in the last window. `total`: bytes since the start."""
        if self._held_since is not None:
            return False
        clock = now - self._held_for
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= clock - self._window:
            del samples[0]
        start, before = samples[0]
        samples.append((clock, total))
        return clock - start >= self._window and total - before < self._least
