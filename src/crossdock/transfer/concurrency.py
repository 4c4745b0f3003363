"""How many source connections to use at once, and how much each asks for.

Rules of the tuner (azcopy's concurrency tuner and aws-c-s3's back-off are the precedents):

1. Start small; growing is quick, and shrinking wastes connections already made.
2. While connections are what is lacking, double, and keep the step when throughput rose by at least a fifth
   of what perfect scaling would give. Otherwise go back and stay.
3. When the target is the bottleneck (the memory budget was full for more than half of the time, twice in a
   row), use one connection less. More of them would only fill memory.
4. One connection less when the source refuses (429, 503) or resets.
5. While it stays, try one step up again from time to time: networks change.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from crossdock.transfer.budget import Budget

START = 4  # hf_xet and azcopy start with 4
MOST = 32  # per host; azcopy uses 32 to 300 against storage made for it
LEAST_WHEN_FULL = 2  # one for the frontier and one behind it
GAIN = 0.2  # azcopy: share of perfect scaling below which a step is not kept
AGAIN_AFTER = 10  # observations without a step, after which rule 5 tries one
PERIOD_S = 0.2  # of an observation
SETTLE_TRIPS = 4  # first-byte times that new connections get before they are judged
LEAST_PART = 4 << 20  # smaller parts cost more requests than they save memory
TRIPS_PER_PART = 4  # part = 4 × latency × rate: a fifth of the time at most is spent waiting
SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened in one period."""

    bytes_per_s: float
    lacking: bool  # someone waited for a connection
    full: float  # share of the time that someone waited for memory
    refused: bool


class Tuner:
    """The rules, without a clock. ``limit`` is how many connections to use."""

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self.limit = min(start, most)
        self._most = most
        self._before: tuple[int, float] | None = None  # limit and throughput before the step on trial
        self._rising = True
        self._stayed = 0
        self._was_full = False

    def observe(self, seen: Observation) -> bool:
        """Take one observation; True when ``limit`` changed."""
        was = self.limit
        is_full, was_full = seen.full > 0.5, self._was_full
        self._was_full = is_full
        if seen.refused or (is_full and was_full):
            least = 1 if seen.refused else LEAST_WHEN_FULL
            self.limit = max(min(least, self.limit), self.limit - 1)
            self._stay()
        elif seen.lacking and not is_full:
            self._judge(seen.bytes_per_s)
        return self.limit != was

    def _judge(self, bytes_per_s: float) -> None:
        if not self._rising:
            self._stayed += 1
            if self._stayed >= AGAIN_AFTER:
                self._rising = True
                self._step(bytes_per_s)
        elif self._before is None:
            self._step(bytes_per_s)
        else:
            limit, before = self._before
            if bytes_per_s >= before * (1 + GAIN * (self.limit / limit - 1)):
                self._step(bytes_per_s)
            else:
                self.limit = limit
                self._stay()

    def _step(self, bytes_per_s: float) -> None:
        if self.limit >= self._most:
            self._stay()
            return
        self._before = (self.limit, bytes_per_s)
        self.limit = min(self._most, self.limit * 2)

    def _stay(self) -> None:
        self._rising = False
        self._before = None
        self._stayed = 0


class Permits:
    """Leave to use a source connection: at most `tuner.limit` at once, to whoever is nearest to starving.

    `fixed` connections switch the tuner off. `part_size` gives what one request asks for.
    """

    def __init__(self, budget: Budget, *, fixed: int | None = None, part_size: int | None = None) -> None:
        most = max(1, budget.slots // 2)
        self._budget = budget
        self._tuner = None if fixed is not None else Tuner(most=min(MOST, most))
        self._limit = min(fixed, most) if fixed is not None else min(START, most)
        self._part_size = part_size
        self._used = 0
        self._waiting: deque[tuple[Callable[[], int], asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._refused = False
        self._lacking = False
        self._first_byte_s = 0.0
        self._rate = 0.0  # of one connection
        self.watchers: set[Callable[[float], None]] = set()  # called with the loop's time, once a period

    @property
    def is_fixed(self) -> bool:
        """The number was chosen by the caller: nobody may use a source connection without leave."""
        return self._tuner is None

    @property
    def limit(self) -> int:
        """How many connections may be used at once now."""
        return self._tuner.limit if self._tuner is not None else self._limit

    @property
    def used(self) -> int:
        """How many are used now."""
        return self._used

    @property
    def part_size(self) -> int:
        """Bytes of the next request, a whole number of slots: latency × rate, within the budget."""
        slot = self._budget.slot_size
        # Two parts per connection fit the budget: one on its way, one waiting behind the slowest.
        most = max(slot, self._budget.slots * slot // (2 * self.limit))
        if self._part_size is not None:
            wanted = self._part_size
        else:
            wanted = max(LEAST_PART, int(TRIPS_PER_PART * self._first_byte_s * self._rate))
        return max(slot, min(wanted, most) // slot * slot)

    async def acquire(self, ahead: Callable[[], int]) -> None:
        """Wait for leave. `ahead` tells how many bytes beyond its frontier the asker has already."""
        if self._used < self.limit and not self._waiting:
            self._used += 1
            return
        self._lacking = True
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (ahead, granted)
        self._waiting.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release()
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def release(self) -> None:
        """Give the leave back."""
        self._used -= 1
        self._grant()

    def received(self, count: int) -> None:
        """`count` bytes came from the source."""
        self._bytes += count

    def answered(self, seconds: float) -> None:
        """The head of an answer came after `seconds`."""
        self._first_byte_s += (seconds - self._first_byte_s) * (SMOOTHING if self._first_byte_s else 1.0)

    def refused(self) -> None:
        """The source refused for load, or a connection broke."""
        self._refused = True

    def _grant(self) -> None:
        while self._waiting and self._used < self.limit:
            entry = min(self._waiting, key=lambda entry: entry[0]())
            self._waiting.remove(entry)
            if not entry[1].done():
                self._used += 1
                entry[1].set_result(None)

    async def watch(self) -> None:
        """Observe, tune and call the watchers until cancelled."""
        loop = asyncio.get_running_loop()
        settled = loop.time()
        while True:
            began, full = loop.time(), self._budget.blocked_s()
            self._bytes, self._refused, self._lacking = 0, False, bool(self._waiting)
            await asyncio.sleep(PERIOD_S)
            now = loop.time()
            for watcher in tuple(self.watchers):
                watcher(now)
            seen = Observation(
                bytes_per_s=self._bytes / (now - began),
                lacking=self._lacking,
                full=(self._budget.blocked_s() - full) / (now - began),
                refused=self._refused,
            )
            if self._used:
                self._rate = seen.bytes_per_s / self._used
            if self._tuner is not None and began >= settled and self._tuner.observe(seen):
                self._grant()
                settled = now + SETTLE_TRIPS * self._first_byte_s + PERIOD_S / 2
