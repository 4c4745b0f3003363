"""Generates docs/performance.md, its annex and charts from records; no number in them is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.annex import Used, anchor, annex, heading, machine_of, quiet, size
from benchmarks.clients import CLIENTS, is_rival
from benchmarks.processes import ROOT
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.verdict import Result, results

PAGE = ROOT / "docs" / "performance.md"
ANNEX = ROOT / "docs" / "measurements.md"

PICTURES = ("capped", "small-far")
"""The scenarios whose charts the page shows."""

ABOUT = 1.05
"""Two times that differ by less than this factor count as about the same."""

_UNITS = """
Wall clock, medians. Each tool copies the same content from the same server to the same registry, all on one
machine. *Tuned* are more processes or connections than a tool's defaults; crossdock ran with its defaults.
On a busy machine only the ratios mean something.
"""

_WHY = """
## Why

- **A source that limits each connection**, as object stores and the CDNs of public registries do: a large
  layer is fetched in several ranged requests at once, and uploaded while it still arrives.
- **A registry that is far away:** many requests are under way at once over few connections.
- **TLS on both sides:** the engine in Rust needs less CPU than Python's `ssl` (`crossdock --version` says
  `tls: rustls`).

It is **not faster** where source and target are on one fast network without TLS: there the CPU is the limit,
and crossdock hashes every byte that it copies. oras does not hash; with `--verify target` crossdock does not
either, and only the target checks the bytes. Nor is it faster than regsync if tags are compared and nothing
has to be copied: a Python program takes longer to start.

## How much memory

A copy keeps at most `--memory` bytes of blobs (256 MiB by default), whatever their size. Measured peaks:
"""

_REST = """
[Measurements](measurements.md) has every scenario with all tools, commands and charts, the kernels, and the
bars that crossdock has to meet, including those that it misses.
[benchmarks/README.md](../benchmarks/README.md) describes the method and its limits; `make bench` repeats it
on your machine. Both pages are generated from the records in `benchmarks/results` by
`python -m benchmarks report`: do not edit them.
"""


def write(paths: Sequence[Path] = ()) -> None:
    """Write the pages from the newest record of each scenario, preferring full size."""
    records = record.load(paths)
    if not records:
        raise SystemExit("benchmarks: no records in benchmarks/results: make bench writes one")
    used: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for wanted in ("quick", "full"):
        for each in records:
            if each["size"] == wanted:
                used.update({ran["name"]: (each, ran) for ran in each["scenarios"]})
    kernels = next((each for each in reversed(records) if each["kernels"]), None)
    for page, lines in ((ANNEX, annex(used, kernels)), (PAGE, summary(used))):
        page.write_text("\n".join(lines).rstrip() + "\n")


def summary(used: Used) -> list[str]:
    """The lines of the page that says when crossdock is faster, and by how much."""
    known = {scenario.name: scenario for scenario in SCENARIOS if scenario.name in used}
    raced = [each for each in known.values() if not each.reads]
    raced.sort(key=lambda each: _gain(used[each.name][1]), reverse=True)
    lines = [
        "# Performance",
        "",
        "## When is it faster, and by how much",
        "",
        "| | crossdock | the fastest other tool, as installed | the fastest, also when tuned | machine |",
        "|---|---|---|---|---|",
        *(_compared(each, *used[each.name]) for each in raced),
        *_UNITS.splitlines(),
        "",
    ]
    for name in PICTURES:
        if name in known:
            lines += [f"![{heading(known[name].title)}](performance/{name}.svg)", ""]
    lines += [*_WHY.strip().splitlines(), ""]
    for name in ("capped", "slow-target"):
        if name in known:
            ran = used[name][1]
            layer, peak = ran["workload"]["layer_size"], results(ran)["crossdock"].rss.high
            lines.append(f"- {known[name].title}, of {size(layer)}: {size(peak)}")
    lines += ["", "## How it was measured", "", *_machines([used[name][0] for name in known])]
    return lines + _REST.splitlines()


def _gain(ran: Mapping[str, Any]) -> float:
    """The wall clock of the fastest other tool with its defaults, divided by ours."""
    found = results(ran)
    walls = [one.wall.value for name, one in found.items() if is_rival(name) and not CLIENTS[name].tuned]
    return min(walls, default=0.0) / found["crossdock"].wall.value


def _compared(scenario: Scenario, rec: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    found = results(ran)
    ours = found["crossdock"]
    others = [one for name, one in found.items() if is_rival(name)]
    installed = _versus([one for one in others if not CLIENTS[one.client].tuned], ours)
    tuned = _versus(others, ours)
    title = f"[{heading(scenario.title)}](measurements.md#{anchor(scenario.title)})"
    cells = (title, f"{ours.wall.value:.2f} s", installed, "the same" if tuned == installed else tuned)
    return f"| {' | '.join((*cells, quiet(rec, ran)))} |"


def _versus(others: Sequence[Result], ours: Result) -> str:
    """The time of the fastest of `others`, and how it compares with ours."""
    if not others:
        return ""
    best = min(others, key=lambda one: one.wall.value)
    ratio = best.wall.value / ours.wall.value
    if 1 / ABOUT < ratio < ABOUT:
        words = "about the same"
    elif ratio > 1:
        words = f"crossdock is **{ratio:.2g} times as fast**"
    else:
        words = f"{1 / ratio:.2g} times as fast as crossdock"
    return f"{best.wall.value:.2f} s ({best.client}): {words}"


def _machines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each machine of the records, once, with the days on which it raced."""
    days: dict[str, set[str]] = {}
    for each in records:
        words = f"{machine_of(each)}, crossdock at {each['commit'][:10]}"
        days.setdefault(words, set()).add(each["started"][:10])
    return [f"- {' and '.join(sorted(when))}: {words}." for words, when in days.items()]
