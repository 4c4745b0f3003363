"""Records: one JSON file per run, with every sample and the circumstances."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from benchmarks.clients import crossdock_version
from benchmarks.content import SEED
from benchmarks.measure import Sample, machine, now
from benchmarks.processes import ROOT, find
from benchmarks.scenarios import Scenario, Size

RESULTS = Path(__file__).parent / "results"
FORMAT = 2
_VERSION = {
    "crane": ["version"],
    "regctl": ["version"],
    "regsync": ["version"],
    "skopeo": ["--version"],
    "registry": ["--version"],
    "nginx": ["-v"],
    "curl": ["--version"],
}

Other = Literal[
    "kernels", "plan", "resume", "service", "targets", "again", "kills", "rate", "archive", "large", "cluster"
]


class Record:
    """The record of one run; rewritten after every scenario, so that an interrupted run is not lost.

    `partial`: only some clients took part; the report ignores such a record.
    """

    def __init__(
        self,
        size: Size | Other,
        path: Path | None,
        *,
        partial: bool = False,
    ) -> None:
        commit = _git("rev-parse", "HEAD")
        started = now()
        name = f"{started.replace(':', '')}-{commit[:10]}-{size}.json"
        self.path = path or RESULTS / name
        self.document: dict[str, Any] = {
            "format": FORMAT,
            "started": started,
            "size": size,
            "partial": partial,
            "seed": SEED,
            "commit": commit,
            "dirty": bool(_git("status", "--porcelain", "--", "src", "ext", "setup.py", "benchmarks/*.py")),
            "machine": machine(),
            "python": platform.python_version(),
            "crossdock": crossdock_version(),
            "versions": _versions(),
            "scenarios": [],
            "kernels": [],
        }

    def add(
        self, scenario: Scenario, size: Size, facts: Mapping[str, object], samples: Iterable[Sample]
    ) -> None:
        """Add a scenario's samples and write. `facts` are the circumstances that race.py measured."""
        self.document["scenarios"].append(
            {
                "name": scenario.name,
                "title": scenario.title,
                "workload": asdict(scenario.workload(size)),
                "tls": scenario.tls,
                "source_rate": scenario.source_rate,
                "target_rate": scenario.target_rate,
                "round_trip_s": scenario.round_trip_s,
                "warm": scenario.warm,
                **facts,
                "samples": [sample.document() for sample in samples],
            }
        )
        self.write()

    def add_kernels(self, ran: Mapping[str, Any], load: float) -> None:
        """Add pytest-benchmark's JSON and write."""
        for one in ran["benchmarks"]:
            stats, extra = one["stats"], one["extra_info"]
            self.document["kernels"].append(
                {
                    "group": one["group"],
                    "test": one["name"],
                    "by": extra.get("by") or one["params"]["kernels"],
                    "bytes": extra.get("bytes", 0),
                    "min_s": stats["min"],
                    "median_s": stats["median"],
                    "iqr_s": stats["iqr"],
                    "rounds": stats["rounds"],
                    "load": load,
                }
            )
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.document, indent=1) + "\n")


def load(paths: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Records of this format, oldest first; without `paths` all complete ones in results/."""
    chosen = list(paths)
    records = [
        {**json.loads(path.read_text()), "file": path.name} for path in chosen or RESULTS.glob("*.json")
    ]
    kept = [one for one in records if one["format"] == FORMAT and (chosen or not one["partial"])]
    return sorted(kept, key=lambda record: str(record["started"]))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def _versions() -> dict[str, str]:
    versions = {}
    for program, words in _VERSION.items():
        path = find(program)
        if path is not None:
            said = subprocess.run([path, *words], capture_output=True, text=True, check=False, timeout=30)
            number = re.search(r"\d+\.\d+[\w.+-]*", said.stdout + said.stderr)
            versions[program] = number[0] if number else "unknown"
    oras = (Path(__file__).parent / "rivals" / "oras-copy" / "go.mod").read_text()
    versions["oras"] = next(line.split()[-1] for line in oras.splitlines() if line.startswith("require oras"))
    return {name: versions[name] for name in sorted(versions)}
