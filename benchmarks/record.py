"""Records: one JSON file a run, with every sample and what is needed to judge it."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.content import SEED
from benchmarks.measure import machine, now
from benchmarks.processes import ROOT, find
from benchmarks.scenarios import Scenario, Size

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
_VERSION = {
    "crane": ["version"],
    "regctl": ["version"],
    "regsync": ["version"],
    "skopeo": ["--version"],
    "registry": ["--version"],
    "nginx": ["-v"],
}


class Record:
    """The record of one run; written again after every scenario, so that an interrupted run is not lost."""

    def __init__(self, size: Size, path: Path | None) -> None:
        commit = _git("rev-parse", "HEAD")
        started = now()
        name = f"{started.replace(':', '')}-{commit[:10]}-{size}.json"
        self.path = path or RESULTS / name
        self.document: dict[str, Any] = {
            "format": FORMAT,
            "started": started,
            "size": size,
            "seed": SEED,
            "commit": commit,
            "dirty": bool(_git("status", "--porcelain", "--", "src", "ext", "setup.py", "benchmarks/*.py")),
            "machine": machine(),
            "python": platform.python_version(),
            "crossdock": _first_line([CROSSDOCK, "--version"]),
            "versions": _versions(),
            "scenarios": [],
        }

    def add(self, scenario: Scenario, size: Size, storage: str, needed: int, samples: Iterable[Any]) -> None:
        """Add what ran; `needed` is bytes of blobs a copy must move, 0 when there is nothing to do."""
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
                "storage": storage,
                "bytes_needed": needed,
                "samples": [sample.document() for sample in samples],
            }
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.document, indent=1) + "\n")


def load(paths: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Records, oldest first; all in results/ when no path is given."""
    chosen = list(paths) or list(RESULTS.glob("*.json"))
    records = [{**json.loads(path.read_text()), "file": path.name} for path in chosen]
    return sorted(records, key=lambda record: str(record["started"]))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def _first_line(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "").strip()


def _versions() -> dict[str, str]:
    versions = {}
    for program, words in _VERSION.items():
        path = find(program)
        if path is not None:
            versions[program] = (
                _first_line([path, *words]).replace(path, program).removeprefix("VCSTag:").strip()
            )
    oras = (Path(__file__).parent / "rivals" / "oras-copy" / "go.mod").read_text()
    versions["oras"] = next(line.split()[-1] for line in oras.splitlines() if line.startswith("require oras"))
    return {name: versions[name] for name in sorted(versions)}
