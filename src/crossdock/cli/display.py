"""Progress on stderr: events go in, lines or a live picture come out.

A display is a listener that only notes what it is told; a thread of its own does the writing. So a slow or
broken stderr can neither stop nor end a copy.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol, TextIO

from crossdock.cli.failure import fold
from crossdock.cli.streams import LineWriter
from crossdock.cli.tally import Tally
from crossdock.cli.units import count, format_duration, format_size
from crossdock.events import BlobDone, BlobProgress, CopyDone, CopyStarted, Event, Retrying, Warned

PLAIN_INTERVAL_S = 5.0
NOTABLE_SIZE = 8 << 20  # plain: a line for each blob moved of this size; small ones are many
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class Display(Protocol):
    """A listener with an end."""

    def __call__(self, event: Event) -> None:
        """Take note of one event; returns at once, never raises."""

    def close(self) -> None:
        """Show what is left and clear up, within seconds."""

    def restore(self) -> None:
        """Leave the terminal usable, at once: the process is about to end."""


def open_display(mode: str, tally: Tally, stream: TextIO | None = None) -> Display:
    """The display for ``--progress MODE``. `tally` must be fed before the display is."""
    stream = stream or sys.stderr
    if mode == "auto":
        mode = "live" if is_terminal(stream) else "quiet"
    if mode == "live":
        from crossdock.cli.live import LiveDisplay  # rich, only for those who see it

        return LiveDisplay(tally, stream)
    if mode == "json":
        return JsonDisplay(stream)
    if mode in ("plain", "quiet"):
        return PlainDisplay(tally, stream, eager=mode == "plain")
    return NoDisplay()


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can be drawn upon."""
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    except (OSError, ValueError):
        return False


class NoDisplay:
    """``--progress none``."""

    def __call__(self, event: Event) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to clear up."""

    def restore(self) -> None:
        """Nothing to restore."""


class JsonDisplay(NoDisplay):
    """One event a line: ``{"event": "blob_done", "time": 1700000000.123, …}``.

    Lines may be lost when nobody reads them; a closing ``{"event": "lines_lost"}`` then says how many.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._writer = LineWriter(stream)
        self._clock = clock

    def __call__(self, event: Event) -> None:
        """Write the event."""
        document = event_document(event, self._clock())
        self._writer.offer(json.dumps(document), droppable=isinstance(event, BlobProgress))

    def close(self) -> None:
        """Write what is left."""
        if self._writer.lost:
            document = {"event": "lines_lost", "time": round(self._clock(), 3), "count": self._writer.lost}
            self._writer.offer(json.dumps(document), last=True)
        self._writer.close()


class PlainDisplay(NoDisplay):
    """Lines for logs: each notable blob that moved, warnings, and a summary every few seconds.

    An eager display, which somebody asked for, also tells the start, every retry and the end. One that was
    chosen because stderr is no terminal is silent until the first summary is due: then a quick copy prints
    nothing but its result, and a failed one nothing but its error.
    """

    def __init__(
        self, tally: Tally, stream: TextIO, interval: float = PLAIN_INTERVAL_S, *, eager: bool = True
    ) -> None:
        self._tally = tally
        self._eager = eager
        self._writer = LineWriter(stream)
        self._pending = ""
        self._stop = threading.Event()
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name="crossdock-plain", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Write the event if it deserves a line."""
        if isinstance(event, Warned):
            self._writer.offer(notice(event))
        elif isinstance(event, BlobDone) and event.outcome == "moved" and event.size >= NOTABLE_SIZE:
            self._writer.offer(f"moved {short(event.digest)}  {format_size(event.size)}")
        elif isinstance(event, CopyStarted | Retrying) and self._eager:
            self._writer.offer(notice(event))
        elif isinstance(event, CopyStarted | Retrying):
            self._pending = notice(event)
        elif isinstance(event, CopyDone) and self._eager:
            self.tick()

    def tick(self) -> None:
        """Write the summary line, before it what was started or retried last."""
        pending, self._pending = self._pending, ""
        if pending:
            self._writer.offer(pending, droppable=True)
        self._writer.offer(summary(self._tally), droppable=True)

    def close(self) -> None:
        """Stop the summaries and write what is left."""
        self._stop.set()
        self._thread.join()
        self._writer.close()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.tick()


def notice(event: Event) -> str:
    """The line for an event that every display for people shows; empty for the others."""
    match event:
        case CopyStarted():
            return f"copying {fold(event.source)} -> {fold(event.target)}  {event.digest}"
        case Retrying():
            return f"retrying {event.side} {event.operation}: {fold(event.reason)}"
        case Warned():
            return f"warning: {fold(event.message)}"
    return ""


def summary(tally: Tally) -> str:
    """``12 of 14 blobs, 431.2 MiB of 1.0 GiB, 139.0 MiB/s, 4.4 s left``."""
    words = [
        f"{len(tally.done)} of {len(tally.planned)} blobs",
        f"{format_size(tally.bytes_so_far)} of {format_size(tally.bytes_planned)}",
        f"{format_size(tally.rate.per_s(tally.bytes_moved))}/s",
    ]
    remaining = tally.remaining_s
    if remaining is not None:
        words.append(f"{format_duration(remaining)} left")
    if tally.retries:
        words.append(count(tally.retries, "retry", "retries"))
    return ", ".join(words)


def short(digest: str) -> str:
    """The digest as people compare it: algorithm and twelve digits."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}:{encoded[:12]}"


def event_document(event: Event, now: float) -> dict[str, Any]:
    """The event as a JSON object: its name in snake case, the time, its fields."""
    name = _WORD.sub("_", type(event).__name__).lower()
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    if isinstance(event, CopyDone):
        values["seconds"] = round(event.seconds, 3)
    return {"event": name, "time": round(now, 3), **values}
