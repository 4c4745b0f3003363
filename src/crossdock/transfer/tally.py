"""Counting what a copy did, and telling its listener."""

from __future__ import annotations

import logging
import time

from msgspec import Struct, field

from crossdock.errors import Side
from crossdock.events import (
    BlobDone,
    BlobOutcome,
    BlobProgress,
    Event,
    Listener,
    ManifestDone,
    Retrying,
    Warned,
)
from crossdock.oci.descriptor import Descriptor

log = logging.getLogger("crossdock")
log.addHandler(logging.NullHandler())  # without it Python prints warnings that no application asked for

PROGRESS_PERIOD_S = 0.1  # per blob; faster than an eye, slow enough to cost nothing


class Tally(Struct):
    """The figures of one copy. A blob counts once, however often it occurs."""

    listener: Listener
    manifests: int = 0
    referrers: int = 0
    referrers_copied: int = 0
    blobs: dict[BlobOutcome, int] = field(default_factory=lambda: {"moved": 0, "skipped": 0, "mounted": 0})
    bytes: dict[BlobOutcome, int] = field(default_factory=lambda: {"moved": 0, "skipped": 0, "mounted": 0})
    bytes_requested: int = 0
    bytes_resumed: int = 0
    bytes_spooled: int = 0
    uploads_resumed: int = 0
    retries: int = 0
    warnings: list[str] = field(default_factory=list)
    _last_progress: dict[str, float] = field(default_factory=dict)

    def emit(self, event: Event) -> None:
        """Hand one event to the listener."""
        self.listener(event)

    def requested(self, count: int) -> None:
        """`count` bytes were asked of the source."""
        self.bytes_requested += count

    def retried(self, side: Side, operation: str, reason: str) -> None:
        """A request failed for `reason` (one line, no secrets) and is sent again."""
        self.retries += 1
        log_retry(side, operation, reason)
        self.emit(Retrying(side, operation, reason))

    def warn(self, message: str) -> None:
        """Something the person should know; told once."""
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning("%s", message)
            self.emit(Warned(message))

    def progress(self, blob: Descriptor, sent: int) -> None:
        """`sent` bytes of the blob have gone to the target; told at most ten times a second."""
        now = time.monotonic()
        if now - self._last_progress.get(blob.digest, 0.0) >= PROGRESS_PERIOD_S:
            self._last_progress[blob.digest] = now
            self.emit(BlobProgress(blob.digest, sent, blob.size))

    def resumed(self, offset: int) -> None:
        """An upload of an earlier process has come to its end; `offset` bytes were not sent again."""
        self.bytes_resumed += offset
        self.uploads_resumed += 1

    def spooled(self, count: int) -> None:
        """`count` bytes came from the spool, and were not asked of the source."""
        self.bytes_spooled += count

    def blob_done(self, blob: Descriptor, outcome: BlobOutcome, before: BlobOutcome | None = None) -> None:
        """The target has the blob. `before` is what was told of it earlier, and turned out to be wrong."""
        if before is not None:
            self.blobs[before] -= 1
            self.bytes[before] -= blob.size
        self.blobs[outcome] += 1
        self.bytes[outcome] += blob.size
        self._last_progress.pop(blob.digest, None)
        self.emit(BlobDone(blob.digest, blob.size, outcome))

    def manifest_done(self, manifest: Descriptor, *, pushed: bool) -> None:
        """The target has the manifest."""
        self.manifests += 1
        self.emit(ManifestDone(manifest.digest, manifest.media_type, pushed))

    def referrer_done(self, *, pushed: bool) -> None:
        """The target has what is attached to one of the manifests, and lists it so."""
        self.referrers += 1
        self.referrers_copied += pushed


def log_retry(side: Side, operation: str, reason: str) -> None:
    """Log a retry; all that is done about one where no copy counts it."""
    log.info("retrying %s %s: %s", side, operation, reason)
