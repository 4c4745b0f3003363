"""Medians of a record's samples, and their comparison with the bars."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clients import CLIENTS, is_rival
from benchmarks.scenarios import Bar, KernelBar, Measure


@dataclass(frozen=True)
class Spread:
    """The median, lowest and highest of some samples."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """One client in one scenario, over the measured runs that succeeded."""

    client: str
    runs: int
    failed: int
    wall: Spread
    cpu: Spread
    user: Spread
    rss: Spread
    source_requests: float
    source_connections: float
    target_requests: float
    requested: Spread  # bytes of blobs that the source sent

    def of(self, measure: Measure) -> float:
        """The value that a bar judges: the median, or the worst run for bars that must always hold."""
        spread: Spread = getattr(self, measure)
        return spread.high if measure in ("rss", "requested") else spread.value


@dataclass(frozen=True)
class Verdict:
    """A bar and its result: `value` is ours, `other` that of the best client it is compared with."""

    bar: Bar
    value: float
    other: float
    rival: str

    @property
    def ratio(self) -> float:
        """The value that the bar limits: ours divided by theirs, or ours."""
        return self.value / self.other if self.other else self.value

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.bar.at_most


def results(ran: Mapping[str, Any]) -> dict[str, Result]:
    """The results of clients with at least one successful measured run, by client."""
    found = {}
    for name in CLIENTS:
        mine = [sample for sample in ran["samples"] if sample["client"] == name and not sample["discarded"]]
        good = [sample for sample in mine if sample["error"] is None]
        if not good:
            continue
        found[name] = Result(
            client=name,
            runs=len(good),
            failed=len(mine) - len(good),
            wall=Spread.of([sample["wall_s"] for sample in good]),
            cpu=Spread.of([sample["user_s"] + sample["system_s"] for sample in good]),
            user=Spread.of([sample["user_s"] for sample in good]),
            rss=Spread.of([max(sample["peak_rss"], sample["tree_rss"]) for sample in good]),
            source_requests=statistics.median(sample["source_requests"] for sample in good),
            source_connections=statistics.median(sample["source_connections"] for sample in good),
            target_requests=statistics.median(sum(sample["target_requests"].values()) for sample in good),
            requested=Spread.of([sample["source_blob_bytes"] for sample in good]),
        )
    return found


def judge(bar: Bar, found: Mapping[str, Result], needed: int) -> Verdict | None:
    """The verdict on one bar; None if a client that it needs did not run or failed."""
    ours = found.get(bar.client)
    if ours is None:
        return None
    value = ours.of(bar.measure)
    if bar.measure == "requested":
        return Verdict(bar, value, needed, "needed")
    if bar.against == "nothing":
        return Verdict(bar, value, 0.0, "")
    rivals = [result for name, result in found.items() if _is_compared(name, bar)]
    if not rivals:
        return None
    best = min(rivals, key=lambda rival: rival.of(bar.measure))
    return Verdict(bar, value, best.of(bar.measure), best.client)


def _is_compared(name: str, bar: Bar) -> bool:
    client = CLIENTS[name]
    if bar.against == "regsync":
        return client.program == "regsync"
    if bar.against in CLIENTS:
        return name == bar.against
    if not is_rival(name):
        return False
    if bar.against == "verifying":
        return client.verifies
    return bar.against == "any" or not client.tuned


def judge_kernel(bar: KernelBar, kernels: Sequence[Mapping[str, Any]]) -> float | None:
    """Our seconds (per byte if bytes are counted) divided by theirs; None if one was not measured."""
    cost = {one["by"]: one["median_s"] / (one["bytes"] or 1) for one in kernels if one["group"] == bar.group}
    if bar.by not in cost or bar.against not in cost:
        return None
    return float(cost[bar.by] / cost[bar.against])
