"""A run as displays and reports need it: its totals in words, and what they need of its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from crossdock.events import BlobDone, BlobSpooled, CopyStarted, Event, UploadKept
from crossdock.runs.totals import MovingBlob, Totals
from crossdock.units import count, format_duration, format_size

if TYPE_CHECKING:
    from crossdock.cli.advice import Face

Kept = UploadKept | BlobSpooled
"""The part of a blob that an interrupted copy leaves to the next one."""

_NOTED = frozenset({BlobDone, UploadKept, BlobSpooled, CopyStarted})


class PairNames(Protocol):
    """The pairs of a run that are known so far; their number may grow."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> tuple[object, object]:
        """Source and target of a copy that has not ended."""


class Tally:
    """One run, of one copy or of the copies of `pairs`. Read by displays, also from their threads.

    With `keeps_blobs` it keeps the blobs of each copy for a report.
    """

    def __init__(
        self,
        totals: Totals | None = None,
        pairs: PairNames | None = None,
        *,
        keeps_blobs: bool = False,
        face: Face = "copy",
    ) -> None:
        """`totals` may be set later, before the run starts. `face`: whose flags advice on failures names."""
        self.totals = totals or Totals(images=1)
        self.face = face
        self.kept: list[Kept] = []
        self._pairs = pairs
        self._keeps_blobs = keeps_blobs
        self._blobs: dict[int, dict[str, BlobDone]] = {}
        self._started: CopyStarted | None = None

    def __call__(self, event: Event, copy: int = 0) -> None:
        """Note one event of the copy with this index."""
        if type(event) not in _NOTED:  # most are not: there are dozens for each image
            return
        if isinstance(event, BlobDone) and self._keeps_blobs:
            self._blobs.setdefault(copy, {}).setdefault(event.digest, event)
        elif isinstance(event, UploadKept | BlobSpooled):
            self.kept.append(event)
        elif isinstance(event, CopyStarted):
            self._started = event

    @property
    def is_many(self) -> bool:
        """Whether the run is one of many copies."""
        return self._pairs is not None

    def blobs(self, copy: int = 0) -> Sequence[BlobDone]:
        """The blobs that the target of this copy has; none unless they are kept."""
        return list(self._blobs.get(copy, {}).values())

    def forget(self, copy: int) -> None:
        """Drop the blobs of this copy."""
        self._blobs.pop(copy, None)

    # -- in words ------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Nothing is known yet that a summary could count."""
        totals = self.totals
        if not self.is_many:
            return not totals.blobs_found
        return not (totals.images_done or totals.images_failed or totals.bytes_done)

    def summary(self) -> str:
        """``12 of 14 blobs, 431.2 MiB of 1.0 GiB, 139.0 MiB/s, 4.4 s left`` of one copy, or
        ``57 of 200 copies, 2 failed, 431.2 MiB moved, 139.0 MiB/s``.
        """
        totals = self.totals
        moved = totals.bytes_done
        if self._pairs is None:
            there = moved + totals.bytes_skipped + totals.bytes_mounted
            words = [f"{totals.blobs_done} of {totals.blobs_found} blobs"]
            words.append(f"{format_size(there)} of {format_size(totals.bytes_found)}")
        else:
            words = [f"{totals.images_done} of {count(len(self._pairs), 'copy', 'copies')}"]
            words += [f"{totals.images_failed} failed"] if totals.images_failed else []
            words.append(f"{format_size(moved)} moved")
        words.append(f"{format_size(totals.bytes_per_second)}/s")
        left = totals.seconds_left
        words += [f"{format_duration(left)} left"] if left and self._pairs is None else []
        words += [count(totals.retries, "retry", "retries")] if totals.retries else []
        return ", ".join(words)

    def title(self) -> str:
        """``SOURCE -> TARGET`` of the copy under way that began first, and how many more there are."""
        if self._pairs is None:
            started = self._started
            return f"{started.source} -> {started.target}" if started else "resolving the source"
        running = self.totals.under_way
        if not running:
            return ""
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        return " -> ".join(running[0]) + more

    def moving_blobs(self) -> list[MovingBlob]:
        """The blobs under way."""
        return self.totals.moving

    def name(self, copy: int) -> str:
        """``SOURCE -> TARGET`` of the copy with this index."""
        if self._pairs is None:
            return self.title()
        source, target = self._pairs[copy]
        return f"{source} -> {target}"
