"""Events, as values. A listener gets them in order, from the event loop; it must not block.

A listener may be a coroutine function: then it is awaited, and the copy waits for it. One that raises ends
that copy with its error.

Progress events may be dropped when they come faster than ten a second for one blob; every other event is
delivered, in order. Sizes and counts are bytes unless said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

BlobOutcome = Literal["moved", "skipped", "mounted"]
TagOutcome = Literal["new", "unchanged", "moved"]
"""What became of the target's tag: it did not exist, it named this digest already, or it named another."""


def tag_outcome(before: str | None, after: str) -> tuple[TagOutcome, str | None]:
    """What became of a tag that meant the digest `before`, if any, and means `after` now; and `before`."""
    return ("new" if before is None else "unchanged" if before == after else "moved"), before


class Event(Struct, frozen=True):
    """Base of all events."""


class CopyStarted(Event, frozen=True):
    """The source reference is resolved. ``digest`` is what will be copied."""

    source: str
    target: str
    digest: str
    media_type: str


class BlobPlanned(Event, frozen=True):
    """A blob was found in the graph for the first time; totals can grow until the walk is over."""

    digest: str
    size: int


class BlobStarted(Event, frozen=True):
    """Bytes of the blob begin to move."""

    digest: str
    size: int


class BlobProgress(Event, frozen=True):
    """``sent`` bytes of the blob have gone to the target so far. Falls when an upload starts again."""

    digest: str
    sent: int
    size: int


class UploadResumed(Event, frozen=True):
    """An upload of an earlier process is resumed: ``offset`` bytes need not be sent again."""

    digest: str
    offset: int
    size: int


class UploadKept(Event, frozen=True):
    """The copy stopped before this blob was complete; the next one resumes near ``offset``."""

    digest: str
    offset: int
    size: int


class BlobSpooled(Event, frozen=True):
    """The copy stopped before this blob was complete; ``kept`` bytes of the blob are in the spool."""

    digest: str
    kept: int
    size: int


class BlobDone(Event, frozen=True):
    """The target has the blob."""

    digest: str
    size: int
    outcome: BlobOutcome


class ManifestDone(Event, frozen=True):
    """The target has the manifest; ``pushed`` is False when it was there before."""

    digest: str
    media_type: str
    pushed: bool


class Retrying(Event, frozen=True):
    """A request failed and is tried again. ``reason`` is one line without secrets."""

    side: str
    operation: str
    reason: str


class Warned(Event, frozen=True):
    """Something the user should know; the copy continues."""

    message: str


class CopyDone(Event, frozen=True):
    """The tag is written (or the manifest pushed by digest).

    ``tag``, ``previous_digest``, ``bytes_moved`` and ``changed`` are those of a `CopyResult`.
    """

    digest: str
    seconds: float
    tag: TagOutcome | None = None
    previous_digest: str | None = None
    bytes_moved: int = 0
    changed: bool = True


class CopyFailed(Event, frozen=True):
    """One copy of many ended with ``error``; the others continue. A single copy raises its error instead."""

    source: str
    target: str
    error: Exception


Listener = Callable[[Event], object]
"""A function or a coroutine function."""


def ignore(event: Event) -> None:
    """The listener that ignores every event."""
