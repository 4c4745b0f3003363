"""Limits how long a chunk's request is open when the source is slow or silent.

Proxies and registries cut long requests (after 15 minutes in ggcr#2084, 20 at ACR) and idle connections
(often after 60 s), and many registries lose a chunk that was cut. So:

1. A request starts when its first bytes have arrived (U15), and is sized to what the source delivers within
   one ``timeout``, judged by the previous request (`Pace`).
2. A chunk that waits for bytes longer than `PATIENCE` timeouts is abandoned. Once bytes arrive again, the
   upload continues at the offset that the registry reports (`Idle`). If cutting a chunk is known to end the
   session, the chunk waits instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 2  # timeouts: during the first, a silent source is retried on another connection
UNKNOWN = 1 << 62  # bytes; no limit


class Pace:
    """The rate at which bytes arrive, from the start of one request to the start of the next."""

    def __init__(self, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`open_s`: how many seconds a request may be fed."""
        self._open_s = open_s
        self._clock = clock
        self._since = clock()
        self._offset = 0

    def most(self, offset: int, ready: int) -> int:
        """The size in bytes of a request that starts now at `offset`; `ready` bytes have already arrived."""
        now = self._clock()
        fed, seconds = offset + ready - self._offset, now - self._since
        # A new or resumed session: no rate is known.
        starts_new = offset < self._offset or self._offset == 0 < offset
        self._since, self._offset = now, offset + ready
        if starts_new or seconds <= 0.0 or fed <= 0:
            return UNKNOWN
        return int(fed / seconds * self._open_s)


class Idle:
    """The total time, in seconds, that one request waits for bytes from the source."""

    def __init__(self, most_s: float, give_up: Callable[[], None]) -> None:
        """`give_up` is called when the total exceeds `most_s`; it must not block."""
        self._most_s = most_s
        self._give_up = give_up
        self._waited_s = 0.0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begins(self) -> None:
        """The request starts waiting for bytes."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._timer = loop.call_later(max(0.0, self._most_s - self._waited_s), self._give_up)

    def ends(self) -> None:
        """The bytes have arrived."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._waited_s += asyncio.get_running_loop().time() - self._since

    def reset(self) -> None:
        """The request is over."""
        self.ends()
        self._waited_s = 0.0
