"""When bytes are worth a second request: a part at the frontier that is slow, and the end game.

Everything behind the frontier waits in memory for it, so one slow connection in thirty decides the end. When
nothing is left to request, the largest rest of a part decides it. Precedents: AWS guidance (retry the slowest
requests hard, on a new connection), azcopy (chunkedFileWriter.go: ten times the mean part time), ollama (30 s
without a byte), aria2 (splits what is left). Plain arithmetic, without a clock.
"""

from __future__ import annotations

from collections import deque

LATER_PARTS_DONE = 2  # that many parts behind a silent one were whole in the meantime
SILENT_S = 5.0
SILENT_ALONE_S = 10.0  # when no others can be compared with; a third of the default timeout
LEAST_LEFT_S = 3.0  # a rest that comes within this is not worth a new connection
TIMES_MEDIAN = 2.0
JUDGED_AFTER_S = 1.0  # slow start and a burst at the beginning say nothing
KNOWN_PARTS = 3  # durations needed before one can be called slow
EXTRA_SHARE = 0.05  # of the blob's bytes that may be requested twice while they may still come
LEAST_SPLIT_S = 0.25  # a rest that comes within this is not worth a connection in the end game
SPLIT_TRIPS = 4  # nor one that comes within this many round trips


class Slowness:
    """Watches the frontier of one blob of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._allowance = int(size * EXTRA_SHARE)
        self._durations: deque[float] = deque(maxlen=32)
        self._start = -1  # of the part at the frontier
        self._first = self._last = (0, 0.0)  # position and time: when first seen here, when it last moved

    def finished(self, seconds: float) -> None:
        """A part took `seconds` from its head to its last byte."""
        self._durations.append(seconds)

    def forget(self) -> None:
        """Discard what was seen of the frontier: it did not wait for the source."""
        self._start = -1

    def is_hopeless(self, start: int, position: int, stop: int, now: float, later_parts_done: bool) -> bool:
        """Whether the part ``start``..``stop``, at `position`, should be requested again. Counts it so."""
        if start != self._start:
            self._start, self._first, self._last = start, (position, now), (position, now)
            return False
        if position != self._last[0]:
            self._last = (position, now)
        if position >= stop:
            return False
        # A silent part would be requested again anyway, after the timeout: this costs no more bytes.
        if now - self._last[1] >= (SILENT_S if later_parts_done else SILENT_ALONE_S):
            return True
        return self._is_slow(stop - position, position, now) and self.may_repeat(stop - position)

    def may_repeat(self, count: int) -> bool:
        """Whether `count` bytes more may be requested twice. Counts them as requested."""
        if count > self._allowance:
            return False
        self._allowance -= count
        return True

    @staticmethod
    def is_worth_splitting(left: int, received: int, seconds: float, first_byte_s: float) -> bool:
        """Whether a second connection brings the end nearer, when one has `left` bytes to go.

        So far it had `received` in `seconds`.
        """
        least_s = max(LEAST_SPLIT_S, SPLIT_TRIPS * first_byte_s)
        return seconds > least_s and left * seconds > received * least_s

    def _is_slow(self, left: int, position: int, now: float) -> bool:
        seconds = now - self._first[1]
        if len(self._durations) < KNOWN_PARTS or seconds < JUDGED_AFTER_S:
            return False
        from statistics import median  # a copy of small blobs never comes here

        rate = (position - self._first[0]) / seconds
        return left > rate * max(TIMES_MEDIAN * median(self._durations), LEAST_LEFT_S)
