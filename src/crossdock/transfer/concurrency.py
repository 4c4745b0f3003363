"""The number of source connections to use at once, and the size of each request.

Rules of the tuner (azcopy's concurrency tuner and aws-c-s3's back-off are the precedents):

1. Start with one connection for each blob: within a machine room it is as fast as most targets. Growing is
   quick, and shrinking wastes connections already made.
2. While hashing and sending wait for bytes, and connections are what is lacking, double; quadruple after
   a step that scaled as it should. Beyond four, keep the step only when throughput rose by at least half of
   what perfect scaling would give, or by a fifth in the mean of two observations; otherwise go back and stay.
3. When the target is the bottleneck (bytes wait for it, and no blob for bytes, twice in a row), use one
   connection less. More of them would only fill memory.
4. Fewer when the source refuses (429, 503) or resets: by as many as were refused, by half at most.
5. While it stays, try one step up again from time to time: networks change. A source that has refused gets
   one connection more at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from crossdock.transfer.budget import Budget

UNJUDGED = 4  # that many connections need no proof; hf_xet and azcopy start with 4
MOST = 32  # per host; azcopy uses 32 to 300 against storage made for it
STARVING = 0.25  # share of the time that a blob waits for bytes, from which on the source is what limits
HELD = 0.5  # share of the time that nothing is requested because bytes wait, from which on the target does
GAIN = 0.2  # azcopy: share of perfect scaling below which a step is not kept
CLEAR = 0.5  # share of it, and of the time that is waited, which no accident of one period explains
PERFECT = 0.8  # share of it from which on a source is taken to give each connection as much as the first
STEADY = 1.25  # times what was to be expected, up to which throughput is the basis of a step
AGAIN_AFTER = 10  # observations without a step, after which rule 5 tries one
PERIOD_S = 0.05  # of an observation while it grows, at least
PERIOD_BYTES = 2 << 20  # of each connection, that an observation waits for: servers send in bursts
LONG_PERIOD_S = 0.2  # of an observation at most
SETTLE_TRIPS = 4  # first-byte times that new connections get before they are judged
LEAST_PART = 4 << 20  # smaller parts cost more requests than they save memory
LEAST_TAIL = 1 << 20  # of the last parts, which shrink so that all connections end together
MOST_NEAR = 16 << 20  # of a part where latency does not call for larger ones
NEAR_WINDOW = 32 << 20  # of all parts there, when several land at once for one blob: it stays in a cache
PART_S = 0.1  # that a part takes at least, within the two: it costs some 0.5 ms of CPU
TAIL_S = 0.02  # that a part takes at least towards the end
LANDED_SLOTS = 2  # of one blob where the source is near: one to be hashed next, one behind it
TRIPS_PER_PART = 4  # part = 4 × latency × rate: a fifth of the time at most is spent waiting
SMOOTHING = 0.2
RESPONSES = 16  # the fastest of the last ones shows the latency; the others waited for this process, too


class Observation(Struct, frozen=True):
    """The measurements of one period. Shares are of the time of all blobs in flight."""

    bytes_per_s: float
    lacking: bool  # someone waited for a connection
    starving: float  # share that waited for bytes to hash and send
    held: float  # share that requested nothing because enough was here
    refused: int  # requests that were refused for load, or whose connection broke


class Tuner:
    """The rules, without a clock. ``limit`` is how many connections to use."""

    def __init__(self, start: int = 1, most: int = MOST) -> None:
        self.limit = min(start, most)
        self.is_rising = True
        self._most = most
        self._least = 1  # when the target is the bottleneck
        self._before: tuple[int, float] | None = None  # limit and throughput before the step on trial
        self._doubtful: float | None = None  # throughput after it, which was looked at once
        self._stayed = 0
        self._last = 0.0  # throughput of the last observation while bytes were wanted
        self._was_starving = False
        self._was_held = False
        self._is_refused = False

    def serve(self, blobs: int) -> None:
        """Take the number of blobs under way: each has a connection, unless the source has refused."""
        self._least = max(1, blobs)
        if not self._is_refused and self.limit < blobs:
            self.limit = min(blobs, self._most)
            self._before = None

    def observe(self, seen: Observation) -> bool:
        """Take one observation; True when ``limit`` changed."""
        was = self.limit
        is_held = seen.held > HELD and seen.starving < STARVING
        is_starving = seen.lacking and seen.starving > STARVING
        if seen.refused:
            self._is_refused = True
            self.limit = max(1, self.limit // 2, self.limit - seen.refused)
            self._stay()
        elif is_held and self._was_held:
            self.limit = max(min(self._least, self.limit), self.limit - 1)
            self._stay()
        elif is_starving and (seen.starving > CLEAR or self._was_starving):
            self._judge(seen.bytes_per_s)
        self._was_held = is_held
        self._was_starving = is_starving
        return self.limit != was

    def _judge(self, bytes_per_s: float) -> None:
        before_this, self._last = self._last, bytes_per_s
        if not self.is_rising:
            self._stayed += 1
            if self._stayed >= AGAIN_AFTER:
                self.is_rising = True
                self._step(max(bytes_per_s, before_this))
        elif self.limit < UNJUDGED and not self._is_refused:
            self._step(bytes_per_s)
        elif self._before is not None:
            self._judge_step(*self._before, bytes_per_s)
        elif bytes_per_s <= before_this * STEADY:  # otherwise it rises without our doing and proves nothing
            self._step(max(bytes_per_s, before_this))

    def _judge_step(self, limit: int, before: float, bytes_per_s: float) -> None:
        perfect = before * (self.limit / limit - 1)  # that much more
        if bytes_per_s > (before + perfect) * STEADY:
            self._before = None  # it rises without our doing
        elif bytes_per_s >= before + CLEAR * perfect:
            self._step(bytes_per_s, 4 if bytes_per_s >= before + PERFECT * perfect else 2)
        elif self._doubtful is None and bytes_per_s >= before + GAIN * perfect:
            self._doubtful = bytes_per_s
        elif self._doubtful is not None and (bytes_per_s + self._doubtful) / 2 >= before + GAIN * perfect:
            self._step((bytes_per_s + self._doubtful) / 2)
        else:
            self.limit = max(limit, min(self.limit, UNJUDGED))
            self._stay()

    def _step(self, bytes_per_s: float, factor: int = 2) -> None:
        if self.limit >= self._most:
            self._stay()
            return
        self._before = (self.limit, bytes_per_s)
        self._doubtful = None
        self.limit = min(self._most, self.limit + 1 if self._is_refused else self.limit * factor)

    def _stay(self) -> None:
        self.is_rising = False
        self._before = None
        self._stayed = 0


class Gauge:
    """How many blobs are in some state, and the sum of that over time."""

    __slots__ = ("_count", "_since", "_total")

    def __init__(self) -> None:
        self._count = 0
        self._total = 0.0
        self._since = 0.0

    def change(self, by: int) -> None:
        """`by` more are in it."""
        now = time.monotonic()
        self._total += self._count * (now - self._since)
        self._since = now
        self._count += by

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One more is in it meanwhile."""
        self.change(1)
        try:
            yield
        finally:
            self.change(-1)

    def seconds(self) -> float:
        """Seconds that all of them together have been in it."""
        self.change(0)
        return self._total


