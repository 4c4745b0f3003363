"""The figures of a run of a migration file, as reports, lists of runs and displays name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FIGURES = (
    "images",
    "unchanged",
    "copied",
    "failed",
    "deleted",
    "bytes_moved",
    "bytes_mounted",
    "bytes_skipped",
)
"""Figures that are summed over entries and targets; ``images`` are distinct (repository, digest)."""


def with_tags(figures: Mapping[str, float]) -> dict[str, int]:
    """The figures of a pair, and their ``tags``: those that are unchanged, copied or failed."""
    found = {name: int(figures.get(name, 0)) for name in FIGURES}
    return {"tags": found["unchanged"] + found["copied"] + found["failed"], **found}


def summed(pairs: Iterable[Mapping[str, float]], run: Mapping[str, float]) -> dict[str, float]:
    """The totals of a run: those of its pairs, and the requests and seconds of `run`."""
    found: dict[str, float] = dict(with_tags({}))
    for each in map(with_tags, pairs):
        for name, value in each.items():
            found[name] += value
    return {**found, "requests": int(run.get("requests", 0)), "seconds": float(run.get("seconds", 0.0))}
