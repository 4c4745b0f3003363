"""Where crossdock's CPU goes: perf by kind of work, imports by package, Python by function.

perf samples the CPU clock, so it works in virtual machines; without perf only the last two are shown. What is
sampled are whole copies by the command as it is installed, against the servers of the race.
"""

from __future__ import annotations

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

from benchmarks.clients import CLIENTS, Job, make_job
from benchmarks.content import Images, build
from benchmarks.measure import spawn, workspace
from benchmarks.processes import find
from benchmarks.scenarios import Scenario, Size
from benchmarks.servers import Certificates, End, make_certificates, source, target

_HZ = 997
_ROWS = 14

# The first that fits names a sample: in the kernel by the entry that led there, else by the innermost
# function or its library.
_KERNEL = (
    (
        "kernel: fresh memory (faults, zeroing)",
        r"page_fault|clear_page|clear_huge_page|sys_(mmap|munmap|madvise|brk|mprotect)",
    ),
    ("kernel: receive", r"sys_(recv|read)"),
    ("kernel: send", r"sys_(send|write)"),
    ("kernel: process start and end", r"sys_(execve|exit|clone|vfork)|do_exit|exit_mmap"),
    ("kernel: files", r"sys_(open|stat|newfstat|getdents|lseek|close|pread|readlink)"),
    ("kernel: waiting, waking", r"sys_(epoll|futex|poll|select)|schedule"),
    ("kernel: other", r""),
)
_USER = (
    ("SHA-256", r"sha256|SHA256|_ext/digest"),
    ("TLS: encrypt, decrypt", r"aes|AES|gcm|GCM|ghash|chacha|vaes"),
    ("TLS: rest of OpenSSL", r"libssl|libcrypto"),
    ("memory copies", r"mem(cpy|move|set)"),
    ("event loop (uvloop)", r"uvloop"),
    ("kernels of crossdock", r"_ext"),
    ("XXH3", r"xxhash"),
    ("JSON (msgspec)", r"msgspec"),
    ("compiled HTTP (aiohttp and its helpers)", r"aiohttp|multidict|yarl|frozenlist|propcache"),
    ("dynamic loader", r"ld-linux|ld-2"),
    ("allocator", r"malloc|free|_int_|arena"),
    ("garbage collector", r"gc_collect|deduce_unreachable|visit_|subtract_refs|_traverse"),
    ("unmarshalling of .pyc", r"r_object|marshal|r_string|r_ref"),
    ("Python", r"python|_Py|Py[A-Z]"),
    ("other", r""),
)


@dataclass(frozen=True)
class Stage:
    """A running scenario: a job to be copied, and what it is called."""

    title: str
    job: Job


def profile(scenarios: Sequence[Scenario], size: Size) -> None:
    """Print the profile of crossdock in each of `scenarios`."""
    for scenario in scenarios:
        print(f"\n== {scenario.name}: {scenario.title}")
        with _content(scenario, size) as (place, content):
            certificates = make_certificates(place / "tls") if scenario.tls else None
            if find("perf"):
                with _stage(scenario, place, content, certificates) as stage:
                    _by_kind(stage)
            with _stage(scenario, place, content, certificates) as stage:
                _by_import(stage)
            with _stage(scenario, place, content, certificates) as stage:
                _by_function(stage)


@contextmanager
def _content(scenario: Scenario, size: Size) -> Iterator[tuple[Path, Images]]:
    workload = scenario.workload(size)
    place = workspace(workload.layer_bytes * 2)
    try:
        content = build(place / "layout", workload)
        yield place, content
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _stage(
    scenario: Scenario, place: Path, content: Images, certificates: Certificates | None
) -> Iterator[Stage]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
        ends: dict[str, End] = {}
        delay = scenario.round_trip_s
        ends["source"] = stack.enter_context(
            source(
                folder / "s",
                content,
                rate=scenario.source_rate,
                round_trip_s=delay,
                certificates=certificates,
            )
        )
        ends["target"] = stack.enter_context(
            target(folder / "t", rate=scenario.target_rate, round_trip_s=delay, certificates=certificates)
        )
        work = folder / "work"
        work.mkdir()
        job = make_job(work, content, ends["source"], ends["target"], certificates)
        if scenario.warm:
            spawn(CLIENTS["crossdock"].command(job), work, job.environ())
        yield Stage(scenario.title, job)


