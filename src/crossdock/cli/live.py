"""The live display on a terminal: a picture that is drawn a few times a second, and removed at the end.

Between two drawings the cursor is on the picture's first line. When a window is made narrower, the terminal
wraps the picture's lines, and the cursor stays on the first one. So everything from the cursor on is erased,
however many rows it takes now, and the picture is drawn again. Lines are cut at the last column, because the
window may already be narrower than the reported size (tmux reports a new size up to 0.25 s late). rich 15
leaves the cursor below the picture and moves it up by the number of lines written, so that it leaves rows of
wrapped lines behind.

Rows that the terminal moves to its scrollback while it wraps cannot be erased: tmux moves the top of a
picture that has empty rows below it.
"""

from __future__ import annotations

import os
import select
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from crossdock.cli.display import notice
from crossdock.cli.failure import failure_width, is_terminal, window_of
from crossdock.cli.picture import picture, rows_of
from crossdock.cli.streams import ResultWriter, writer_of
from crossdock.cli.tally import Tally
from crossdock.events import CopyFailed, Event, Retrying, UploadResumed, Warned
from crossdock.runs.totals import MovingBlob

_FRAME_S = 0.125
_KEPT_NOTICES = 100
_KEPT_RESULTS = 65_536
_WINDOW_S = 8.0  # a rate over fewer seconds jumps, over more it hides a stall
_SAMPLE_S = 0.25
_STILL_S = 2.0  # a blob without progress for so long waits
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_LINE, _END_OF_SCREEN = "\x1b[2K", "\x1b[J"  # erase, also the mark of a wrapped line
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"  # at the last column: autowrap off and on
# Not \x1b[J from the top left corner: tmux takes that for a cleared screen, and keeps its old content.
_ERASE = f"\r{_LINE}\n\r{_END_OF_SCREEN}\x1b[A"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[m"


class LiveDisplay:
    """Blobs under way above a total, redrawn by a thread until closed, then removed.

    Results go above it when stdout is the same terminal.
    """

    def __init__(self, tally: Tally, stream: TextIO, results: ResultWriter | None = None) -> None:
        self._tally = tally
        self._rates: dict[tuple[str, str], Rate] = {}  # of the blobs under way, by target and digest
        self._stream = stream
        self._write = writer_of(stream)
        self._results = results
        self._has_results = results is not None and _is_same(results.stream, stream)
        self._above: deque[str] = deque(maxlen=_KEPT_RESULTS if self._has_results else _KEPT_NOTICES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossdock-live", daemon=True)
        self._thread.start()

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Keep notices to print above the picture, which itself reads the tally."""
        if isinstance(event, UploadResumed):
            for key in [each for each in tuple(self._rates) if each[1] == event.digest]:
                self._rates.pop(key, None)  # the bytes before were not sent now
        if isinstance(event, Retrying | UploadResumed | Warned | CopyFailed):
            name = "" if copy is None else self._tally.name(copy)
            self._above.append(notice(event, name, failure_width(self._stream), self._tally.face))

    def result(self, line: str) -> None:
        """As `Display.result`."""
        if self._has_results:
            self._above.append(line)
        elif self._results is not None:
            self._results.offer(line)

    def close(self) -> None:
        """Remove the picture and show the cursor."""
        self._stop.set()
        self._thread.join(5.0)

    def restore(self) -> None:
        """Remove the picture and show the cursor at once: the process will end."""
        try:
            # By descriptor, and only what is taken at once: the thread may hold the stream's lock while it
            # waits for a terminal that was stopped (Ctrl-S).
            descriptor = self._stream.fileno()
            if select.select([], [descriptor], [], 0)[1]:
                os.write(descriptor, (_WRAP + _ERASE + _SHOW_CURSOR).encode())
        except (OSError, ValueError):
            pass

    def lines(self, columns: int, lines: int) -> list[str]:
        """The picture as it is now, for a window of this size; the last lines are the total."""
        tally = self._tally
        images = tally.totals.images_under_way()
        keys = {(image.target, blob.digest) for image in images for blob in image.moving}
        self._rates = {key: self._rates.get(key) or Rate() for key in keys}
        return picture(tally.title(), rows_of(images, self._rate), tally.figures(), columns, lines)

    def _rate(self, target: str, blob: MovingBlob) -> float:
        rate = self._rates.get((target, blob.digest))
        return rate.per_s(blob.sent) if rate is not None else 0.0

    # -- drawing, in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        # A terminal that went away (ValueError, OSError) ends the picture, never the copy.
        try:
            self._write(_HIDE_CURSOR)
            while not self._stop.wait(_FRAME_S):
                self._draw()
            self._write(f"\r{self._taken()}{_ERASE}{_SHOW_CURSOR}")
        except (OSError, ValueError):
            return

    def _draw(self) -> None:
        columns, lines = self._window()
        drawn = [line[: columns - 1] for line in self.lines(columns, lines)]
        drawn[-1] = f"{_BOLD}{drawn[-1]}{_PLAIN}"
        body = _CUT + "\r\n".join(f"{_LINE}{line}" for line in drawn) + _END_OF_SCREEN + _WRAP
        back = f"\x1b[{len(drawn) - 1}A" if len(drawn) > 1 else ""
        self._write(f"\r{self._taken()}{body}\r{back}")

    def _taken(self) -> str:
        """The lines to be printed above the picture, where they stay."""
        found = []
        while self._above:
            found += [f"{_LINE}{line}{_END_OF_SCREEN}\r\n" for line in self._above.popleft().split("\n")]
        return "".join(found)

    def _window(self) -> tuple[int, int]:
        """Columns and lines, asked just before they matter."""
        columns, lines = window_of(self._stream)
        if not (columns and lines):  # a serial console, for instance, has no size
            columns, lines = shutil.get_terminal_size()
        return columns, lines


class Rate:
    """Bytes a second over the last seconds, from samples of a running total."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0, clock()  # the total, and when it last changed
        self._samples: deque[tuple[float, int]] = deque(maxlen=round(_WINDOW_S / _SAMPLE_S))

    def per_s(self, total: int) -> float:
        """The rate up to `total` now; 0.0 while it is unknown, and when nothing has moved for 2 seconds.

        A falling total restarts the window.
        """
        now, samples = self._clock(), self._samples
        if total != self._last[0]:
            self._last = total, now
        elif now - self._last[1] >= _STILL_S:
            return 0.0
        if samples and total < samples[-1][1]:
            samples.clear()
        if not samples or now - samples[-1][0] >= _SAMPLE_S:
            samples.append((now, total))
        start, first = next((each for each in samples if now - each[0] <= _WINDOW_S), (now, total))
        return (total - first) / (now - start) if now - start >= _SAMPLE_S else 0.0


def _is_same(one: TextIO, other: TextIO) -> bool:
    """Whether both are the same terminal."""
    if not is_terminal(one):
        return False
    try:
        return os.fstat(one.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
    except (OSError, ValueError):
        return False
