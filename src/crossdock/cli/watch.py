"""Watching a run from a thread: samples for the charts of a report, and a file of metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from crossdock.cli.exits import UsageError
from crossdock.cli.streams import warn
from crossdock.outfile import OutFile
from crossdock.runs.totals import Totals

SAMPLE_S = 0.5
METRICS_S = 5.0
MOST_SAMPLES = 600  # then every second one goes, and samples are half as frequent


class Watch:
    """Samples `totals` while its block runs. ``samples`` are seconds since the start and bytes sent.

    `metrics` gets a file of `text`, replaced as a whole every 5 seconds and at the end.
    """

    def __init__(self, totals: Totals, metrics: Path | None, text: Callable[[bool], str]) -> None:
        """`text`: the metrics; it is called with whether the run has ended.

        Raises `UsageError` when the file cannot be written.
        """
        self.samples: list[tuple[float, int]] = [(0.0, 0)]
        self._totals = totals
        self._metrics = metrics
        self._text = text
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crossdock-watch", daemon=True)
        self._has_warned = False
        if metrics is not None and (reason := self._write(ended=False)):
            raise UsageError(f"--metrics: cannot write {str(metrics)!r}: {reason}")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._sample()
        self._warn(self._write(ended=True))

    def _watch(self) -> None:
        interval, written = SAMPLE_S, 0.0
        while not self._over.wait(interval):
            self._sample()
            if len(self.samples) > MOST_SAMPLES:
                del self.samples[1::2]
                interval *= 2
            written += interval
            if written >= METRICS_S:
                written = 0.0
                self._warn(self._write(ended=False))

    def _sample(self) -> None:
        self.samples.append((self._totals.seconds, self._totals.bytes_done))

    def _write(self, *, ended: bool) -> str:
        """Replace the file; the reason when that fails, once."""
        if self._metrics is None:
            return ""
        try:
            file = OutFile(self._metrics)
            try:
                file.write(self._text(ended))
                file.finish()
            finally:
                file.discard()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _warn(self, reason: str) -> None:
        if reason and not self._has_warned:
            self._has_warned = True
            warn(f"--metrics: cannot write {str(self._metrics)!r}: {reason}")
