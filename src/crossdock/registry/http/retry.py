"""Clocks, and ``Retry-After``.

A delay that the server names is waited for in full, by every request to the host (`gate.HostGate`). Without
one, each request backs off by itself, as `options.NetworkOptions.delay_after` says.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import UTC

MAX_RETRY_AFTER_S = 900.0
"""The longest ``Retry-After`` that is waited for. Above it the error is raised at once, with the server's
value: a copy that sleeps for hours (Docker Hub's window is six) is of no use."""

_SECONDS = r"[0-9]{1,10}(\.[0-9]+)?"


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
        from random import random  # only drawn after a failure

        return random()


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number or an HTTP-date (RFC 9110 section 10.2.3). None: not
    given.

    `wall` is the present time since the epoch. A date in the past is 0; a value that is neither counts as
    absent.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if re.fullmatch(_SECONDS, value):
        return float(value)
    from email.utils import parsedate_to_datetime  # seldom needed, and a good part of a start-up

    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - wall)
