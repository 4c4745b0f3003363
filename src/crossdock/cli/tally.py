"""A run as displays and reports need it: its totals in words, and what they need of its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from crossdock.cli.picture import Figures, total_parts
from crossdock.events import BlobDone, BlobSpooled, CopyStarted, Event, UploadKept
from crossdock.runs.totals import Totals
from crossdock.units import count

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

    def figures(self) -> Figures:
        """The figures of the total line."""
        totals = self.totals
        return Figures(
            there=totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted,
            found=totals.bytes_found,
            rate=totals.bytes_per_second,
            elapsed=totals.seconds,
            left=totals.seconds_left,
            failed=totals.images_failed if self.is_many else 0,
            limit=totals.limited_by,
        )

    def summary(self) -> str:
        """The total as a line of a log: ``57 of 200 copies, 43%, 431.2/1024.0 MiB, 139.0 MiB/s, …``."""
        retries = self.totals.retries
        words = [self._counted(), *total_parts(self.figures())]
        words += [count(retries, "retry", "retries")] if retries else []
        return ", ".join(words)

    def _counted(self) -> str:
        """``57 of 200 copies``; for a single copy ``12 of 14 blobs``."""
        totals = self.totals
        if self._pairs is None:
            return f"{totals.blobs_done} of {count(totals.blobs_found, 'blob')}"
        return f"{totals.images_done} of {count(len(self._pairs), 'copy', 'copies')}"

    def title(self) -> str:
        """``SOURCE -> TARGET`` of a single copy; for many, the numbers of copies done and under way."""
        if self._pairs is None:
            started = self._started
            return f"{started.source} -> {started.target}" if started else "resolving the source"
        listing = "" if self.totals.is_listed else ", still listing"
        return f"{self._counted()} done, {len(self.totals.under_way)} under way{listing}"

    def name(self, copy: int) -> str:
        """``SOURCE -> TARGET`` of the copy with this index."""
        if self._pairs is None:
            return self.title()
        return " -> ".join(self.pair(copy))

    def pair(self, copy: int) -> tuple[str, str]:
        """Source and target of the copy with this index, which has not ended."""
        source, target = self._pairs[copy] if self._pairs is not None else ("", "")
        return str(source), str(target)
