"""The progress of a run: one object for the terminal, log lines, JSON, the service's page and its metrics.

Nothing is counted for each event. The figures are those of the copies' tallies, added up when they are read;
a few times a second a sample of them is taken, from which rates are made.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from msgspec import Struct

from crossdock.activity import Activity
from crossdock.events import ignore
from crossdock.tally import MovingBlob as MovingBlob  # for displays
from crossdock.tally import Tally
from crossdock.transfer.budget import SLOT_SIZE as SMALL
from crossdock.transfer.concurrency import Permits

SAMPLE_S = 0.5
LIMITED_S = 5.0
STALLED_S = 10.0
WINDOW_S = 8.0  # a rate over fewer seconds jumps, over more it hides a stall

Limit = Literal["source", "target", "cpu", "rate limit"]

FIGURES = (
    "images_found",
    "images_done",
    "images_failed",
    "bytes_found",
    "bytes_done",
    "bytes_skipped",
    "bytes_mounted",
    "requests",
    "retries",
    "bytes_per_second",
    "seconds",
    "seconds_left",
    "limited_by",
    "stalled",
)
_CPU_BOUND = 0.85  # of one core


class UnderWay(Struct, frozen=True):
    """One image under way."""

    source: str
    target: str
    moving: tuple[MovingBlob, ...]
    waits_for: Limit | None
    """Whose answer it waits for now, or ``rate limit``; None when that cannot be said."""


class _Copy:
    """One copy under way, and when each side moved last."""

    __slots__ = ("activity", "moved", "source", "tally", "target")

    def __init__(self, source: str, target: str, tally: Tally, activity: Activity) -> None:
        self.source = source
        self.target = target
        self.tally = tally
        self.activity = activity
        self.moved: dict[str, tuple[object, float]] = {}  # by side: its numbers, and since when they are so

    def look(self, now: float) -> None:
        """Note whether anything moved since the last look."""
        tally = self.tally
        done = tally.manifests, tally.bytes_sent, sum(tally.blobs.values())
        for side in ("source", "target", ""):
            numbers = (*self.activity.moved(side), done if not side else None)
            before = self.moved.get(side)
            if before is None or before[0] != numbers:
                self.moved[side] = numbers, now

    def waits_for(self, now: float) -> Limit | None:
        """As `UnderWay.waits_for`. Of two sides, the one that has been still for longer."""
        activity = self.activity
        if activity.delayed or activity.limited:
            return "rate limit"
        waiting = {each.side for each in tuple(activity.open) if not each.waits_here}
        sides: tuple[Limit, Limit] = "source", "target"
        still = [(now - self.moved.get(each, (None, now))[1], each) for each in sides if each in waiting]
        return max(still)[1] if still else None

    def stalled(self, now: float) -> Iterator[str]:
        """Its references without a byte or response for long."""
        sides = {each.side for each in tuple(self.activity.open) if not each.waits_here}
        for side in sides or ({""} if not self.activity.limited else ()):
            _, since = self.moved.get(side, (None, now))
            if now - since >= STALLED_S:
                yield self.target if side == "target" else self.source


class Totals:
    """The figures of a run, to be read at any time and from any thread. Sizes are bytes.

    An image is one tag, or one manifest without a tag, for one target. One that was unchanged is done, one
    that was cancelled neither done nor failed. A blob counts once for each image. At the end of a run without
    failures ``bytes_found`` is ``bytes_done + bytes_skipped + bytes_mounted``, and ``bytes_done`` was moved.
    """

    def __init__(self, images: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """`images` are known from the start."""
        self._clock = clock
        self.images_found = images
        self.images_done = 0
        self.images_failed = 0
        self.is_listed = True
        """Whether no more images will be found."""
        self.activity = Activity()
        """The requests of the run that serve no copy in particular, such as those that list a registry."""
        self._running: dict[int, _Copy] = {}
        self._begun = 0
        self._ended = Tally(ignore)  # the sums of those that have ended
        self._requests = 0  # of those that have ended
        self._samples: deque[tuple[float, int]] = deque(maxlen=round(WINDOW_S / SAMPLE_S))  # when, bytes sent
        self._limits: deque[tuple[float, Limit | None]] = deque(maxlen=round(LIMITED_S / SAMPLE_S))
        self._permits: Permits | None = None
        self._told_total: bool | None = None
        # Seconds of CPU, of blobs that wait for their source and for their target.
        self._spent = 0.0, 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._started_at: float | None = None
        self._stopped_at: float | None = None

    # -- the run's side ----------------------------------------------------------------------------------

    def start(self, permits: Permits) -> None:
        """The run begins; samples are taken until `stop`. `permits` are those of its source connections."""
        self._started_at = self._clock()
        self.activity.since = time.monotonic()
        self._permits = permits
        self._spent = self._seconds_spent()
        self._sample()

    def stop(self) -> None:
        """The run has ended."""
        if self._stopped_at is None:
            self._stopped_at = self._clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, source: str, target: str, tally: Tally, activity: Activity) -> int:
        """Begin a copy; the number with which to end it."""
        self._begun += 1
        self._running[self._begun] = _Copy(source, target, tally, activity)
        return self._begun

    def rename(self, number: int, source: str, target: str) -> None:
        """Show these as the references that another process, which `number` stands for, copies now."""
        copy = self._running[number]
        copy.source, copy.target = source, target

    def told_limit(self, limit: Limit | None) -> None:
        """Record the current limit of another process that works for the run."""
        self._limits.append((self._clock(), limit))

    def told_total(self, is_known: bool) -> None:
        """Record whether the other processes, which do all the work, have found all that is to be moved."""
        self._told_total = is_known

    def end(self, number: int) -> None:
        """The copy has ended, well or not."""
        copy = self._running.pop(number)
        tally, sums = copy.tally, self._ended
        self._requests += copy.activity.requests
        sums.blobs_found += tally.blobs_found
        sums.bytes_found += tally.bytes_found
        sums.retries += tally.retries
        sums.bytes_held += tally.bytes_resumed
        for outcome in sums.bytes:
            sums.bytes[outcome] += tally.bytes[outcome]
            sums.blobs[outcome] += tally.blobs[outcome]
        sums.bytes["moved"] += sum(blob.sent for blob in tally.moving.values())  # of a copy that failed

    def _sample(self) -> None:
        now = self._clock()
        if self._samples:
            self._limits.append((now, self._limit_since(self._samples[-1][0], now)))
        self._samples.append((now, self.bytes_here))
        for copy in self._running.values():
            copy.look(now)
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._sample)

    def _seconds_spent(self) -> tuple[float, float, float]:
        permits = self._permits
        waits = (permits.starving.seconds(), permits.held.seconds()) if permits is not None else (0.0, 0.0)
        return time.process_time(), *waits

    def _limit_since(self, before: float, now: float) -> Limit | None:
        """The reason the run waited most since the last sample."""
        was, self._spent = self._spent, self._seconds_spent()
        cpu, source, target = (
            (new - old) / max(now - before, 1e-3) for new, old in zip(self._spent, was, strict=True)
        )
        if cpu >= _CPU_BOUND:
            return "cpu"
        if any(each.activity.limited for each in self._running.values()):
            return "rate limit"
        for copy in self._running.values():
            reads = sum(each.side == "source" for each in copy.activity.open)
            writes = sum(each.side == "target" for each in copy.activity.open)
            if reads and writes and any(blob.size > SMALL for blob in copy.tally.moving.values()):
                continue  # large blobs have requests open on both sides; the permits know what they wait for
            source += reads > writes
            target += writes > reads
        if source == target:
            return None
        return "source" if source > target else "target"

    # -- images and bytes ----------------------------------------------------------------------------------

    def _tallies(self) -> Iterator[Tally]:
        yield self._ended
        for copy in tuple(self._running.values()):
            yield copy.tally

    @property
    def bytes_found(self) -> int:
        """Bytes of the blobs that the manifests read so far list."""
        return sum(each.bytes_found for each in self._tallies())

    @property
    def bytes_done(self) -> int:
        """Bytes sent to the target, of blobs done and under way."""
        return sum(each.bytes_sent for each in self._tallies())

    @property
    def bytes_here(self) -> int:
        """Bytes that this run has sent: `bytes_done` without those of uploads that it resumed."""
        return self.bytes_done - sum(each.bytes_held for each in self._tallies())

    @property
    def bytes_skipped(self) -> int:
        """Bytes that the target had."""
        return sum(each.bytes["skipped"] for each in self._tallies())

    @property
    def bytes_mounted(self) -> int:
        """Bytes that the target took from another of its repositories."""
        return sum(each.bytes["mounted"] for each in self._tallies())

    @property
    def blobs_found(self) -> int:
        """Blobs that the manifests read so far list."""
        return sum(each.blobs_found for each in self._tallies())

    @property
    def blobs_done(self) -> int:
        """Blobs that the target has."""
        return sum(sum(each.blobs.values()) for each in self._tallies())

    @property
    def retries(self) -> int:
        """Requests that failed and were sent again."""
        return sum(each.retries for each in self._tallies())

    @property
    def moving(self) -> list[MovingBlob]:
        """The blobs under way."""
        return [blob for each in self._tallies() for blob in tuple(each.moving.values())]

    @property
    def under_way(self) -> list[tuple[str, str]]:
        """Source and target of the copies under way, the first begun first."""
        return [(each.source, each.target) for each in tuple(self._running.values())]

    def images_under_way(self) -> list[UnderWay]:
        """The copies under way, the first begun first."""
        now = self._clock()
        return [
            UnderWay(each.source, each.target, tuple(each.tally.moving.values()), each.waits_for(now))
            for each in tuple(self._running.values())
        ]

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since the run began; of the whole run once it has ended."""
        if self._started_at is None:
            return 0.0
        return (self._clock() if self._stopped_at is None else self._stopped_at) - self._started_at

    @property
    def bytes_per_second(self) -> float:
        """Over the last 8 seconds; of the whole run once it has ended."""
        if self._stopped_at is not None:
            return self.bytes_here / self.seconds if self.seconds > 0 else 0.0
        now, samples = self._clock(), tuple(self._samples)
        at, sent = next((each for each in samples if now - each[0] <= WINDOW_S), (now, 0))
        return max(0.0, (self.bytes_here - sent) / (now - at)) if now > at else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at the present rate; None while the total is unknown, 0 at the end."""
        if self._stopped_at is not None:
            return 0.0
        left = self.bytes_found - self.bytes_done - self.bytes_skipped - self.bytes_mounted
        if self._started_at is None or not self.is_total_known:
            return None
        if left <= 0:
            return 0.0
        rate = self.bytes_per_second
        return left / rate if rate > 0 else None

    @property
    def is_total_known(self) -> bool:
        """Whether all images have begun and were read, so that `bytes_found` is the total."""
        if self._told_total is not None:
            return self._told_total
        running = tuple(self._running.values())
        begun = self.images_done + self.images_failed + len(running)
        is_whole = self.is_listed and begun >= self.images_found
        return is_whole and all(each.tally.is_planned for each in running)

    @property
    def requests(self) -> int:
        """HTTP requests sent."""
        running = sum(each.activity.requests for each in tuple(self._running.values()))
        return self._requests + self.activity.requests + running

    @property
    def limited_by(self) -> Limit | None:
        """The side that most of the last 5 seconds were spent waiting for, or ``cpu``; None when that cannot
        be said.

        ``rate limit`` while a registry's ``Retry-After`` or a limit of the options holds the run up.
        """
        activities = [self.activity, *(each.activity for each in tuple(self._running.values()))]
        if any(each.delayed or each.limited for each in activities):
            return "rate limit"
        latest = self._stopped_at or self._clock()
        limits = [limit for at, limit in tuple(self._limits) if latest - at <= LIMITED_S]
        return max(set(limits), key=limits.count) if limits else None

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way or held back: the run waits for something in this process."""
        activities = [self.activity, *(each.activity for each in tuple(self._running.values()))]
        return not any(each.open or each.delayed or each.limited for each in activities)

    @property
    def stalled(self) -> tuple[str, ...]:
        """The references without a byte or response for 10 seconds."""
        now = self._clock()
        return tuple(
            dict.fromkeys(each for copy in tuple(self._running.values()) for each in copy.stalled(now))
        )

    def as_dict(self) -> dict[str, Any]:
        """The public figures as plain values, for JSON."""
        return {name: getattr(self, name) for name in FIGURES}
