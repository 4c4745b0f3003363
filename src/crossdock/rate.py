"""How many requests each principal may make. Sans I/O: the caller brings the time.

Each has a token bucket, stored as the time at which it will be full again (the generic cell rate algorithm,
ITU-T I.371). A full bucket carries no information, so it can be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MOST_KEYS = 10_000  # principals; each takes some 200 bytes


class Verdict(NamedTuple):
    """Whether a request may be made now, and if not, when to retry."""

    allowed: bool
    retry_after_s: float  # 0 when allowed


class RateLimit:
    """`per_minute` requests per key, and as many at once after a minute without any.

    Beyond `most_keys` keys, those seen longest ago are forgotten: they may burst again.
    """

    def __init__(self, per_minute: int, *, most_keys: int = MOST_KEYS) -> None:
        self._interval_s = 60.0 / per_minute
        self._slack_s = 60.0 - self._interval_s
        self._most_keys = most_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at)

    def wait(self, key: str, now: float) -> float:
        """Seconds until `key` may make a request; 0 when it may now. Counts nothing."""
        wait = self._full_at.get(key, now) - self._slack_s - now
        return wait if wait > 1e-9 else 0.0  # rounding

    def take(self, key: str, now: float) -> Verdict:
        """Count one request of `key` at `now`, seconds of a monotonic clock. A refused one does not count."""
        wait = self.wait(key, now)
        if wait:
            return Verdict(allowed=False, retry_after_s=wait)
        self._full_at[key] = max(self._full_at.get(key, now), now) + self._interval_s
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most_keys:
            self._full_at.popitem(last=False)
        return Verdict(allowed=True, retry_after_s=0.0)
