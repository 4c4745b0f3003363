"""Running counts of a copy, made from its events. Fed by the event loop, read by display threads as well."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from crossdock.events import (
    BlobDone,
    BlobPlanned,
    BlobProgress,
    BlobSpooled,
    BlobStarted,
    CopyStarted,
    Event,
    ManifestDone,
    Retrying,
    UploadKept,
    UploadResumed,
)

Kept = UploadKept | BlobSpooled
"""What a copy that ended early leaves for the next one."""

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

    def skip(self, by: int) -> None:
        """The total has grown by what was not moved now."""
        self._samples = deque(((at, total + by) for at, total in self._samples), self._samples.maxlen)

    def per_s(self, total: int) -> float:
        """The rate up to `total` now; 0.0 before it can be told."""
        now = self._clock()
        samples = [each for each in list(self._samples) if now - each[0] <= _WINDOW_S]
        if not samples:
            return 0.0
        start, first = samples[0]
        return max(0.0, (total - first) / (now - start)) if now - start >= _SAMPLE_S else 0.0


class MovingBlob(Struct):
    """A blob under way."""

    digest: str
    size: int
    sent: int
    rate: Rate


class CopyCounts:
    """What happened so far in one copy, or in an import's several. Sizes are bytes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started: CopyStarted | None = None
        self.planned: dict[str, int] = {}  # digest → size
        self.moving: dict[str, MovingBlob] = {}
        self.done: dict[str, BlobDone] = {}
        self.kept: list[Kept] = []
        self.manifests = 0
        self.retries = 0
        self.bytes_done = 0  # of blobs that the target has, however it came to them
        self.bytes_planned = 0
        self.rate = Rate(clock)
        self._moved = 0
        self._in_flight = 0

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if type(event) is BlobPlanned:  # the commonest first: fifteen events an image, thousands of images
            if event.digest not in self.planned:
                self.planned[event.digest] = event.size
                self.bytes_planned += event.size
        elif type(event) is BlobDone:
            self._finish(event)
        elif type(event) is BlobProgress:
            self._progress(event.digest, event.sent, event.size)
        elif type(event) is BlobStarted:
            self._progress(event.digest, 0, event.size)
        elif type(event) is ManifestDone:
            self.manifests += 1
        elif type(event) is Retrying:
            self.retries += 1
        elif type(event) is UploadResumed:
            self._resume(event.digest, event.offset)
        elif type(event) is UploadKept or type(event) is BlobSpooled:
            self.kept.append(event)
        elif type(event) is CopyStarted:
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

    def _resume(self, digest: str, offset: int) -> None:
        blob = self.moving[digest]  # it was started
        self.rate.skip(offset - blob.sent)
        blob.rate.skip(offset - blob.sent)
        self._in_flight += offset - blob.sent
        blob.sent = offset

    def _finish(self, event: BlobDone) -> None:
        digest = event.digest
        blob = self.moving.pop(digest, None)
        if blob is not None:
            self._in_flight -= blob.sent
        if digest not in self.done:
            self.done[digest] = event
            self.bytes_done += event.size
            if event.outcome == "moved":
                self._moved += event.size
        if blob is not None:
            self.rate.add(self.bytes_moved)
