"""Counts of a copy, or of many, in words. Fed by the event loop, read by display threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from crossdock.counts import CopyCounts, Kept, MovingBlob, Rate
from crossdock.events import (
    BlobDone,
    BlobProgress,
    BlobSpooled,
    CopyDone,
    CopyFailed,
    Event,
    Retrying,
    UploadKept,
)
from crossdock.units import count, format_duration, format_size


class Counts(Protocol):
    """What a display shows."""

    @property
    def is_empty(self) -> bool:
        """Nothing is known yet that a summary could count."""

    def summary(self) -> str:
        """The counts in one line."""

    def title(self) -> str:
        """What is being copied."""

    def moving_blobs(self) -> list[MovingBlob]:
        """The blobs under way."""

    def name(self, copy: int) -> str:
        """``SOURCE -> TARGET`` of one copy of many."""


class PairNames(Protocol):
    """The pairs of a run: those that are known, whose number may grow."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> tuple[object, object]:
        """Source and target of a copy that is not done."""


class Tally(CopyCounts):
    """What happened so far in one copy, in words."""

    @property
    def is_empty(self) -> bool:
        """No blob is known yet: the source is being asked, perhaps in vain."""
        return not self.planned

    def summary(self) -> str:
        """``12 of 14 blobs, 431.2 MiB of 1.0 GiB, 139.0 MiB/s, 4.4 s left``."""
        words = [
            f"{len(self.done)} of {len(self.planned)} blobs",
            f"{format_size(self.bytes_so_far)} of {format_size(self.bytes_planned)}",
            f"{format_size(self.rate.per_s(self.bytes_moved))}/s",
        ]
        remaining = self.remaining_s
        if remaining is not None:
            words.append(f"{format_duration(remaining)} left")
        return ", ".join(words + _retries(self.retries))

    def title(self) -> str:
        """``SOURCE -> TARGET``, once the source is resolved."""
        started = self.started
        return f"{started.source} -> {started.target}" if started else "resolving the source"

    def moving_blobs(self) -> list[MovingBlob]:
        """The blobs under way."""
        return list(self.moving.values())

    def name(self, copy: int) -> str:
        """There is but one copy."""
        return self.title()


class ManyTally:
    """What happened so far in a run of many copies. Sizes are bytes.

    Keeps what belongs to one copy while it is under way; with `keeps_blobs` the blobs it did, for a report.
    """

    def __init__(
        self,
        pairs: PairNames,
        *,
        keeps_blobs: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pairs = pairs
        self._keeps_blobs = keeps_blobs
        self._clock = clock
        self._running: dict[int, Tally] = {}
        self._blobs: dict[int, list[BlobDone]] = {}
        self.kept: list[Kept] = []
        self.copied = 0
        self.failed = 0
        self.retries = 0
        self.bytes_moved = 0
        self.rate = Rate(clock)

    def __call__(self, event: Event, copy: int) -> None:
        """Count one event of the copy with this index."""
        tally = self._running.get(copy)
        if tally is None:
            tally = self._running[copy] = Tally(self._clock)
        kind = type(event)
        if kind is CopyDone:
            self.copied += 1
            self._end(copy, tally)
        elif kind is CopyFailed:
            self.failed += 1
            self._end(copy, tally)
        elif kind is BlobProgress or (type(event) is BlobDone and event.outcome == "moved"):
            before = tally.bytes_moved
            tally(event)
            if tally.bytes_moved != before:
                self.bytes_moved += tally.bytes_moved - before
                self.rate.add(self.bytes_moved)
        else:
            if kind is Retrying:
                self.retries += 1
            elif type(event) is UploadKept or type(event) is BlobSpooled:
                self.kept.append(event)
            tally(event)

    def blobs(self, copy: int) -> list[BlobDone]:
        """The blobs that the target of this copy has; none unless they are kept."""
        running = self._running.get(copy)
        return list(running.done.values()) if running is not None else self._blobs.get(copy, [])

    def forget(self, copy: int) -> None:
        """Keep nothing of this copy any more."""
        self._running.pop(copy, None)
        self._blobs.pop(copy, None)

    @property
    def is_empty(self) -> bool:
        """No copy has ended, and nothing has moved."""
        return not (self.copied or self.failed or self.bytes_moved)

    def summary(self) -> str:
        """``57 of 200 copies, 2 failed, 431.2 MiB moved, 139.0 MiB/s``."""
        words = [f"{self.copied} of {count(len(self._pairs), 'copy', 'copies')}"]
        if self.failed:
            words.append(f"{self.failed} failed")
        words.append(f"{format_size(self.bytes_moved)} moved")
        words.append(f"{format_size(self.rate.per_s(self.bytes_moved))}/s")
        return ", ".join(words + _retries(self.retries))

    def title(self) -> str:
        """The copy under way that began first, and how many more there are."""
        running = list(self._running)
        if not running:
            return ""
        return self.name(running[0]) + (f" and {len(running) - 1} more" if len(running) > 1 else "")

    def moving_blobs(self) -> list[MovingBlob]:
        """The blobs under way."""
        return [blob for tally in list(self._running.values()) for blob in tally.moving_blobs()]

    def name(self, copy: int) -> str:
        """``SOURCE -> TARGET`` of the copy with this index."""
        source, target = self._pairs[copy]
        return f"{source} -> {target}"

    def _end(self, copy: int, tally: Tally) -> None:
        del self._running[copy]
        if self._keeps_blobs:
            self._blobs[copy] = list(tally.done.values())


def _retries(number: int) -> list[str]:
    return [count(number, "retry", "retries")] if number else []
