"""When a part at the frontier is so slow that asking for its rest a second time is worth the bytes.

Everything behind the frontier waits in memory for it, so one slow connection in thirty decides the end.
Precedents: AWS guidance (retry the slowest requests hard, on a new connection), azcopy (chunkedFileWriter.go:
ten times the mean part time), ollama (30 s without a byte). Plain arithmetic, without a clock.
"""

from __future__ import annotations

from collections import deque

LATER_PARTS_DONE = 2  # that many parts behind a silent one were whole in the meantime
SILENT_S = 5.0
LEAST_LEFT_S = 3.0  # a rest that comes within this is not worth a new connection
TIMES_MEDIAN = 2.0
JUDGED_AFTER_S = 1.0  # slow start and a burst at the beginning say nothing
KNOWN_PARTS = 3  # durations needed before one can be called slow
EXTRA_SHARE = 0.05  # of the blob's bytes that may be asked for twice


class Slowness:
    """Watches the frontier of one blob of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._allowance = int(size * EXTRA_SHARE)
        self._durations: deque[float] = deque(maxlen=32)
        self._index = -1
        self._first = self._last = (0, 0.0)  # position and time: when first seen here, when it last moved

    def finished(self, seconds: float) -> None:
        """A part took `seconds` from its head to its last byte."""
        self._durations.append(seconds)

    def is_hopeless(self, index: int, position: int, stop: int, now: float, later_parts_done: bool) -> bool:
        """Whether the part `index`, at `position` of ``stop``, should be asked again. Counts it as asked."""
        if index != self._index:
            self._index, self._first, self._last = index, (position, now), (position, now)
            return False
        if position != self._last[0]:
            self._last = (position, now)
        left = stop - position
        if not 0 < left <= self._allowance:
            return False
        silent = now - self._last[1] >= SILENT_S and later_parts_done
        if silent or self._is_slow(left, position, now):
            self._allowance -= left
            return True
        return False

    def _is_slow(self, left: int, position: int, now: float) -> bool:
        seconds = now - self._first[1]
        if len(self._durations) < KNOWN_PARTS or seconds < JUDGED_AFTER_S:
            return False
        from statistics import median  # a copy of small blobs never comes here

        rate = (position - self._first[0]) / seconds
        return left > rate * max(TIMES_MEDIAN * median(self._durations), LEAST_LEFT_S)
