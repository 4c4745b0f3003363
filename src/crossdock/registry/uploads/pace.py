"""How long a chunk's request may last behind a slow or silent source.

Proxies and registries cut requests that last (15 minutes in ggcr#2084, 20 at ACR) and connections that idle
(60 s are common), and a cut chunk is lost on many of them. So:

1. A request is begun when its first bytes are here (U15), and gets no more bytes than its feeder brings
   within one ``timeout``, as far as the last request tells (`Pace`).
2. A chunk for which bytes are awaited longer than `PATIENCE` time-outs is given up, and gone on with from
   what the registry says it holds, when there are bytes again (`Idle`). Where a chunk that is cut is known to
   end the session, the bytes are waited for instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 2  # time-outs: within the first one a silent source is asked again, on another connection
UNKNOWN = 1 << 62  # bytes; no limit


class Pace:
    """Bytes that are fed, over time, from one request's start to the next one's."""

    def __init__(self, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`open_s`: how many seconds a request may be fed."""
        self._open_s = open_s
        self._clock = clock
        self._since = clock()
        self._offset = 0

    def most(self, offset: int, ready: int) -> int:
        """How many bytes the request that starts now at `offset` should have; `ready` are there already."""
        now = self._clock()
        fed, seconds = offset + ready - self._offset, now - self._since
        starts_new = offset < self._offset or self._offset == 0 < offset  # not fed through here
        self._since, self._offset = now, offset + ready
        if starts_new or seconds <= 0.0 or fed <= 0:
            return UNKNOWN
        return int(fed / seconds * self._open_s)


class Idle:
    """The seconds that one request waits for its feeder, all of them together."""

    def __init__(self, most_s: float, give_up: Callable[[], None]) -> None:
        """`give_up` is called when there are more than `most_s`; it must not block."""
        self._most_s = most_s
        self._give_up = give_up
        self._waited_s = 0.0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begins(self) -> None:
        """The next bytes are awaited from now on."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._timer = loop.call_later(max(0.0, self._most_s - self._waited_s), self._give_up)

    def ends(self) -> None:
        """They are here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._waited_s += asyncio.get_running_loop().time() - self._since

    def reset(self) -> None:
        """The request is over."""
        self.ends()
        self._waited_s = 0.0
