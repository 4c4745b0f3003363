"""Profiles a copy: CPU by kind of work, copies of bytes, imports, Python functions.

Each profile is a separate copy by the installed command, with the servers of the race. Kinds of work need
perf, which samples the CPU clock and so works in virtual machines; without perf the others are shown.
"""

from __future__ import annotations

import os
import pstats
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import sampling
from benchmarks.clients import CLIENTS, FLOOR, Job, make_job
from benchmarks.content import Images, build
from benchmarks.measure import spawn, workspace
from benchmarks.scenarios import GiB, Scenario, Size
from benchmarks.servers import Certificates, make_certificates, source, target

_ROWS = 14
_BODY = 0.005  # smaller copies, as a share of the content, are not of body bytes


@dataclass(frozen=True)
class Stage:
    """A running scenario: the job, and the blob bytes that it must move."""

    job: Job
    blob_bytes: int


def profile(scenarios: Sequence[Scenario], size: Size) -> None:
    """Print the profile of crossdock in each of `scenarios`."""
    lacking = sampling.missing()
    if lacking:
        print(f"{lacking}\nCPU by kind of work is left out.")
    for scenario in scenarios:
        print(f"\n== {scenario.name}: {scenario.title}")
        with _content(scenario, size) as (place, content):
            certificates = make_certificates(place / "tls") if scenario.tls else None
            steps = (_by_time if lacking else _by_kind, _by_copy, _by_import, _by_function)
            for step in steps:
                with _stage(scenario, place, content, certificates) as stage:
                    step(stage)


@contextmanager
def _content(scenario: Scenario, size: Size) -> Iterator[tuple[Path, Images]]:
    workload = scenario.workload(size)
    place = workspace(workload.layer_bytes * 2)
    try:
        yield place, build(place / "layout", workload)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _stage(
    scenario: Scenario, place: Path, content: Images, certificates: Certificates | None
) -> Iterator[Stage]:
    delay = scenario.round_trip_s
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
        origin = stack.enter_context(
            source(
                folder / "s",
                content,
                rate=scenario.source_rate,
                round_trip_s=delay,
                certificates=certificates,
            )
        )
        end = stack.enter_context(
            target(folder / "t", rate=scenario.target_rate, round_trip_s=delay, certificates=certificates)
        )
        work = folder / "work"
        work.mkdir()
        job = make_job(work, content, origin, end, certificates)
        if scenario.warm:
            spawn(_command(job), work, job.environ())
        yield Stage(job, 0 if scenario.warm else content.blob_bytes)


def _command(job: Job) -> list[str]:
    return CLIENTS["crossdock"].command(job)


def _table(title: str, values: Mapping[str, float], total: float, unit: str = "s") -> None:
    print(f"\n{title}")
    for name, value in sorted(values.items(), key=lambda item: -item[1])[:_ROWS]:
        if value >= total * 0.004:
            print(f"  {value / total:6.1%}  {value:8.3f} {unit}  {name}")


def _print_usage(stage: Stage, usage: Mapping[str, float], note: str = "") -> None:
    wall_s, user_s, system_s = (usage[name] for name in ("wall_s", "user_s", "system_s"))
    words = f"wall {wall_s:.2f} s, user {user_s:.2f} s, system {system_s:.2f} s"
    if stage.blob_bytes >= GiB // 16:
        words += f"; CPU {(user_s + system_s) * GiB / stage.blob_bytes:.2f} s per GiB"
    print(f"{words}, {usage['minor_faults']:.0f} page faults{note}")


def _by_time(stage: Stage) -> None:
    _print_usage(stage, spawn(_command(stage.job), stage.job.directory, stage.job.environ()))


def _by_kind(stage: Stage) -> None:
    data = stage.job.directory / "perf.data"
    argv = [*sampling.recorded(data), *_command(stage.job)]
    _print_usage(stage, spawn(argv, stage.job.directory, stage.job.environ()), " (under perf)")
    kinds, leaves = sampling.seconds(data)
    for values, title in ((kinds, "CPU by kind of work"), (leaves, "hottest functions")):
        _table(title, values, sum(values.values()) or 1.0)


