"""Progress as lines on stderr. `crossdock.cli.live` draws it on a terminal.

A display is a listener that only takes notes; a thread of its own does the writing. So a slow or broken
stderr can neither stop nor end a copy.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from crossdock.cli.failure import error_document, error_text, failure_width, fold, warning_text
from crossdock.cli.resultline import result_line, short
from crossdock.cli.streams import LineWriter, ResultWriter
from crossdock.cli.tally import Tally
from crossdock.errors import Notice
from crossdock.events import (
    BlobDone,
    BlobProgress,
    CopyDone,
    CopyFailed,
    CopyStarted,
    Event,
    Retrying,
    UploadResumed,
    Warned,
)
from crossdock.units import format_size

if TYPE_CHECKING:
    from crossdock.cli.advice import Face

PLAIN_INTERVAL_S = 5.0
NOTABLE_SIZE = 8 << 20  # bytes; larger blobs get a line in a plain display
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class Display(Protocol):
    """A listener with an end."""

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Note one event, with the index of its copy among many; returns at once, never raises."""

    def result(self, line: str) -> None:
        """Write the result of a copy to stdout; returns at once."""

    def close(self) -> None:
        """Show the rest and clean up, within seconds."""

    def restore(self) -> None:
        """Leave the terminal usable, at once: the process will end."""


class _LineDisplay:
    """The base of displays that print lines."""

    def __init__(self, stream: TextIO, results: ResultWriter | None = None) -> None:
        """`results` may write to the same terminal."""
        self._writer = LineWriter(stream)
        self._results = results
        self._width = failure_width(stream)

    def result(self, line: str) -> None:
        """As `Display.result`."""
        if self._results is not None:
            self._results.offer(line)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def restore(self) -> None:
        """Nothing to restore."""


class NoDisplay(_LineDisplay):
    """``--progress none``: only failures among many copies, which nothing else prints at once."""

    def __init__(self, tally: Tally, stream: TextIO, results: ResultWriter | None = None) -> None:
        super().__init__(stream, results)
        self._tally = tally

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Write a failure."""
        if isinstance(event, CopyFailed) and copy is not None:
            self._writer.offer(notice(event, self._tally.name(copy), self._width, self._tally.face))


class _TickingDisplay(_LineDisplay):
    """A display that writes something every few seconds, from a thread."""

    def __init__(
        self, tally: Tally, stream: TextIO, interval: float, results: ResultWriter | None = None
    ) -> None:
        super().__init__(stream, results)
        self._tally = tally
        self._stop = threading.Event()
        self._interval = interval
        self._thread = threading.Thread(target=self._run, name="crossdock-display", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """Write it."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop it and write what is left."""
        self._stop.set()
        self._thread.join()
        self.finish()
        self._writer.close()

    def finish(self) -> None:
        """Write what comes last."""

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.tick()


class JsonDisplay(_TickingDisplay):
    """One event per line: ``{"event": "blob_done", "time": 1700000000.123, …}``.

    The totals come every 5 s and at the end.
    Lines are dropped when their reader is too slow; a last ``{"event": "lines_lost"}`` says how many.
    """

    def __init__(
        self,
        tally: Tally,
        stream: TextIO,
        interval: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.time,
        results: ResultWriter | None = None,
    ) -> None:
        self._clock = clock
        super().__init__(tally, stream, interval, results)

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Write the event."""
        document = event_document(event, self._clock(), copy, self._tally.face)
        self._writer.offer(json.dumps(document), droppable=isinstance(event, BlobProgress))

    def tick(self) -> None:
        """Write the totals."""
        self._writer.offer(self._totals(), droppable=True)

    def finish(self) -> None:
        """Write the totals, and how many lines were lost."""
        self._writer.offer(self._totals(), last=True)
        if self._writer.lost:
            document = {"event": "lines_lost", "time": round(self._clock(), 3), "count": self._writer.lost}
            self._writer.offer(json.dumps(document), last=True)

    def _totals(self) -> str:
        document = {"event": "totals", "time": round(self._clock(), 3), **self._tally.totals.as_dict()}
        return json.dumps(document)


class PlainDisplay(_TickingDisplay):
    """Lines for logs: each large blob that was copied, warnings, and a summary every few seconds.

    An eager display (``--progress plain``) also prints the start, every retry and the end. One that was
    chosen because stderr is not a terminal prints nothing until the first summary: a quick copy prints only
    its result, and a failed one only its error. Of many copies each failure has a line, and an eager display
    prints the end of each instead of its start, unless stdout gets its result.
    """

    def __init__(
        self,
        tally: Tally,
        stream: TextIO,
        interval: float = PLAIN_INTERVAL_S,
        *,
        eager: bool = True,
        results: ResultWriter | None = None,
    ) -> None:
        self._eager = eager
        self._pending = ""
        super().__init__(tally, stream, interval, results)

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Write the event if it is notable."""
        if isinstance(event, Warned | CopyFailed):
            self._writer.offer(notice(event, self._name(copy), self._width, self._tally.face))
        elif isinstance(event, BlobDone) and event.outcome == "moved" and event.size >= NOTABLE_SIZE:
            self._writer.offer(f"moved {short(event.digest)}  {format_size(event.size)}")
        elif isinstance(event, CopyStarted | CopyDone) and copy is not None:
            if self._eager and self._results is None and isinstance(event, CopyDone):
                self._writer.offer(result_line(*self._tally.pair(copy), event, None))
        elif isinstance(event, CopyStarted | Retrying | UploadResumed) and self._eager:
            self._writer.offer(notice(event))
        elif isinstance(event, CopyStarted | Retrying):
            self._pending = notice(event)
        elif isinstance(event, CopyDone) and self._eager:
            self.tick()

    def _name(self, copy: int | None) -> str:
        return "" if copy is None else self._tally.name(copy)

    def tick(self) -> None:
        """Write the latest start or retry, and the summary once there is something to count."""
        pending, self._pending = self._pending, ""
        if pending:
            self._writer.offer(pending, droppable=True)
        if not self._tally.is_empty:
            self._writer.offer(self._tally.summary(), droppable=True)


def notice(event: Event, name: str = "", width: int | None = None, face: Face = "copy") -> str:
    """The line for an event in every display for people; empty for events without one.

    `name` is that of its copy among many, `width` the longest line of an error. Advice follows on further
    lines, with the flags of `face`.
    """
    match event:
        case CopyStarted():
            return f"copying {fold(event.source)} -> {fold(event.target)}  {event.digest}"
        case Retrying():
            return f"retrying {event.side} {event.operation}: {fold(event.reason)}"
        case UploadResumed():
            sizes = f"{format_size(event.offset)} of {format_size(event.size)}"
            return f"resuming {short(event.digest)} at {sizes}"
        case Warned():
            text = warning_text(event.message, face)
            return f"warning: {name}: {text}" if name else f"warning: {text}"
        case CopyFailed():
            return error_text(event.error, face, name=name, width=width)
    return ""


def event_document(event: Event, now: float, copy: int | None = None, face: Face = "copy") -> dict[str, Any]:
    """The event as a JSON object: its name in snake case, the time, the copy's index among many,
    its fields.
    """
    name = _WORD.sub("_", type(event).__name__).lower()
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    if isinstance(event, CopyDone):
        values["seconds"] = round(event.seconds, 3)
    if isinstance(event, Warned) and isinstance(event.message, Notice):
        values["message"] = warning_text(event.message, face)
    if isinstance(event, CopyFailed):
        values["error"] = error_document(event.error, face)
    of = {} if copy is None else {"copy": copy}
    return {"event": name, "time": round(now, 3), **of, **values}
