"""The cost of a plan of a large registry, or of an apply with nothing to do: seconds, memory, requests.

    python -m benchmarks.plan [--size quick|full] [--runs N] [--nothing]

Both sides are `benchmarks.fleet`, with bulk lists, each on a CPU that it shares with the command. For the
plan the target has every other tag; with ``--nothing`` it has all, and `crossdock apply` is measured. The
bars are of issue 14. A record is written, which the report leaves alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.measure import spawn, workspace
from benchmarks.processes import Server, free_port
from benchmarks.record import Record
from benchmarks.scenarios import MiB

SIZES = {"quick": (200, 50), "full": (2000, 50)}  # repositories, and tags of each
FLEET = Path(__file__).with_name("fleet.py")
BARS = {"wall_s": 90.0, "peak_rss": 300 * MiB, "requests_per_1000": 25.0}  # the last is of a no-op and side


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--nothing", action="store_true", help="an apply that finds nothing to do")
    options = parser.parse_args()
    repositories, tags = SIZES[options.size]
    place = workspace(256 * MiB)
    record = Record("plan", None, partial=True)
    try:
        samples = [
            measure(place / f"run-{run}", repositories, tags, is_noop=options.nothing)
            for run in range(options.runs)
        ]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["plan"] = {
        "command": "apply" if options.nothing else "plan",
        "repositories": repositories,
        "tags": repositories * tags,
        "bars": BARS,
        "samples": samples,
    }
    record.write()
    wall, peak = (statistics.median(one[name] for one in samples) for name in ("wall_s", "peak_rss"))
    print(f"{wall:.1f} s in the median; bar {BARS['wall_s']:g} s")
    print(f"peak RSS {peak / MiB:.0f} MiB; bar {BARS['peak_rss'] / MiB:g} MiB")
    if options.nothing:
        most = max(sum(side.values()) for one in samples for side in one["requests"])
        per_1000 = 1000 * most / (repositories * tags)
        print(f"{per_1000:.1f} requests per 1,000 tags and side; bar {BARS['requests_per_1000']:g}")
    print(record.path)


def measure(place: Path, repositories: int, tags: int, *, is_noop: bool) -> dict[str, Any]:
    """One plan, or one apply that finds nothing to do: what it cost, and what each side was asked."""
    place.mkdir()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        servers = []
        for number, more in enumerate(([], [] if is_noop else ["--half"])):
            port = free_port()
            words = [sys.executable, str(FLEET), str(port), f"--repositories={repositories}"]
            server = Server([*words, f"--tags={tags}", *more], port, place / f"log-{number}")
            servers.append(stack.enter_context(server))
        source, target = (f"127.0.0.1:{server.port}" for server in servers)
        file = place / "migration.yaml"
        file.write_text(json.dumps({"version": 1, "mirrors": [{"source": source, "targets": [target]}]}))
        written = place / "written.json"
        words = ["apply", "--progress", "none", "--report"] if is_noop else ["plan", "--out"]
        argv = [CROSSDOCK, *words, str(written), str(file)]
        usage = spawn(argv, place, {"HOME": str(place), "PATH": os.environ["PATH"]})
        found = json.loads(written.read_text())
        totals = found["totals"] if is_noop else found["plan"]["totals"]
        unchanged = totals["unchanged" if is_noop else "tags_unchanged"]
        every = repositories * tags
        if [totals["tags"], unchanged] != [every, every if is_noop else every // 2]:
            raise RuntimeError(f"the command counts {totals}")
        return {
            "load": load,
            **{name: usage[name] for name in ("wall_s", "user_s", "system_s", "peak_rss")},
            "requests": [server.ask("/requests") for server in servers],
            "totals": totals,
        }


if __name__ == "__main__":
    main()
