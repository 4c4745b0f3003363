"""What happened, as values. A copy hands them to one callable, which must return at once and never raise.

Progress events may be dropped when they come faster than ten a second for one blob; every other event is
delivered, in order. Sizes and counts are bytes unless said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BlobOutcome = Literal["moved", "skipped", "mounted"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class CopyStarted(Event):
    """The source reference is resolved. ``digest`` is what will be copied."""

    source: str
    target: str
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class BlobPlanned(Event):
    """A blob was found in the graph for the first time; totals can grow until the walk is over."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class BlobStarted(Event):
    """Bytes of the blob begin to move."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class BlobProgress(Event):
    """``sent`` bytes of the blob have gone to the target so far. Falls when an upload starts again."""

    digest: str
    sent: int
    size: int


@dataclass(frozen=True, slots=True)
class BlobDone(Event):
    """The target has the blob."""

    digest: str
    size: int
    outcome: BlobOutcome


@dataclass(frozen=True, slots=True)
class ManifestDone(Event):
    """The target has the manifest; ``pushed`` is False when it was there before."""

    digest: str
    media_type: str
    pushed: bool


@dataclass(frozen=True, slots=True)
class Retrying(Event):
    """A request failed and is tried again. ``reason`` is one line without secrets."""

    side: str
    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the person should know; the copy goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class CopyDone(Event):
    """The tag is written (or the manifest pushed by digest)."""

    digest: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyFailed(Event):
    """One copy of many ended with ``error``; the others go on. A single copy raises its error instead."""

    source: str
    target: str
    error: Exception


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that listens to nothing."""
