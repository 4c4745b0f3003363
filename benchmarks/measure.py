"""Runs one client once and measures its cost, on the machine and on the wire."""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.clients import FLOOR, Client, Job
from benchmarks.processes import ROOT
from benchmarks.servers import End

TIMEOUT_S = 300.0  # per run; the slowest takes a minute


@dataclass
class Sample:
    """One run. Bytes and requests are counted in the servers' access logs.

    `peak_rss` is the kernel's peak of the largest process. `tree_rss` is the largest sum over all processes,
    sampled every 20 ms; shared memory is counted in each.
    """

    client: str
    round: int
    discarded: bool
    wall_s: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    peak_rss: int = 0
    tree_rss: int = 0
    minor_faults: int = 0
    switches: int = 0
    source_requests: int = 0
    source_connections: int = 0
    source_blob_bytes: int = 0
    target_requests: dict[str, int] = field(default_factory=dict)  # by method
    load: float = 0.0  # the machine's load average before the run
    error: str | None = None

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s

    def document(self) -> dict[str, object]:
        return asdict(self)


@functools.cache
def build_floor() -> Path:
    """The folder with `relay`, `registry` and `spawn`, compiled once per process into build/benchmarks."""
    FLOOR.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    kernels = ROOT / "ext" / "crossdock" / "_ext"
    here = Path(__file__).parent / "floor"
    flags = ["-O2", "-Wall", "-Wextra", "-std=gnu11", f"-I{kernels}"]
    subprocess.run([compiler, *flags, "-o", FLOOR / "spawn", here / "spawn.c"], check=True)
    # sha256_armv8.c is empty elsewhere than on 64-bit ARM, sha256_x86.c elsewhere than on x86.
    hashes = [kernels / name for name in ("sha256.c", "sha256_portable.c", "sha256_x86.c", "sha256_armv8.c")]
    for name in ("relay", "registry"):
        subprocess.run([compiler, *flags, "-o", FLOOR / name, here / f"{name}.c", *hashes], check=True)
    return FLOOR


def run(client: Client, job: Job, source: End, target: End | None, sample: Sample) -> Sample:
    """Fill `sample` with one run of `client`; a failure is recorded in it, not raised."""
    argv = client.command(job)
    source.accesses()
    if target is not None:
        target.accesses()
    sample.load = os.getloadavg()[0]
    try:
        usage = spawn(argv, job.directory, {**job.environ(), **client.environ})
    except RuntimeError as error:
        sample.error = str(error)
        return sample
    for name in ("wall_s", "user_s", "system_s", "peak_rss", "tree_rss", "minor_faults", "switches"):
        setattr(sample, name, usage[name])
    asked = source.accesses()
    sample.source_requests = len(asked)
    sample.source_connections = len({access.connection for access in asked})
    sample.source_blob_bytes = sum(access.sent for access in asked if access.is_blob)
    if target is not None:
        sample.target_requests = dict(Counter(access.method for access in target.accesses()))
        sample.error = _missing(client, job, target)
    return sample


def _missing(client: Client, job: Job, target: End) -> str | None:
    """The difference at the target after the copy, or None."""
    if client.name == "floor":
        return None  # it copies a blob without a manifest; the target has checked the digest
    found = target.digests_of([(image.repository, image.tag) for image in job.images])
    wrong = [
        image.repository
        for image, digest in zip(job.images, found, strict=True)
        if digest != image.manifest.digest
    ]
    return f"wrong at the target: {', '.join(wrong[:3])} ({len(wrong)})" if wrong else None


def spawn(argv: Sequence[str], directory: Path, environ: dict[str, str]) -> dict[str, float]:
    """Run `argv` with floor/spawn.c in a new session. Raises RuntimeError if it fails or hangs."""
    usage_path = directory / "usage.json"
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [build_floor() / "spawn", usage_path, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=environ,
            start_new_session=True,
        )
        try:
            process.wait(TIMEOUT_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # the whole session: the client and its children
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError(f"not done after {TIMEOUT_S:.0f} s") from None
            raise
    said = (directory / "output").read_text(errors="replace").strip()
    if not usage_path.exists():
        raise RuntimeError(f"not started: {said[-500:]}")
    usage: dict[str, float] = json.loads(usage_path.read_text())
    if usage["exit"] != 0:
        raise RuntimeError(f"exit {usage['exit']:.0f}: {said[-500:]}")
    return usage


def machine() -> dict[str, object]:
    """The machine's description for the record."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory": memory,
        "kernel": platform.release(),
        "system": platform.system(),
    }


def workspace(needed: int) -> Path:
    """A new folder, on a memory file system if one has 1.5 times `needed` bytes."""
    memory = Path("/dev/shm")
    parent = None
    if memory.is_dir() and os.access(memory, os.W_OK) and min(_free(memory), _available()) > needed * 3 // 2:
        parent = memory
    return Path(tempfile.mkdtemp(prefix="crossdock-bench-", dir=parent))


def _free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _available() -> int:
    """Available memory: a full memory file system must not force clients into reclaim."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