def _command(job: Job) -> list[str]:
    return CLIENTS["crossdock"].command(job)


def _table(title: str, counts: Mapping[str, float], total: float, unit: str) -> None:
    print(f"\n{title}")
    for name, count in sorted(counts.items(), key=lambda item: -item[1])[:_ROWS]:
        if count >= total * 0.004:
            print(f"  {count / total:6.1%}  {count:8.3f} {unit}  {name}")


def _by_kind(stage: Stage) -> None:
    data = stage.job.directory / "perf.data"
    perf = ["perf", "record", "--quiet", "-o", str(data), "-e", "cpu-clock", "-F", str(_HZ), "-g", "--"]
    usage = spawn([*perf, *_command(stage.job)], stage.job.directory, stage.job.environ())
    wall_s, user_s, system_s = (usage[name] for name in ("wall_s", "user_s", "system_s"))
    print(f"wall {wall_s:.2f} s, user {user_s:.2f} s, system {system_s:.2f} s (under perf)")
    script = subprocess.run(
        [find("perf") or "perf", "script", "-i", str(data), "-F", "comm,tid,ip,sym,dso"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kinds: Counter[str] = Counter()
    leaves: Counter[str] = Counter()
    for block in script.split("\n\n"):
        frames = [line.strip() for line in block.splitlines()[1:] if line.strip()]
        if frames:
            kinds[_kind(frames)] += 1
            leaves[re.sub(r"^[0-9a-f]+ ", "", frames[0])] += 1
    for counts, title in ((kinds, "CPU by kind of work"), (leaves, "hottest functions")):
        seconds = {name: count / _HZ for name, count in counts.items()}
        _table(title, seconds, sum(seconds.values()) or 1.0, "s")


def _kind(frames: Sequence[str]) -> str:
    leaf = frames[0]
    if "([kernel" in leaf or ("([unknown])" not in leaf and "[k]" in leaf):
        inside = " ".join(frame for frame in frames if "([kernel" in frame)
        return next(name for name, pattern in _KERNEL if re.search(pattern, inside))
    return next(name for name, pattern in _USER if re.search(pattern, leaf))


def _python(argv: Sequence[str], *flags: str) -> list[str]:
    """`argv` of the command, run by the interpreter with `flags`."""
    return [sys.executable, *flags, *argv] if argv[0] != "xargs" else list(argv)


def _by_import(stage: Stage) -> None:
    argv = _command(stage.job)
    spawn(_python(argv, "-X", "importtime"), stage.job.directory, stage.job.environ())
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
        _table(f"share of {title} in that", shares, cost, "s")


def _cpu(stage: Stage, script: str) -> float:
    runs = [spawn([sys.executable, "-c", script], stage.job.directory, stage.job.environ()) for _ in range(5)]
    return statistics.median(usage["user_s"] + usage["system_s"] for usage in runs)


def _by_function(stage: Stage) -> None:
    stats_path = stage.job.directory / "stats"
    argv = _command(stage.job)
    spawn(_python(argv, "-m", "cProfile", "-o", str(stats_path)), stage.job.directory, stage.job.environ())
    stats = pstats.Stats(str(stats_path)).stats  # type: ignore[attr-defined]
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (file, _, function), (_, _, own_s, total_s, _) in stats.items():
        name = f"{'/'.join(Path(file).parts[-2:])}:{function}"
        own[name] += own_s
        total[name] += total_s
    everything = sum(own.values()) or 1.0
    _table("Python by function, own time under cProfile, waiting included", own, everything, "s")
    ours = {name: value for name, value in total.items() if not name.startswith(("~", "<"))}
    _table("Python by function, with what it calls", ours, everything, "s")
