"""Rate limits. Sans I/O: the caller brings the time.

A token bucket is stored as the time at which it will be full again (the generic cell rate algorithm, ITU-T
I.371). A full bucket carries no information, so it can be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MOST_KEYS = 10_000  # principals; each takes some 200 bytes


class Bucket:
    """`per_second` of something, and after a pause what `burst_s` seconds bring at once.

    Any count can be taken while the bucket is not overdrawn; what it lacks then is waited for by the next one
    that takes. So in T seconds at most ``per_second * (T + burst_s)`` and one count are taken.
    """

    __slots__ = ("_burst_s", "_full_at", "_per_second")

    def __init__(self, per_second: float, burst_s: float) -> None:
        self._per_second = per_second
        self._burst_s = burst_s
        self._full_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until something may be taken at `now`, seconds of a monotonic clock; 0 when it may now."""
        wait = self._full_at - self._burst_s - now
        return wait if wait > 1e-9 else 0.0  # rounding

    def take(self, count: float, now: float) -> None:
        """Take `count` at `now`."""
        self._full_at = max(self._full_at, now) + count / self._per_second


class Verdict(NamedTuple):
    """Whether a request may be made now, and if not, when to retry."""

    allowed: bool
    retry_after_s: float  # 0 when allowed


class RateLimit:
    """`per_minute` requests per key, and as many at once after a minute without any.

    Beyond `most_keys` keys, those seen longest ago are forgotten: they may burst again.
    """

    def __init__(self, per_minute: int, *, most_keys: int = MOST_KEYS) -> None:
        self._per_second = per_minute / 60.0
        self._burst_s = 60.0 - 1.0 / self._per_second
        self._most_keys = most_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        """The number of keys that are remembered."""
        return len(self._buckets)

    def wait(self, key: str, now: float) -> float:
        """Seconds until `key` may make a request; 0 when it may now. Counts nothing."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait(now)

    def take(self, key: str, now: float) -> Verdict:
        """Count one request of `key` at `now`, seconds of a monotonic clock. A refused one does not count."""
        wait = self.wait(key, now)
        if wait:
            return Verdict(allowed=False, retry_after_s=wait)
        bucket = self._buckets.setdefault(key, Bucket(self._per_second, self._burst_s))
        bucket.take(1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most_keys:
            self._buckets.popitem(last=False)
        return Verdict(allowed=True, retry_after_s=0.0)
