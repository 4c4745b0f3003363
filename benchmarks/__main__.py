"""python -m benchmarks run|kernels|profile|report: see README.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clients import CLIENTS
from benchmarks.scenarios import SCENARIOS


def main() -> int:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run all clients and write a record")
    run.add_argument("--size", choices=("quick", "full"), default="quick")
    run.add_argument("--scenario", action="append", choices=names, help="run only this one; repeatable")
    run.add_argument("--client", action="append", choices=list(CLIENTS), help="run only this one; repeatable")
    run.add_argument("--runs", type=int, help="measured runs of each client (default: the scenario's)")
    run.add_argument("--record", type=Path, help="file to write (default: a new one in results/)")

    kernels = commands.add_parser("kernels", help="time the kernels and write a record")
    kernels.add_argument("--record", type=Path, help="file to write (default: a new one in results/)")

    report = commands.add_parser("report", help="write docs/performance.md and its charts from records")
    report.add_argument("records", nargs="*", type=Path, help="records to use (default: those in results/)")

    profile = commands.add_parser("profile", help="show where crossdock spends CPU")
    profile.add_argument("scenario", nargs="*", help="default: layer layer-tls small again")
    profile.add_argument("--size", choices=("quick", "full"), default="quick")

    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # lets servers be stopped and folders be removed
    if options.command == "report":
        from benchmarks.report import write

        write(options.records)
        return 0
    if options.command == "kernels":
        path = time_kernels(options.record)
        print(f"\n{path}")
        return 0
    if options.command == "profile":
        from benchmarks.profile import profile as profile_scenarios

        chosen = options.scenario or ["layer", "layer-tls", "small", "again"]
        profile_scenarios([scenario for scenario in SCENARIOS if scenario.name in chosen], options.size)
        return 0
    from benchmarks.race import race

    scenarios = [scenario for scenario in SCENARIOS if scenario.name in (options.scenario or names)]
    path = race(scenarios, options.size, options.client, options.runs, options.record)
    print(f"\n{path}")
    return 0


def time_kernels(path: Path | None) -> Path:
    """Run pytest-benchmark over kernels/ and write a record of its results; returns the record's path."""
    from benchmarks.processes import ROOT
    from benchmarks.record import Record

    record, load = Record("kernels", path), os.getloadavg()[0]
    with tempfile.NamedTemporaryFile(prefix="crossdock-bench-", suffix=".json") as written:
        # CPU time, so that other processes do not count. Tests that start processes use wall time.
        argv = [sys.executable, "-m", "pytest", "-q", str(ROOT / "benchmarks" / "kernels")]
        argv += ["--benchmark-timer=time.process_time", f"--benchmark-json={written.name}"]
        argv += ["--benchmark-sort=name", "--benchmark-columns=min,median,iqr,rounds"]
        subprocess.run(argv, cwd=ROOT, check=True)
        record.add_kernels(json.loads(Path(written.name).read_text()), load)
    return record.path


if __name__ == "__main__":
    sys.exit(main())
