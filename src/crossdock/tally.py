"""The figures of one copy, and the events that tell of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct, field

from crossdock.errors import Side
from crossdock.events import (
    BlobDone,
    BlobOutcome,
    BlobPlanned,
    BlobProgress,
    BlobStarted,
    Event,
    Listener,
    ManifestDone,
    Retrying,
    UploadResumed,
    Warned,
)
from crossdock.oci.descriptor import Descriptor

log = logging.getLogger("crossdock")
log.addHandler(logging.NullHandler())  # without it Python prints warnings that the application did not enable

PROGRESS_PERIOD_S = 0.1  # per blob; faster than an eye, slow enough to cost nothing


class Backlog(Protocol):
    """Events that their consumer has not taken yet."""

    @property
    def is_full(self) -> bool:
        """Whether the copy is to wait."""

    async def room(self) -> None:
        """Return once the consumer has caught up."""


class MovingBlob(Struct):
    """A blob under way. Sizes are bytes."""

    digest: str
    size: int
    sent: int = 0


class Tally(Struct, eq=False):
    """The figures of one copy, sizes in bytes. A blob counts once, however often it occurs.

    Another thread may read them while the event loop writes.
    """

    listener: Listener
    backlog: Backlog | None = None
    manifests: int = 0
    manifests_pushed: int = 0
    referrers: int = 0
    referrers_copied: int = 0
    blobs_found: int = 0
    bytes_found: int = 0
    blobs: dict[BlobOutcome, int] = field(default_factory=lambda: {"moved": 0, "skipped": 0, "mounted": 0})
    bytes: dict[BlobOutcome, int] = field(default_factory=lambda: {"moved": 0, "skipped": 0, "mounted": 0})
    moving: dict[str, MovingBlob] = field(default_factory=dict)
    bytes_requested: int = 0
    bytes_resumed: int = 0
    bytes_spooled: int = 0
    bytes_held: int = 0
    """Bytes that the target had of uploads under way when they were resumed."""
    uploads_resumed: int = 0
    retries: int = 0
    warnings: list[str] = field(default_factory=list)
    _last_progress: dict[str, float] = field(default_factory=dict)
    _planned: set[str] = field(default_factory=set)  # digests of blobs
    _read: set[str] = field(default_factory=set)  # digests of manifests
    _unread: set[str] = field(default_factory=set)

    def emit(self, event: Event) -> None:
        """Hand one event to the listener."""
        self.listener(event)

    @property
    def lags(self) -> bool:
        """Whether events wait for their consumer: await `room` before more is done."""
        return self.backlog is not None and self.backlog.is_full

    async def room(self) -> None:
        """Return once the consumer of the events has caught up."""
        if self.backlog is not None:
            await self.backlog.room()

    @property
    def is_planned(self) -> bool:
        """Whether every manifest that is known was read, so that ``bytes_found`` is the total."""
        return bool(self._read) and not self._unread

    @property
    def bytes_sent(self) -> int:
        """Bytes that have gone to the target, of blobs done and under way."""
        return self.bytes["moved"] + sum(blob.sent for blob in tuple(self.moving.values()))

    @property
    def changed(self) -> bool:
        """Whether the target got anything that it did not have."""
        return bool(self.manifests_pushed or self.blobs["moved"] or self.blobs["mounted"])

    def planned(
        self, manifest: Descriptor, manifests: Iterable[Descriptor], blobs: Iterable[Descriptor]
    ) -> None:
        """`manifest` was read and lists these."""
        self._read.add(manifest.digest)
        self._unread.discard(manifest.digest)
        self._unread.update(each.digest for each in manifests if each.digest not in self._read)
        for blob in blobs:
            if blob.digest not in self._planned:
                self._planned.add(blob.digest)
                self.blobs_found += 1
                self.bytes_found += blob.size
                self.emit(BlobPlanned(blob.digest, blob.size))

    def started(self, blob: Descriptor) -> None:
        """Bytes of the blob begin to move."""
        self.moving[blob.digest] = MovingBlob(blob.digest, blob.size)
        self.emit(BlobStarted(blob.digest, blob.size))

    def requested(self, count: int) -> None:
        """`count` bytes were requested from the source."""
        self.bytes_requested += count

    def retried(self, side: Side, operation: str, reason: str) -> None:
        """A request failed for `reason` (one line, no secrets) and is sent again."""
        self.retries += 1
        log_retry(side, operation, reason)
        self.emit(Retrying(side, operation, reason))

    def warn(self, message: str) -> None:
        """Something the person should know; reported once."""
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning("%s", message)
            self.emit(Warned(message))

    def progress(self, blob: Descriptor, sent: int) -> None:
        """`sent` bytes of the blob have gone to the target; an event at most ten times a second."""
        moving = self.moving.get(blob.digest)
        if moving is not None:
            moving.sent = sent
        now = time.monotonic()
        if now - self._last_progress.get(blob.digest, 0.0) >= PROGRESS_PERIOD_S:
            self._last_progress[blob.digest] = now
            self.emit(BlobProgress(blob.digest, sent, blob.size))

    def taken_up(self, blob: Descriptor, offset: int) -> None:
        """The upload of an earlier process is resumed at `offset`."""
        self.bytes_held += offset
        self.emit(UploadResumed(blob.digest, offset, blob.size))
        self.progress(blob, offset)

    def resumed(self, offset: int) -> None:
        """An upload of an earlier process is complete; `offset` bytes were not sent again."""
        self.bytes_resumed += offset
        self.uploads_resumed += 1

    def spooled(self, count: int) -> None:
        """`count` bytes came from the spool, and were not requested from the source."""
        self.bytes_spooled += count

    def blob_done(self, blob: Descriptor, outcome: BlobOutcome, before: BlobOutcome | None = None) -> None:
        """The target has the blob. `before` is an earlier outcome that turned out to be wrong."""
        if before is not None:
            self.blobs[before] -= 1
            self.bytes[before] -= blob.size
        self.blobs[outcome] += 1
        self.bytes[outcome] += blob.size
        self.moving.pop(blob.digest, None)
        self._last_progress.pop(blob.digest, None)
        self.emit(BlobDone(blob.digest, blob.size, outcome))

    def manifest_done(self, manifest: Descriptor, *, pushed: bool) -> None:
        """The target has the manifest."""
        self.manifests += 1
        self.manifests_pushed += pushed
        self.emit(ManifestDone(manifest.digest, manifest.media_type, pushed))

    def referrer_done(self, *, pushed: bool) -> None:
        """The target has a referrer of one of the manifests, and lists it."""
        self.referrers += 1
        self.referrers_copied += pushed


def log_retry(side: Side, operation: str, reason: str) -> None:
    """Log a retry."""
    log.warning("retrying %s %s: %s", side, operation, reason)
