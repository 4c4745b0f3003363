"""When to ask again, and how long to wait before.

Two delays exist. The server's own (``Retry-After``) is obeyed in full and shared by every request to the host
(`gate.HostGate`). Without one, each request backs off by itself: exponential with full jitter, so that
many requests that failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 900.0
"""The longest ``Retry-After`` that is waited for. Above it the error is raised at once, with what the server
asked: a copy that sleeps for hours (Docker Hub's window is six) helps nobody, and a CI job would be
killed."""


class Clock:
    """Time and chance as the client sees them. Tests give their own."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch, for dates that servers send."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full jitter: anything up to ``first × 2**attempt`` seconds, at most ``cap``."""

    clock: Clock
    first: float = FIRST_DELAY_S
    cap: float = MAX_DELAY_S

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed try number `attempt` (the first is 0)."""
        return self.clock.random() * min(self.cap, self.first * 2.0 ** min(attempt, 32))


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number or an HTTP-date (RFC 9110 section 10.2.3). None: not
    given.

    `wall` is the present time since the epoch. A date in the past is 0; a value that is neither counts as
    absent.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - wall)
