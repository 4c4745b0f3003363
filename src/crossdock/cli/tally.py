"""Running counts of one copy, made from its events. Fed by the event loop, read by display threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from crossdock.events import (
    BlobDone,
    BlobPlanned,
    BlobProgress,
    BlobStarted,
    CopyStarted,
    Event,
    ManifestDone,
    Retrying,
)

_WINDOW_S = 8.0  # a rate over fewer seconds jumps, over more it hides a stall
_SAMPLE_S = 0.25


class Rate:
    """Bytes a second over the last seconds, from samples of a running total."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=round(_WINDOW_S / _SAMPLE_S))

    def add(self, total: int) -> None:
        """Note the total as it is now. A total that falls (an upload begins again) starts the window anew."""
        now = self._clock()
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, total))

    def per_s(self, total: int) -> float:
        """The rate up to `total` now; 0.0 before it can be told."""
        now = self._clock()
        samples = [each for each in list(self._samples) if now - each[0] <= _WINDOW_S]
        if not samples:
            return 0.0
        start, first = samples[0]
        return max(0.0, (total - first) / (now - start)) if now - start >= _SAMPLE_S else 0.0


@dataclass(slots=True)
class MovingBlob:
    """A blob under way."""

    digest: str
    size: int
    sent: int
    rate: Rate


class Tally:
    """What happened so far. Sizes are bytes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started: CopyStarted | None = None
        self.planned: dict[str, int] = {}  # digest → size
        self.moving: dict[str, MovingBlob] = {}
        self.done: dict[str, BlobDone] = {}
        self.manifests = 0
        self.retries = 0
        self.bytes_done = 0  # of blobs that the target has, however it came to them
        self.bytes_planned = 0
        self.rate = Rate(clock)
        self._moved = 0
        self._in_flight = 0

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case BlobProgress(digest, sent, size):
                self._progress(digest, sent, size)
            case BlobPlanned(digest, size):
                if digest not in self.planned:
                    self.planned[digest] = size
                    self.bytes_planned += size
            case BlobStarted(digest, size):
                self._progress(digest, 0, size)
            case BlobDone(digest, size):
                self._finish(digest, size, event)
            case ManifestDone():
                self.manifests += 1
            case Retrying():
                self.retries += 1
            case CopyStarted():
                self.started = event

    @property
    def bytes_so_far(self) -> int:
        """Bytes that the target has or has been sent."""
        return self.bytes_done + self._in_flight

    @property
    def bytes_moved(self) -> int:
        """Bytes sent to the target so far, of blobs done and under way."""
        return self._moved + self._in_flight

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest takes at the present rate; None when that cannot be told."""
        rate = self.rate.per_s(self.bytes_moved)
        left = self.bytes_planned - self.bytes_so_far
        return left / rate if rate > 0 and left >= 0 else None

    def _progress(self, digest: str, sent: int, size: int) -> None:
        blob = self.moving.get(digest)
        if blob is None:
            blob = self.moving[digest] = MovingBlob(digest, size, 0, Rate(self._clock))
        self._in_flight += sent - blob.sent
        blob.sent = sent
        blob.rate.add(sent)
        self.rate.add(self.bytes_moved)

    def _finish(self, digest: str, size: int, event: BlobDone) -> None:
        blob = self.moving.pop(digest, None)
        self._in_flight -= blob.sent if blob else 0
        if digest not in self.done:
            self.done[digest] = event
            self.bytes_done += size
            self._moved += size if event.outcome == "moved" else 0
        self.rate.add(self.bytes_moved)
