"""Tracks the progress of an import by the engine's events."""

from __future__ import annotations

from itertools import islice

from crossdock.acr.comparing import FoundSource
from crossdock.acr.plan import ImportPlan
from crossdock.events import CopyStarted, Event, ManifestDone, Retrying
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.reference import Reference
from crossdock.runs.totals import Totals
from crossdock.service.values import Progress

MOST_ENTRIES = 1000  # manifests in one response


class Following:
    """Keeps the `Progress` of one import. A listener of the engine's events.

    The entries are those of az-contract 2.3: ``repository:tag`` for each tag of a single manifest,
    ``repository@digest`` for each manifest of an index, in each repository.
    """

    def __init__(self, progress: Progress, plan: ImportPlan, totals: Totals) -> None:
        """`totals` are those of the import's run."""
        self._progress = progress
        self._targets = {str(each): each for each in plan.targets}
        self._totals = totals
        self._repository = ""  # of the current copy

    def found(self, source: FoundSource) -> None:
        """The source has been resolved; nothing has been copied yet."""
        targets = self._targets.values()
        below: tuple[Descriptor, ...] = (source.root, *source.manifests) if source.manifests else ()
        tags = () if below else (_tagged(each) for each in targets if each.tag)
        digests = below or (source.root,)
        repositories = dict.fromkeys(each.repository for each in targets if below or not each.tag)
        entries = (*tags, *(f"{where}@{each.digest}" for where in repositories for each in digests))
        self._progress.manifests = dict.fromkeys(islice(entries, MOST_ENTRIES), "Pending")

    def __call__(self, event: Event) -> None:
        """Note one event."""
        if type(event) is CopyStarted:
            self._repository = event.target.partition("/")[2].partition("@")[0].partition(":")[0]
        elif type(event) is ManifestDone:
            self._done(f"{self._repository}@{event.digest}")
        elif type(event) is Retrying:
            retries = self._progress.retries
            retries[event.side] = retries.get(event.side, 0) + 1
        self.refresh()

    def refresh(self) -> None:
        """Update the figures. An import that waits has no events, so call this before they are read."""
        progress, totals, moving = self._progress, self._totals, self._totals.moving
        progress.bytes = totals.bytes_here
        progress.present = totals.bytes_done + totals.bytes_skipped + totals.bytes_mounted
        progress.total = totals.bytes_found
        progress.rate = totals.bytes_per_second
        progress.blob = str(next((each.digest for each in moving), ""))  # msgspec encodes no subclass
        progress.in_flight = sum(each.sent for each in moving)
        progress.limited_by = totals.limited_by or ""

    @property
    def waits_for_others(self) -> bool:
        """Whether no request and no blob is under way: it waits for memory or places that others use."""
        return self._totals.is_idle and not self._totals.moving and not self._progress.rate

    def all_done(self) -> None:
        """The import has succeeded."""
        for entry in self._progress.manifests:
            self._done(entry)

    def _done(self, entry: str) -> None:
        if entry in self._progress.manifests:
            self._progress.manifests[entry] = "Succeeded"


def quiet(progress: Progress) -> None:
    """Reset the figures of a running import."""
    progress.rate, progress.blob, progress.in_flight, progress.limited_by = 0.0, "", 0, ""


def _tagged(reference: Reference) -> str:
    return f"{reference.repository}:{reference.tag}"
