"""What a plan of a large registry costs: seconds, memory, requests.

    python -m benchmarks.plan [--size quick|full] [--runs N]

Both sides are `benchmarks.fleet`, with bulk lists, each on a CPU that it shares with the command; the target
has every other tag. The bars are of issue 14. A record is written, which the report leaves alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.measure import spawn, workspace
from benchmarks.processes import Server, free_port
from benchmarks.record import Record
from benchmarks.scenarios import MiB

SIZES = {"quick": (200, 50), "full": (2000, 50)}  # repositories, and tags of each
FLEET = Path(__file__).with_name("fleet.py")
BARS = {"wall_s": 90.0, "peak_rss": 300 * MiB}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    repositories, tags = SIZES[options.size]
    place = workspace(256 * MiB)
    record = Record("plan", None, partial=True)
    try:
        samples = [measure(place / f"run-{run}", repositories, tags) for run in range(options.runs)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["plan"] = {
        "repositories": repositories,
        "tags": repositories * tags,
        "bars": BARS,
        "samples": samples,
    }
    record.write()
    wall, peak = (statistics.median(one[name] for one in samples) for name in ("wall_s", "peak_rss"))
    print(f"{wall:.1f} s in the median; bar {BARS['wall_s']:g} s")
    print(f"peak RSS {peak / MiB:.0f} MiB; bar {BARS['peak_rss'] / MiB:g} MiB")
    print(record.path)


def measure(place: Path, repositories: int, tags: int) -> dict[str, Any]:
    """One plan: what it cost, and what each side was asked."""
    place.mkdir()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        ports = []
        for number, more in enumerate(([], ["--half"])):
            port = free_port()
            words = [sys.executable, str(FLEET), str(port), f"--repositories={repositories}"]
            server = Server([*words, f"--tags={tags}", *more], port, place / f"log-{number}")
            stack.callback(server.stop)
            ports.append(port)
        source, target = (f"127.0.0.1:{port}" for port in ports)
        file = place / "migration.yaml"
        file.write_text(json.dumps({"version": 1, "mirrors": [{"source": source, "targets": [target]}]}))
        argv = [CROSSDOCK, "plan", str(file), "--output", "json", "--out", str(place / "PLAN.json")]
        usage = spawn(argv, place, {"HOME": str(place), "PATH": os.environ["PATH"]})
        plan = json.loads((place / "PLAN.json").read_text())["plan"]
        counted = [plan["totals"][name] for name in ("tags", "tags_new", "tags_unchanged")]
        if counted != [repositories * tags, repositories * tags // 2, repositories * tags // 2]:
            raise RuntimeError(f"the plan counts {counted}")
        return {
            "load": load,
            **{name: usage[name] for name in ("wall_s", "user_s", "system_s", "peak_rss")},
            "requests": [_requests(port) for port in ports],
            "totals": plan["totals"],
        }


def _requests(port: int) -> dict[str, int]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/requests")
        counted: dict[str, int] = json.loads(connection.getresponse().read())
        return counted


if __name__ == "__main__":
    main()