def _by_copy(stage: Stage) -> None:
    """Copied bytes per byte of blobs, as counted by floor/copies.c."""
    if not stage.blob_bytes:
        return
    library = FLOOR / "copies.so"
    here = Path(__file__).parent / "floor"
    flags = ["-O2", "-Wall", "-Wextra", "-std=gnu11", "-fno-builtin", "-fPIC", "-shared"]
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *flags, "-o", library, here / "copies.c", "-ldl"], check=True)
    environ = {**stage.job.environ(), "LD_PRELOAD": str(library)}
    environ["COPIES"] = str(stage.job.directory / "copies")
    spawn(_command(stage.job), stage.job.directory, environ)
    moved: Counter[tuple[str, str]] = Counter()
    lines = [line for file in stage.job.directory.glob("copies.*") for line in file.read_text().splitlines()]
    for line in lines:
        kind, path, function, size, _ = line.split("\t")
        moved[kind, f"{Path(path).name} {function}".rstrip() if kind == "copy" else ""] += int(size)
    print("\nbytes copied per byte of blobs, without hashing, encrypting and decrypting")
    names = {"receive": "kernel → process", "send": "process → kernel", "copy": "memcpy in"}
    for kind, title in names.items():
        mine = {where: count for (what, where), count in moved.items() if what == kind}
        for where, count in sorted(mine.items(), key=lambda item: -item[1]):
            if count >= _BODY * stage.blob_bytes:
                print(f"  {count / stage.blob_bytes:6.2f}  {title} {where}".rstrip())
    total = sum(moved.values()) / stage.blob_bytes
    print(f"  {total:6.2f}  in total")


def _by_import(stage: Stage) -> None:
    argv = [sys.executable, "-X", "importtime", *_command(stage.job)]
    spawn(argv, stage.job.directory, stage.job.environ())
    line = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)
    modules: Counter[str] = Counter()
    for match in line.finditer((stage.job.directory / "output").read_text(errors="replace")):
        modules[match[2]] += int(match[1])
    packages: Counter[str] = Counter()
    for name, microseconds in modules.items():
        packages[name.partition(".")[0]] += microseconds
    bare = _cpu(stage, "pass")
    script = f"for name in {list(modules)!r}:\n try: __import__(name)\n except ImportError: pass"
    cost = _cpu(stage, script) - bare
    print(f"\n{len(modules)} modules: {cost:.3f} s of CPU; a bare interpreter: {bare:.3f} s (medians of 5)")
    total = sum(packages.values()) or 1
    for counts, title in ((packages, "packages"), (modules, "modules")):
        shares = {name: value / total * cost for name, value in counts.items()}
        _table(f"share of {title} in that", shares, cost)


def _cpu(stage: Stage, script: str) -> float:
    runs = [spawn([sys.executable, "-c", script], stage.job.directory, stage.job.environ()) for _ in range(5)]
    return statistics.median(usage["user_s"] + usage["system_s"] for usage in runs)


_PROFILED = """
import cProfile, runpy, sys, time
profile = cProfile.Profile(time.thread_time)
sys.argv = sys.argv[1:]
try:
    profile.runcall(runpy.run_path, sys.argv[0], run_name="__main__")
finally:
    profile.dump_stats({path!r})
"""


def _by_function(stage: Stage) -> None:
    """CPU of the event loop's thread; the hashing threads run almost no Python."""
    stats_path = stage.job.directory / "stats"
    script = _PROFILED.format(path=str(stats_path))
    spawn([sys.executable, "-c", script, *_command(stage.job)], stage.job.directory, stage.job.environ())
    stats = pstats.Stats(str(stats_path)).stats  # type: ignore[attr-defined]
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (file, _, function), (_, _, own_s, total_s, _) in stats.items():
        name = f"{'/'.join(Path(file).parts[-2:])}:{function}"
        own[name] += own_s
        total[name] += total_s
    everything = sum(own.values()) or 1.0
    _table("the loop's thread by function, own CPU (cProfile)", own, everything)
    ours = {name: value for name, value in total.items() if not name.startswith(("~", "<"))}
    _table("the same, including callees", ours, everything)
