"""docs/performance.md and its charts, all of it from records: no number in it is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.clients import CLIENTS, is_rival
from benchmarks.processes import ROOT
from benchmarks.scenarios import SCENARIOS, Bar, Scenario
from benchmarks.svg import Row, bars

PAGE = ROOT / "docs" / "performance.md"
CHARTS = ROOT / "docs" / "performance"
_UNIT = {"wall": "s", "cpu": "s"}


@dataclass(frozen=True)
class Result:
    """One client in one scenario: medians of the measured runs, and their spread."""

    client: str
    runs: int
    failed: int
    wall: float
    wall_range: tuple[float, float]
    cpu: float
    cpu_range: tuple[float, float]
    rss: float
    source_requests: float
    target_requests: float
    source_bytes: float

    def of(self, measure: str) -> float:
        values = {"wall": self.wall, "cpu": self.cpu, "rss": self.rss, "requested": self.source_bytes}
        return values[measure]


@dataclass(frozen=True)
class Verdict:
    """A bar and what came out: `value` is a ratio, or an absolute number when nobody is compared with."""

    bar: Bar
    value: float
    rival: str

    @property
    def is_met(self) -> bool:
        return self.value <= self.bar.at_most


def results(scenario: dict[str, Any]) -> dict[str, Result]:
    """By client, those with at least one measured run that succeeded."""
    found = {}
    for name in CLIENTS:
        mine = [s for s in scenario["samples"] if s["client"] == name and not s["discarded"]]
        good = [sample for sample in mine if sample["error"] is None]
        if not good:
            continue
        walls = [sample["wall_s"] for sample in good]
        cpus = [sample["user_s"] + sample["system_s"] for sample in good]
        found[name] = Result(
            client=name,
            runs=len(good),
            failed=len(mine) - len(good),
            wall=statistics.median(walls),
            wall_range=(min(walls), max(walls)),
            cpu=statistics.median(cpus),
            cpu_range=(min(cpus), max(cpus)),
            rss=max(sample["peak_rss"] for sample in good),
            source_requests=statistics.median(sample["source_requests"] for sample in good),
            target_requests=statistics.median(sum(sample["target_requests"].values()) for sample in good),
            source_bytes=max(sample["source_blob_bytes"] for sample in good),
        )
    return found


def judge(bar: Bar, found: dict[str, Result], needed: int) -> Verdict | None:
    """The verdict of one bar, None when a client that it needs did not run."""
    ours = found.get(bar.client)
    if ours is None:
        return None
    value = ours.of(bar.measure)
    if bar.measure == "requested":
        return Verdict(bar, value / needed if needed else value, "needed")
    if bar.against == "nobody":
        return Verdict(bar, value, "")
    rivals = [result for name, result in found.items() if _is_compared(name, bar)]
    if not rivals:
        return None
    best = min(rivals, key=lambda rival: rival.of(bar.measure))
    return Verdict(bar, value / best.of(bar.measure), best.client)


def _is_compared(name: str, bar: Bar) -> bool:
    if bar.against in CLIENTS:
        return name == bar.against
    if not is_rival(name):
        return False
    if bar.against == "verifying":
        return CLIENTS[name].verifies
    return bar.against == "any" or not CLIENTS[name].tuned


def write(paths: Sequence[Path] = ()) -> None:
    """Write the page: for each scenario the run with full sizes, most clients, newest, in this order."""
    records = record.load(paths)
    if not records:
        raise SystemExit("benchmarks: no records in benchmarks/results: make bench writes one")
    CHARTS.mkdir(parents=True, exist_ok=True)
    used: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for each in records:
        for ran in each["scenarios"]:
            rank = _rank(each, ran)
            if ran["name"] not in used or rank >= _rank(*used[ran["name"]]):
                used[ran["name"]] = each, ran
    known = [scenario for scenario in SCENARIOS if scenario.name in used]
    lines = [
        "# Performance",
        "",
        "Written by `python -m benchmarks report` from records in `benchmarks/results`; not edited by hand.",
        "How it is measured, and what is not: [benchmarks/README.md](../benchmarks/README.md).",
        "",
        *_summary(known, used),
        *_machines([used[scenario.name][0] for scenario in known]),
    ]
    for scenario in known:
        lines += _section(scenario, *used[scenario.name])
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


def _rank(rec: dict[str, Any], ran: dict[str, Any]) -> tuple[bool, int, str]:
    """A race in which fewer took part never replaces one with more."""
    return rec["size"] == "full", len(results(ran)), str(rec["started"])


def _summary(known: Sequence[Scenario], used: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    lines = ["## The bars", "", "| scenario | size | bar | measured | |", "|---|---|---|---|---|"]
    for scenario in known:
        rec, ran = used[scenario.name]
        found = results(ran)
        for bar in scenario.bars:
            verdict = judge(bar, found, ran["bytes_needed"])
            size = rec["size"]
            name = f"[{scenario.title}](#{_anchor(scenario)})"
            if verdict is None:
                lines.append(f"| {name} | {size} | {_bar_text(bar)} | not measured | |")
            else:
                word = "met" if verdict.is_met else "**missed**"
                lines.append(f"| {name} | {size} | {_bar_text(bar)} | {_verdict_text(verdict)} | {word} |")
    return [*lines, ""]


def _machines(records: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["## Records", ""]
    for each in {one["file"]: one for one in records}.values():
        machine = each["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        dirty = " with changes that are not committed" if each["dirty"] else ""
        lines += [
            f"- `{each['file']}`: commit {each['commit'][:10]}{dirty}, {each['size']} sizes. "
            f"{machine['cpu']}, {machine['cores']} cores, {_size(machine['memory'])}, {machine['system']} "
            f"{machine['kernel']}, Python {each['python']}. {each['crossdock']}. {versions}."
        ]
    return [*lines, ""]


def _section(scenario: Scenario, rec: dict[str, Any], ran: dict[str, Any]) -> list[str]:
    found = results(ran)
    workload = ran["workload"]
    loads = [sample["load"] for sample in ran["samples"] if not sample["discarded"]]
    counted = f"{workload['images']} image{'s' if workload['images'] > 1 else ''} of {workload['layers']} × "
    lines = [
        f"## {_heading(scenario)}",
        "",
        f"{counted}{_size(workload['layer_size'])}; target's storage: {ran['storage']}; `{rec['file']}`, "
        f"load average before the runs {min(loads):.1f} to {max(loads):.1f}.",
        "",
    ]
    for measure, title in (("wall", "seconds"), ("cpu", "client CPU seconds")):
        rows = [
            Row(name, one.of(measure), *(one.wall_range if measure == "wall" else one.cpu_range))
            for name, one in found.items()
        ]
        name = f"{scenario.name}-{measure}.svg"
        (CHARTS / name).write_text(bars(f"{scenario.title}: {title}", _UNIT[measure], rows))
        lines.append(f"![{scenario.title}: {title}](performance/{name})")
    lines += [
        "",
        "| client | wall s (range) | CPU s (range) | peak RSS | requests, source / target | bytes | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(one) for one in found.values()]
    failed = {
        s["client"]: s["error"] for s in ran["samples"] if s["error"] is not None and not s["discarded"]
    }
    lines += [f"\n{name} failed: `{' '.join(error.split())[:200]}`" for name, error in failed.items()]
    return [*lines, ""]


def _row(one: Result) -> str:
    about = CLIENTS[one.client].about
    cells = [
        f"{one.client} ({about})",
        f"{one.wall:.2f} ({one.wall_range[0]:.2f}–{one.wall_range[1]:.2f})",
        f"{one.cpu:.2f} ({one.cpu_range[0]:.2f}–{one.cpu_range[1]:.2f})",
        _size(one.rss),
        f"{one.source_requests:.0f} / {one.target_requests:.0f}",
        _size(one.source_bytes),
        f"{one.runs}" + (f", {one.failed} failed" if one.failed else ""),
    ]
    return f"| {' | '.join(cells)} |"


_AGAINST = {
    "as used": "the fastest rival as its users run it",
    "any": "the fastest rival",
    "verifying": "the best rival that verifies",
    "floor": "the relay floor",
}


def _bar_text(bar: Bar) -> str:
    who = "" if bar.client == "crossdock" else f"{bar.client}: "
    if bar.measure == "rss":
        return f"{who}peak RSS ≤ {_size(bar.at_most)}"
    if bar.measure == "requested":
        return "no blob bytes" if not bar.at_most else f"{who}bytes requested / needed ≤ {bar.at_most:g}"
    against = _AGAINST.get(bar.against, bar.against)
    if bar.at_most < 0.55:
        return f"{who}{_NAME[bar.measure]}: ≥ {1 / bar.at_most:g} times as fast as {against}"
    return f"{who}{_NAME[bar.measure]} ≤ {bar.at_most:.3g}× {against}"


_NAME = {"wall": "wall", "cpu": "CPU"}


def _verdict_text(verdict: Verdict) -> str:
    bar = verdict.bar
    if bar.measure == "rss" or (bar.measure == "requested" and not bar.at_most):
        return _size(verdict.value)
    if bar.measure == "requested":
        return f"{verdict.value:.3f}"
    if bar.at_most < 0.55:
        return f"{1 / verdict.value:.2f} times as fast as {verdict.rival}"
    return f"{verdict.value:.2f}× {verdict.rival}"


def _heading(scenario: Scenario) -> str:
    return scenario.title[0].upper() + scenario.title[1:]


def _anchor(scenario: Scenario) -> str:
    kept = "".join(c for c in scenario.title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _size(value: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= scale:
            number = value / scale
            return (
                f"{number:.0f} {unit}" if number >= 100 or number == int(number) else f"{number:.1f} {unit}"
            )
    return f"{value:.0f} B"
