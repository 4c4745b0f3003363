"""A run's `Totals` as if its copies had emitted these events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from crossdock.activity import Activity
from crossdock.events import (
    BlobDone,
    BlobPlanned,
    BlobProgress,
    BlobStarted,
    CopyDone,
    CopyFailed,
    Event,
    ManifestDone,
    Retrying,
    ignore,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.runs.totals import Totals
from crossdock.tally import Tally

ROOT = Descriptor("application/json", "root", 1)  # type: ignore[arg-type]


class Played:
    """Totals, and the tallies that they add up."""

    def __init__(
        self, pairs: Iterable[tuple[str, str]] = (("a", "b"),), *, clock: Callable[[], float]
    ) -> None:
        self.pairs = list(pairs)
        self.totals = Totals(images=len(self.pairs), clock=clock)
        self.totals._started_at = clock()  # as `start` notes it, which needs an event loop
        self.clock = clock
        self._running: dict[int, tuple[Tally, int]] = {}

    def play(self, events: Iterable[Event], copy: int = 0) -> None:
        """Let a copy tell these events."""
        for event in events:
            self._play(event, copy)

    def play_all(self, events: Iterable[tuple[int, Event]]) -> None:
        """Let the copies tell these events."""
        for copy, told in groupby(events, key=lambda each: each[0]):
            self.play((event for _, event in told), copy)

    def _play(self, event: Event, copy: int) -> None:
        if copy not in self._running:
            tally = Tally(ignore)
            self._running[copy] = tally, self.totals.begin(*self.pairs[copy], tally, Activity())
        tally, number = self._running[copy]
        match event:
            case BlobPlanned():
                tally.planned(ROOT, (), [_blob(event.digest, event.size)])
            case BlobStarted():
                tally.started(_blob(event.digest, event.size))
            case BlobProgress():
                tally.progress(_blob(event.digest, event.size), event.sent)
            case BlobDone():
                tally.blob_done(_blob(event.digest, event.size), event.outcome)
            case ManifestDone():
                tally.manifests += 1
            case Retrying():
                tally.retries += 1
            case CopyDone() | CopyFailed():
                self.totals.images_done += isinstance(event, CopyDone)
                self.totals.images_failed += isinstance(event, CopyFailed)
                self.totals.end(number)


def _blob(digest: str, size: int) -> Descriptor:
    return Descriptor("application/octet-stream", digest, size)  # type: ignore[arg-type]
