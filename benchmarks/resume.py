"""Measures resuming: the CPU of the journal, and the time until a resumed copy moves bytes.

    python -m benchmarks.resume [--size quick|full] [--runs N]

A layer goes from nginx to distribution 3 with the command's own chunks of 64 MiB.

*Journal*: the CPU of exactly the calls that such a copy makes, in a new process (import SQLite, open, claim,
one row per chunk with the digest's state, forget, close), compared with the CPU of the whole command.
*Resume*: the command is killed with SIGKILL in the middle of the layer and run again. The measured time is
from just before the second process starts to its first bytes at the target.

It writes a record, which the report ignores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.clients import CROSSDOCK, Job, make_job
from benchmarks.content import build
from benchmarks.measure import spawn, workspace
from benchmarks.processes import ROOT, cpu_of
from benchmarks.record import Record
from benchmarks.scenarios import GiB, MiB, Workload
from benchmarks.servers import source, target
from crossdock._kernels import Sha256
from crossdock.kept.journal import Journal
from crossdock.kept.uploads import UploadKey
from crossdock.protocol.upload import DEFAULT_CHUNK
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault, Seen

SIZES = {"quick": GiB, "full": 4 * GiB}  # bytes of the layer
_NO_LIMIT = 1e12  # bytes per second: the proxy only reports the first bytes
BARS = {"journal_share": 0.01, "resume_s": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    size = SIZES[options.size]
    place = workspace(2 * size)
    record = Record("resume", None, partial=True)
    try:
        samples = measure(place, size, options.runs)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    share = medians["journal_cpu_s"] / medians["copy_cpu_s"]
    record.document["resume"] = {"layer": size, "bars": BARS, "samples": samples, "journal_share": share}
    record.write()
    print(f"journal {medians['journal_cpu_s'] * 1e3:.1f} ms of CPU, {share:.2%} of the copy's; bar 1 %")
    after = f"{medians['resume_s']:.2f} s and {medians['resume_cpu_s']:.2f} s of CPU"
    print(f"resumed bytes move after {after}; bar 2 s")
    print(record.path)


def measure(place: Path, size: int, runs: int) -> dict[str, list[float]]:
    """Samples of the journal's CPU, the copy's CPU and the time until a resumed copy moves bytes; seconds."""
    samples: dict[str, list[float]] = {
        "journal_cpu_s": [],
        "copy_cpu_s": [],
        "resume_s": [],
        "resume_cpu_s": [],
    }
    samples["load"] = []
    content = build(place / "layout", Workload(images=1, layers=1, layer_size=size, rounds=runs))
    with ExitStack() as stack:
        origin = stack.enter_context(source(place / "s", content, rate=0, round_trip_s=0, certificates=None))
        for run in range(runs):
            samples["load"].append(os.getloadavg()[0])
            samples["journal_cpu_s"].append(journal_cpu(place / f"state-{run}", size))
            for kind in ("copy", "resume"):
                with (
                    target(place / f"t-{kind}", rate=0, round_trip_s=0, certificates=None) as end,
                    tempfile.TemporaryDirectory(dir=place) as directory,
                ):
                    job = make_job(Path(directory), content, origin, end, None)
                    if kind == "copy":
                        used = spawn(command(job), job.directory, job.environ())
                        samples["copy_cpu_s"].append(used["user_s"] + used["system_s"])
                    else:
                        seconds, cpu_seconds = resume(job, size)
                        samples["resume_s"].append(seconds)
                        samples["resume_cpu_s"].append(cpu_seconds)
    return samples


def command(job: Job) -> list[str]:
    """The command as users type it, except for the journal's folder."""
    (pair,) = job.pairs()
    return [CROSSDOCK, "copy", "--progress", "none", "--state", str(job.directory / "state"), *pair]


def journal_cpu(folder: Path, size: int) -> float:
    """CPU seconds of the journal's work for a layer of `size` bytes, in a new process."""
    words = [sys.executable, "-c", _JOURNAL, str(folder), str(size)]
    return float(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


_JOURNAL = (
    "import sys; from benchmarks.resume import use_journal as use; print(use(sys.argv[1], int(sys.argv[2])))"
)


def use_journal(folder: str, size: int) -> float:
    """As `journal_cpu`, in this process."""
    digest = Sha256()
    digest.update(bytes(MiB))
    key = UploadKey("registry.example", "bench/image", "sha256:" + "ab" * 32)
    location = "https://registry.example/v2/bench/image/blobs/uploads/" + "x" * 300

    began = time.process_time()
    journal = Journal.at(Path(folder))
    record = journal.claim(key.target, key.digest, size, f"source.example/bench/image@{key.digest}")
    assert record is not None, journal.take_troubles()
    record.opened(location, DEFAULT_CHUNK)
    for offset in range(DEFAULT_CHUNK, size + 1, DEFAULT_CHUNK):
        record.acknowledged(offset, location, digest.export_state(), DEFAULT_CHUNK)
    record.forget()
    record.close()
    journal.finished("blob", key.target, key.digest, size)
    journal.close()
    return time.process_time() - began


def resume(job: Job, size: int) -> tuple[float, float]:
    """Kill a copy in the middle and run it again; seconds from the restart to the first bytes at the target.

    The second number is its CPU until then, which is more reliable on a busy machine.
    """
    proxy = FaultProxy(f"127.0.0.1:{job.target}")
    through = replace(job, target=int(proxy.host.rpartition(":")[2]))
    killed, moved = threading.Event(), threading.Event()
    times: list[float] = []

    def stamp() -> None:
        times.extend((time.monotonic(), cpu_of(second.pid)))
        moved.set()

    try:
        proxy.add(Fault(_chunk_at(size // 2), rate=_NO_LIMIT, when_reached=killed.set))
        first = _start(through)
        if not killed.wait(300):
            raise RuntimeError("the copy did not reach its middle")
        first.send_signal(signal.SIGKILL)
        first.wait()
        proxy.settle()
        proxy.faults.clear()
        proxy.add(Fault(_chunk_at(None), rate=_NO_LIMIT, when_reached=stamp))
        began = time.monotonic()
        second = _start(through)
        if second.wait(300) != 0 or not moved.is_set():
            raise RuntimeError("the copy was not resumed")
        return times[0] - began, times[1]
    finally:
        proxy.close()


def _chunk_at(offset: int | None) -> Callable[[Seen], bool]:
    """Matches the chunk with the byte at `offset`; None: any chunk."""

    def matches(seen: Seen) -> bool:
        if seen.method != "PATCH":
            return False
        first, _, last = seen.headers["content-range"].partition("-")
        return offset is None or int(first) <= offset <= int(last)

    return matches


def _start(job: Job) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(job), env=job.environ(), cwd=job.directory, start_new_session=True)


if __name__ == "__main__":
    main()
