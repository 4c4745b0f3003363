"""The live display on a terminal. The only module that imports rich."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossdock.cli.display import notice, short
from crossdock.cli.failure import TERMINAL_WIDTH
from crossdock.cli.tally import Tally
from crossdock.events import CopyFailed, Event, Retrying, UploadResumed, Warned
from crossdock.runs.totals import MovingBlob
from crossdock.units import format_duration, format_size

_FRAME_S = 0.125
_MOST_BARS = 12
_KEPT_NOTICES = 100
_WORDS_WIDTH = 62  # columns of a line without its bar: digest, sizes, rate, time left and gaps
_WINDOW_S = 8.0  # a rate over fewer seconds jumps, over more it hides a stall
_SAMPLE_S = 0.25
_SHOW_CURSOR = "\x1b[?25h"


class LiveDisplay:
    """Bars of the blobs under way above a total line, redrawn by a thread until closed, then removed."""

    def __init__(self, tally: Tally, stream: TextIO) -> None:
        self._tally = tally
        self._rates: dict[str, Rate] = {}  # of the blobs under way
        self._stream = stream
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._notices: deque[str] = deque(maxlen=_KEPT_NOTICES)
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            auto_refresh=False,  # rich's own thread would print a traceback when the terminal goes away
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossdock-live", daemon=True)
        self._thread.start()

    def __call__(self, event: Event, copy: int | None = None) -> None:
        """Keep notices to print above the bars; the bars themselves read the tally."""
        if isinstance(event, UploadResumed):
            self._rates.pop(event.digest, None)  # the bytes before were not sent now
        if isinstance(event, Retrying | UploadResumed | Warned | CopyFailed):
            name = "" if copy is None else self._tally.name(copy)
            self._notices.append(notice(event, name, TERMINAL_WIDTH, self._tally.face))

    def close(self) -> None:
        """Remove the bars and show the cursor."""
        self._stop.set()
        self._thread.join(5.0)

    def restore(self) -> None:
        """Show the cursor at once: the process will end."""
        try:
            # By descriptor, and only what is taken at once: the thread may hold the stream's lock while it
            # waits for a terminal that was stopped (Ctrl-S).
            descriptor = self._stream.fileno()
            if select.select([], [descriptor], [], 0)[1]:
                os.write(descriptor, _SHOW_CURSOR.encode())
        except (OSError, ValueError):
            pass

    def render(self) -> Group:
        """The bars and the totals, as they are now."""
        moving = sorted(self._tally.moving_blobs(), key=lambda blob: -blob.size)
        room = max(1, min(_MOST_BARS, self._console.height - 4))
        lines: list[Table | Text] = []
        if moving:
            lines.append(self._bars(moving[:room]))
        if len(moving) > room:
            lines.append(Text(f"… and {len(moving) - room} more", style="dim"))
        lines.append(Text(self._tally.title(), style="dim", no_wrap=True, overflow="ellipsis"))
        lines.append(Text(self._tally.summary(), style="bold", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _bars(self, blobs: list[MovingBlob]) -> Table:
        bar_width = max(4, min(32, self._console.width - _WORDS_WIDTH))
        table = Table.grid(padding=(0, 1))
        for _ in range(5):
            table.add_column(no_wrap=True)
        self._rates = {each.digest: self._rates.get(each.digest) or Rate() for each in blobs}
        for blob in blobs:
            rate = self._rates[blob.digest].per_s(blob.sent)
            left = format_duration((blob.size - blob.sent) / rate) if rate > 0 else "-"
            table.add_row(
                short(blob.digest).rpartition(":")[2],
                ProgressBar(total=max(1, blob.size), completed=blob.sent, width=bar_width),
                f"{format_size(blob.sent)} / {format_size(blob.size)}",
                f"{format_size(rate)}/s",
                left,
            )
        return table

    def _run(self) -> None:
        # A terminal that went away (ValueError, OSError) ends the picture, never the copy.
        try:
            with self._live:
                while not self._stop.wait(_FRAME_S):
                    self._print_notices()
                    self._live.refresh()
                self._print_notices()
        except (OSError, ValueError):
            return

    def _print_notices(self) -> None:
        while self._notices:
            self._console.print(Text(self._notices.popleft()))


class Rate:
    """Bytes a second over the last seconds, from samples of a running total."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=round(_WINDOW_S / _SAMPLE_S))

    def per_s(self, total: int) -> float:
        """The rate up to `total` now; 0.0 while it is unknown. A falling total restarts the window."""
        now, samples = self._clock(), self._samples
        if samples and total < samples[-1][1]:
            samples.clear()
        if not samples or now - samples[-1][0] >= _SAMPLE_S:
            samples.append((now, total))
        start, first = next((each for each in samples if now - each[0] <= _WINDOW_S), (now, total))
        return (total - first) / (now - start) if now - start >= _SAMPLE_S else 0.0
