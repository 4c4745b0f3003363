"""docs/performance.md and its charts, all of it from records: no number in it is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import record, svg
from benchmarks.clients import CLIENTS, CROSSDOCK, is_rival
from benchmarks.processes import ROOT
from benchmarks.scenarios import KERNEL_BARS, SCENARIOS, Bar, KernelBar, Measure, Scenario
from benchmarks.verdict import Result, Spread, Verdict, judge, judge_kernel, results

PAGE = ROOT / "docs" / "performance.md"
CHARTS = ROOT / "docs" / "performance"

Used = Mapping[str, tuple[dict[str, Any], dict[str, Any]]]  # by scenario: the record and the scenario in it


def write(paths: Sequence[Path] = ()) -> None:
    """Write the page from the newest record of each scenario, one of full size before a quick one."""
    records = record.load(paths)
    if not records:
        raise SystemExit("benchmarks: no records in benchmarks/results: make bench writes one")
    CHARTS.mkdir(parents=True, exist_ok=True)
    for old in CHARTS.glob("*.svg"):
        old.unlink()
    used: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for size in ("quick", "full"):
        for each in records:
            if each["size"] == size:
                used.update({ran["name"]: (each, ran) for ran in each["scenarios"]})
    known = [scenario for scenario in SCENARIOS if scenario.name in used]
    kernels = next((each for each in reversed(records) if each["kernels"]), None)
    sources = [used[scenario.name][0] for scenario in known] + ([kernels] if kernels else [])
    lines = [
        "# Performance",
        "",
        "Written by `python -m benchmarks report` from records in `benchmarks/results`; not edited by hand.",
        "How it is measured, and what is not: [benchmarks/README.md](../benchmarks/README.md).",
        "",
        "## The bars",
        "",
        "| scenario | size | bar | measured | |",
        "|---|---|---|---|---|",
    ]
    for scenario in known:
        lines += _judged(scenario, *used[scenario.name])
    if kernels:
        lines += [_judged_kernel(bar, kernels["kernels"]) for bar in KERNEL_BARS]
    if any(rec["size"] == "quick" for rec, _ in used.values()):
        lines += ["", "The bars were set for full sizes; a quick race says whether something moved."]
    lines += ["", *_machines(sources)]
    for scenario in known:
        lines += _section(scenario, *used[scenario.name])
    if kernels:
        lines += _kernels(kernels)
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


def _judged(scenario: Scenario, rec: Mapping[str, Any], ran: Mapping[str, Any]) -> list[str]:
    lines = []
    for bar in scenario.bars:
        verdict = judge(bar, results(ran), ran["bytes_needed"])
        cells = [f"[{scenario.title}](#{_anchor(scenario.title)})", rec["size"], _bar_text(bar)]
        if verdict is None:
            cells += ["not measured", ""]
        else:
            cells += [_verdict_text(verdict), "met" if verdict.is_met else "**missed**"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _judged_kernel(bar: KernelBar, kernels: Sequence[Mapping[str, Any]]) -> str:
    ratio = judge_kernel(bar, kernels)
    if bar.at_most < 1:
        wanted = f"{bar.by}: ≥ {1 / bar.at_most:.3g} times the bytes per second of {bar.against}"
        measured = f"{1 / ratio:.2f} times" if ratio else "not measured"
    else:
        wanted = f"{bar.by}: ≤ {bar.at_most:g}× the time of {bar.against}"
        measured = f"{ratio:.2f}×" if ratio else "not measured"
    met = "" if ratio is None else "met" if ratio <= bar.at_most else "**missed**"
    return f"| [{bar.group}](#kernels) | | {wanted} | {measured} | {met} |"


def _machines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## Records", ""]
    for each in {one["file"]: one for one in records}.values():
        machine = each["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        dirty = " with changes that are not committed" if each["dirty"] else ""
        lines += [
            f"- `{each['file']}`: commit {each['commit'][:10]}{dirty}. {machine['cpu']}, "
            f"{machine['cores']} cores, {_size(machine['memory'])}, {machine['system']} {machine['kernel']}, "
            f"Python {each['python']}. {each['crossdock']}. {versions}."
        ]
    return [*lines, ""]


def _section(scenario: Scenario, rec: Mapping[str, Any], ran: Mapping[str, Any]) -> list[str]:
    found = results(ran)
    workload = ran["workload"]
    loads = [sample["load"] for sample in ran["samples"] if not sample["discarded"]]
    counted = f"{workload['images']} image{'s' if workload['images'] > 1 else ''} of {workload['layers']} × "
    about = f"{counted}{_size(workload['layer_size'])}; servers' files: {ran['storage']}"
    if ran["source_rate_measured"]:
        about += f"; one connection to the source was measured to get {_size(ran['source_rate_measured'])}/s"
    about += f"; `{rec['file']}`, load average before the runs {min(loads):.1f} to {max(loads):.1f}."
    (CHARTS / f"{scenario.name}.svg").write_text(_chart(scenario, found))
    lines = [
        f"## {_heading(scenario.title)}",
        "",
        about,
        "",
        f"![{scenario.title}](performance/{scenario.name}.svg)",
        "",
        "| client | wall s (range) | CPU s (range) | of it user | peak RSS | requests, source / target "
        "| source connections | source bytes | runs |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in found.values()),
    ]
    failed = {
        s["client"]: s["error"] for s in ran["samples"] if s["error"] is not None and not s["discarded"]
    }
    lines += [f"\n{name} failed: `{' '.join(error.split())[:200]}`" for name, error in failed.items()]
    commands = [f"{name}: {ran['commands'][name]}" for name in found]
    return [*lines, "", "How each was run:", "", "```", *commands, "```", ""]


def _row(one: Result) -> str:
    cells = [
        f"{one.client} ({CLIENTS[one.client].about})" if CLIENTS[one.client].about else one.client,
        _seconds(one.wall),
        _seconds(one.cpu),
        f"{one.user.value:.2f}",
        _size(one.rss.high),
        f"{one.source_requests:.0f} / {one.target_requests:.0f}",
        f"{one.source_connections:.0f}",
        _size(one.requested.high),
        f"{one.runs}" + (f", {one.failed} failed" if one.failed else ""),
    ]
    return f"| {' | '.join(cells)} |"


_PANELS = {"wall": "wall clock", "cpu": "client CPU", "user": "client CPU in user mode", "rss": "peak memory"}


def _chart(scenario: Scenario, found: Mapping[str, Result]) -> str:
    order = sorted(found.values(), key=lambda one: one.of(scenario.charts[0]))
    panels = []
    for measure in scenario.charts:
        spreads: list[Spread] = [getattr(one, measure) for one in order]
        bars = [svg.Bar(spread.value, spread.low, spread.high) for spread in spreads]
        panels.append(svg.Panel(_PANELS[measure], bars, partial(_value, measure)))
    return svg.chart(_heading(scenario.title), [(one.client, _kind(one.client)) for one in order], panels)


def _kind(name: str) -> str:
    client = CLIENTS[name]
    kind = "ours" if client.program == CROSSDOCK else "theirs" if is_rival(name) else "floor"
    return kind if client.verifies else f"{kind} pale"


def _kernels(rec: Mapping[str, Any]) -> list[str]:
    kernels = rec["kernels"]
    lines = [
        "## Kernels",
        "",
        f"pytest-benchmark, CPU time but for the start of the command; `{rec['file']}`, load average before "
        f"{kernels[0]['load']:.1f}. Medians; pure are the twins in Python, which hash by hashlib.",
        "",
        "| what | by | time | IQR | bytes per second | rounds |",
        "|---|---|---|---|---|---|",
    ]
    for one in sorted(kernels, key=lambda one: str(one["group"])):
        rate = f"{one['bytes'] / one['median_s'] / 1e9:.2f} GB/s" if one["bytes"] else ""
        cells = [one["group"], one["by"], _duration(one["median_s"]), _duration(one["iqr_s"]), rate]
        lines.append(f"| {' | '.join(cells)} | {one['rounds']} |")
    return [*lines, ""]


_AGAINST = {
    "as used": "the fastest rival as its users run it",
    "any": "the fastest rival",
    "verifying": "the best rival that verifies",
    "floor": "the relay floor",
    "ssl": "Python's ssl",
}
_NAME: dict[Measure, str] = {"wall": "wall", "cpu": "CPU", "user": "user CPU", "rss": "peak RSS"}


def _bar_text(bar: Bar) -> str:
    who = "" if bar.client == "crossdock" else f"{bar.client}: "
    if bar.measure == "requested":
        return f"{who}bytes requested / needed ≤ {bar.at_most:g}" if bar.at_most else f"{who}0 blob bytes"
    name = _NAME[bar.measure]
    if bar.against == "nobody":
        return f"{who}{name} ≤ {_value(bar.measure, bar.at_most)}"
    against = _AGAINST.get(bar.against, bar.against)
    if bar.inverse:
        return f"{who}{name} of {against} ≥ {1 / bar.at_most:.3g}× ours"
    return f"{who}{name} ≤ {bar.at_most:.3g}× {against}"


def _verdict_text(verdict: Verdict) -> str:
    bar = verdict.bar
    if bar.measure == "requested" and bar.at_most:
        return f"{verdict.ratio:.3f}"
    ours = _value(bar.measure, verdict.value)
    if not verdict.rival or bar.measure == "requested":
        return ours
    ratio = 1 / verdict.ratio if bar.inverse else verdict.ratio
    return f"{ratio:.2f}×: {ours}, {verdict.rival} {_value(bar.measure, verdict.other)}"


def _value(measure: Measure, value: float) -> str:
    return _size(value) if measure in ("rss", "requested") else f"{value:.2f} s"


def _seconds(spread: Spread) -> str:
    if spread.low == spread.high:
        return f"{spread.value:.2f}"
    return f"{spread.value:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def _heading(title: str) -> str:
    return title[0].upper() + title[1:]


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _duration(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def _size(value: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= scale:
            number = value / scale
            return (
                f"{number:.0f} {unit}" if number >= 100 or number == int(number) else f"{number:.1f} {unit}"
            )
    return f"{value:.0f} B"
