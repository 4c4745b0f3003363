"""The figures of a run in Prometheus' text format, for a node exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator

from crossdock.runs.totals import Totals

_GAUGES = {
    "images_found": "Images that were found so far: one tag, or one manifest without a tag, for one target.",
    "bytes_found": "Bytes of the blobs of the images whose manifests were read so far.",
    "bytes_per_second": "Bytes sent to the target per second, over the last 8 seconds.",
    "seconds": "Seconds since the run began.",
}
_COUNTERS = {
    "images_done": "Images that the target has.",
    "images_failed": "Images that failed.",
    "bytes_done": "Bytes sent to the target.",
    "bytes_skipped": "Bytes that the target had.",
    "bytes_mounted": "Bytes that the target took from another of its repositories.",
    "requests": "HTTP requests sent.",
    "retries": "Requests that failed and were sent again.",
}
_LIMITS = ("source", "target", "cpu", "rate limit")


def metrics_text(totals: Totals, file: str, run: str, *, ended: bool) -> str:
    """The figures of the run `run` of the migration file `file`. May be called from any thread."""
    label = f'{{file="{_escaped(file)}",run="{_escaped(run)}"}}'
    return "".join(f"{line}\n" for line in _lines(totals, label, ended))


def _lines(totals: Totals, label: str, ended: bool) -> Iterator[str]:
    for name, text in _GAUGES.items():
        yield from _family(f"crossdock_run_{name}", "gauge", text)
        yield f"crossdock_run_{name}{label} {getattr(totals, name):.10g}"
    for name, text in _COUNTERS.items():
        yield from _family(f"crossdock_run_{name}_total", "counter", text)
        yield f"crossdock_run_{name}_total{label} {getattr(totals, name)}"
    if (left := totals.seconds_left) is not None:
        yield from _family("crossdock_run_seconds_left", "gauge", "Seconds that the rest takes.")
        yield f"crossdock_run_seconds_left{label} {left:.10g}"
    yield from _family("crossdock_run_limited", "gauge", "1 for what most of the last 5 s were waited for.")
    limit = totals.limited_by
    for each in _LIMITS:
        yield f'crossdock_run_limited{label[:-1]},by="{each}"}} {int(each == limit)}'
    yield from _family("crossdock_run_ended", "gauge", "1 when the run has ended.")
    yield f"crossdock_run_ended{label} {int(ended)}"


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
