"""How long a chunk may be, so that its request does not stay open for ever behind a slow source.

Proxies and registries cut requests that last (15 minutes in ggcr#2084, 20 at ACR) and connections that idle
(60 s are common), and a cut chunk is lost on many of them. What one chunk took tells how much the next one
may hold; what the first piece took tells it of the first chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable

OPEN_AT_MOST_S = 60.0
UNKNOWN = 1 << 62  # bytes; no limit


class Pace:
    """Bytes that are fed, over time, from one request's start to the next one's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
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
        return int(fed / seconds * OPEN_AT_MOST_S)