class Permits:
    """Permits to use a source connection, at most `tuner.limit` at once; a starving blob is first.

    `fixed` connections switch the tuner off. `part_size` is the size of one request.
    """

    def __init__(self, budget: Budget, *, fixed: int | None = None, part_size: int | None = None) -> None:
        self._most = max(1, budget.slots // 2)
        self._budget = budget
        self._tuner = None if fixed is not None else Tuner(most=min(MOST, self._most))
        self._fixed = min(fixed or 1, self._most)
        self._part_size = part_size
        self._used = 0
        self._idle = 0  # of those: their holders request nothing of the source now
        self._parked: list[tuple[Callable[[], int], asyncio.Future[None]]] = []
        self._waiting: deque[tuple[Callable[[], int], asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._refused = 0
        self._lacking = False
        self._is_starving = False  # in the last period
        self._first_bytes: deque[float] = deque(maxlen=RESPONSES)
        self._rate = 0.0  # of one connection
        self.starving = Gauge()  # blobs that wait for bytes to hash
        self.held = Gauge()  # blobs that request nothing because enough is here
        self._blobs = Gauge()
        self._watchers: set[Callable[[float], None]] = set()

    @property
    def is_fixed(self) -> bool:
        """The number was chosen by the caller: no source connection may be used without a permit."""
        return self._tuner is None

    @property
    def limit(self) -> int:
        """How many connections may be used at once now."""
        return self._tuner.limit if self._tuner is not None else self._fixed

    @property
    def used(self) -> int:
        """How many are used now."""
        return self._used

    @property
    def part_size(self) -> int:
        """Bytes of a request, a whole number of slots: latency × rate, within the budget."""
        slot = self._budget.slot_size
        # Two parts per connection fit the budget: one on its way, one waiting behind the slowest.
        most = max(slot, self._budget.slots * slot // (2 * self.limit))
        if self._part_size is not None:
            wanted = self._part_size
        else:
            near = min(MOST_NEAR, int(PART_S * self._rate))
            if self.share > 1:
                near = min(near, NEAR_WINDOW // self.limit)
            wanted = max(LEAST_PART, near, int(TRIPS_PER_PART * self.first_byte_s * self._rate))
        return max(slot, min(wanted, most) // slot * slot)

    def part_of(self, left: int) -> int:
        """Bytes of the next request, of `left` that its blob has still to request: fewer towards the end."""
        size = self.part_size
        if self._part_size is None and left < size * self.share:
            slot = self._budget.slot_size
            least = max(LEAST_TAIL, int(TAIL_S * self._rate))
            size = min(size, max(least, left // self.share) // slot * slot)
        return min(size, left)

    @property
    def enough(self) -> int:
        """Bytes of one blob that may wait to be hashed while more of it is requested.

        As many as come within one round trip; a whole round of its parts where the source limits, because
        parts that were requested together come together.
        """
        least = min(LEAST_PART, self._budget.slots * self._budget.slot_size // 8)
        return max(least, self.part_size * self.share // (1 if self._is_starving else TRIPS_PER_PART))

    @property
    def landed(self) -> int:
        """Bytes of one blob that may wait to be hashed while more of it lands at the frontier.

        As many as come within some round trips, so that there is no wait for one; as for `enough` where
        other connections bring bytes behind the frontier.
        """
        if self.share > 1:
            return self.enough
        least = LANDED_SLOTS * self._budget.slot_size
        return max(least, int(TRIPS_PER_PART * self.first_byte_s * self._rate))

    @property
    def share(self) -> int:
        """How many of the connections are those of one blob."""
        return max(1, self.limit // max(1, len(self._watchers)))

    def watch_blob(self, watcher: Callable[[float], None]) -> None:
        """A blob begins. `watcher` is called with the loop's time a few times a second until `unwatch`."""
        self._watchers.add(watcher)
        self._blobs.change(1)
        self._serve()

    def unwatch(self, watcher: Callable[[float], None]) -> None:
        """The blob has ended. Nothing if it had not begun."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._blobs.change(-1)
            self._serve()

    def _serve(self) -> None:
        if self._tuner is not None:
            self._tuner.serve(len(self._watchers))
            self._grant()

    async def acquire(self, ahead: Callable[[], int]) -> None:
        """Take a permit, or wait for one. `ahead`: how many bytes beyond its frontier the caller has."""
        if self.acquire_now():
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

    def acquire_now(self) -> bool:
        """Take a permit if one is free and no other caller waits."""
        if self._used >= self.limit or self._waiting:
            return False
        self._used += 1
        return True

    @contextmanager
    def idle(self) -> Iterator[None]:
        """In the block, a holder requests nothing of the source."""
        self._idle += 1
        self._grant()
        try:
            yield
        finally:
            self._idle -= 1

    async def resume(self, ahead: Callable[[], int]) -> None:
        """A holder that was refused waits until fewer than `limit` use the source; the most behind is first.

        It keeps its permit, for it has slots. Holders that wait for slots do not count: so one can always
        continue.
        """
        if self._used - self._idle <= self.limit:
            return
        entry = (ahead, asyncio.get_running_loop().create_future())
        self._parked.append(entry)
        self._idle += 1
        self._grant()
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._parked:
                self._parked.remove(entry)
                self._idle -= 1
            raise

    def release(self) -> None:
        """Give the permit back."""
        self._used -= 1
        self._grant()

    def _grant(self) -> None:
        """Serve waiting callers: first those that hold a permit already."""
        while self._parked and self._used - self._idle < self.limit:
            entry = min(self._parked, key=lambda entry: entry[0]())
            self._parked.remove(entry)
            self._idle -= 1
            if not entry[1].done():
                entry[1].set_result(None)
        while self._waiting and self._used < self.limit:
            entry = min(self._waiting, key=lambda entry: entry[0]())
            self._waiting.remove(entry)
            if not entry[1].done():
                self._used += 1
                entry[1].set_result(None)

    def received(self, count: int) -> None:
        """`count` bytes came from the source."""
        self._bytes += count

    def responded(self, seconds: float) -> None:
        """The head of a response came after `seconds`."""
        self._first_bytes.append(seconds)

    @property
    def first_byte_s(self) -> float:
        """Seconds from a request to its response, 0 before the first."""
        return min(self._first_bytes, default=0.0)

    def finished(self, count: int, seconds: float) -> None:
        """A part of `count` bytes took `seconds` from its head to its last byte."""
        rate = count / max(seconds, 1e-4)
        self._rate += (rate - self._rate) * (SMOOTHING if self._rate else 1.0)

    def refused(self) -> None:
        """The source refused for load, or a connection broke."""
        self._refused += 1

    # -- observing -----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Observe, tune and call the watchers until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            seen = await self._observe(loop)
            self._is_starving = seen.starving > STARVING
            if self._tuner is not None and self._tuner.observe(seen):
                self._grant()
                await asyncio.sleep(SETTLE_TRIPS * self.first_byte_s + PERIOD_S / 2)

    def look(self, now: float) -> None:
        """Call the watchers, at loop time `now`."""
        for watcher in tuple(self._watchers):
            watcher(now)

    async def _observe(self, loop: asyncio.AbstractEventLoop) -> Observation:
        """One period; a short one while connections are still added and bytes come."""
        began = loop.time()
        gauges = self._blobs, self.starving, self.held
        before = [gauge.seconds() for gauge in gauges]
        self._bytes, self._refused, self._lacking = 0, 0, bool(self._waiting)
        is_rising = self._tuner is not None and self._tuner.is_rising
        is_judged = self.limit >= UNJUDGED
        while True:
            await asyncio.sleep(PERIOD_S if is_rising else LONG_PERIOD_S)
            now = loop.time()
            self.look(now)
            wanted = PERIOD_BYTES * self._used if is_judged else 1
            if now - began >= LONG_PERIOD_S or self._bytes >= wanted:
                break
        blobs_s, starving_s, held_s = (
            gauge.seconds() - seconds for gauge, seconds in zip(gauges, before, strict=True)
        )
        return Observation(
            bytes_per_s=self._bytes / (now - began),
            lacking=self._lacking,
            starving=starving_s / blobs_s if blobs_s else 0.0,
            held=held_s / blobs_s if blobs_s else 0.0,
            refused=self._refused,
        )
