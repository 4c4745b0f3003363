"""The speed-up by a cluster of local workers, and its cost.

    python -m benchmarks.cluster [--size quick|full] [--part connections|images|scheduler|kills …]

*connections*: a source that is capped per connection, two connections for each worker: four workers and one.
*images*: small images between two `floor/registry.c`, with two workers and in one process; and the CPU that
each process of a cluster needs for an image.
*scheduler*: the peak memory of a scheduler while jobs of 100,000 planned tags pass through it.
*kills*: three workers, of which one is killed every ten seconds and replaced, while 2,000 images are copied.

The bars are of issue 15. Part *images* needs two free cores and more for the servers; the load average before
each part is in the record, which the report ignores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.content import build
from benchmarks.measure import build_floor, workspace
from benchmarks.processes import SEARCH_PATH, Server, cpu_of, cpu_of_children, free_port, memory_of
from benchmarks.record import Record
from benchmarks.scenarios import GiB, MiB, Workload
from benchmarks.servers import source, target
from crossdock.clusters.applying import Applied, ApplyUnit
from crossdock.clusters.dask import open_cluster
from crossdock.clusters.groups import Item, Job
from crossdock.clusters.place import ClusterPlace
from crossdock.migration.file import MigrationFile
from crossdock.migration.planfile import PlannedRepository
from crossdock.migration.runfile import Item as Note
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.oci.digest import Digest
from crossdock.options import CopyOptions
from crossdock.protocol.upload import DEFAULT_CHUNK
from crossdock.runs.totals import Totals
from crossdock.session import Session

PARTS = ("connections", "images", "scheduler", "kills")
LAYER = {"quick": 8 * MiB, "full": 64 * MiB}  # of each of 16 images, at 4 MiB/s a connection
IMAGES = {"quick": (100, 20), "full": (400, 50)}  # repositories, and tags of each
KILLED = {"quick": (40, 10), "full": (100, 20)}
PLANNED = {"quick": (200, 50), "full": (2000, 50)}
RATE = 4 * MiB
KILL_EVERY_S = 10.0
REQUESTS_PER_S = 150  # of the target, so that a run of kills takes minutes
READY_S = 60.0
_REGISTERED = "Registered to:"  # what a worker logs
BARS = {
    "connections": ("ratio", 3.5, "at least"),
    "images": ("ratio", 1.6, "at least"),
    "scheduler": ("peak_rss", 500 * MiB, "at most"),
    "kills": ("sent_again_a_kill", DEFAULT_CHUNK, "at most"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("--size", choices=LAYER, default="quick")
    parser.add_argument("--part", choices=PARTS, action="append")
    options = parser.parse_args()
    record = Record("cluster", None, partial=True)
    record.document["cluster"] = found = dict[str, Any]()
    missed = []
    for part in options.part or PARTS:
        place = workspace(2 * GiB)
        try:
            load = os.getloadavg()[0]
            measured = globals()[part](place, options.size)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        name, bar, sense = BARS[part]
        found[part] = {"load": load, "bar": bar, **measured}
        record.write()
        value = measured[name]
        print(f"{part}: {name} {value:.4g}; bar {sense} {bar:g}; load {load:.1f}; {measured}", flush=True)
        if value < bar if sense == "at least" else value > bar:
            missed.append(part)
    print(record.path)
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


# -- a source that is capped per connection ----------------------------------------------------------------


def connections(place: Path, size: str) -> dict[str, Any]:
    """The gain of four workers over one where each connection is slow."""
    content = build(place / "layout", Workload(images=16, layers=1, layer_size=LAYER[size], rounds=1))
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        origin = stack.enter_context(
            source(place / "s", content, rate=RATE, round_trip_s=0, certificates=None)
        )
        for workers in (1, 4):
            end = stack.enter_context(
                target(place / f"t{workers}", rate=0, round_trip_s=0, certificates=None)
            )
            lines = [
                f"127.0.0.1:{origin.port}/{each.repository}:{each.tag} 127.0.0.1:{end.port}/{number}:v1\n"
                for number, each in enumerate(content.images)
            ]
            (place / "list").write_text("".join(lines))
            seconds[str(workers)] = copy(place, "--workers", str(workers), "--connections", "2")
    return {"seconds": seconds, "ratio": seconds["1"] / seconds["4"]}


def copy(place: Path, *words: str) -> float:
    """Copy the list; seconds. Raises RuntimeError."""
    began = time.monotonic()
    argv = [CROSSDOCK, "copy", "--from-file", str(place / "list"), "--progress", "none", *words]
    done = subprocess.run(argv, capture_output=True, env=_environ(place), text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return time.monotonic() - began


def _environ(place: Path) -> dict[str, str]:
    return {"PATH": SEARCH_PATH, "HOME": str(place), "DOCKER_CONFIG": str(place)}


# -- many small images -------------------------------------------------------------------------------------


def images(place: Path, size: str) -> dict[str, Any]:
    """The gain of two workers over one process with small images, and the CPU of each process."""
    repositories, tags = IMAGES[size]
    count = repositories * tags
    seconds: dict[str, float] = {}
    cpu_s: dict[str, float] = {}

    def timed(name: str, *words: str) -> None:
        with registry(place, "target", repositories, tags, 1000) as end:
            _write_list(place, origin, end, repositories, tags)
            before = cpu_of_children()
            seconds[name] = copy(place, *words)
            cpu_s[name] = cpu_of_children() - before
            if look(end)["manifests"] != count:
                raise RuntimeError(f"not whole: {look(end)}")

    with registry(place, "source", repositories, tags, 1000) as origin:
        timed("one process")
        timed("two workers", "--workers", "2")
        del cpu_s["two workers"]  # local workers are no children of the command
        with dask(place) as (process, address), ExitStack() as stack:
            pids = {"scheduler": [process.pid], "workers": list[int]()}
            for number in (1, 2):
                pids["workers"].append(stack.enter_context(worker(place, address)).pid)
                _wait_for(place / "worker.log", _REGISTERED, number)
            for name, some in pids.items():
                cpu_s[name] = -sum(map(cpu_of, some))
            timed("client", "--cluster", address)
            for name, some in pids.items():
                cpu_s[name] += sum(map(cpu_of, some))
    return {
        "seconds": seconds,
        "ratio": seconds["one process"] / seconds["two workers"],
        "cpu_ms_an_image": {name: 1000 * each / count for name, each in cpu_s.items()},
    }


def registry(place: Path, role: str, repositories: int, tags: int, layer: int) -> Server:
    """A light registry (`floor/registry.c`)."""
    port = free_port()
    argv = [str(build_floor() / "registry"), str(port), role, *map(str, (repositories, tags, layer))]
    return Server(argv, port, place / "log")


def look(server: Server) -> dict[str, int]:
    """What a light registry has counted."""
    found: dict[str, int] = server.ask("/state")
    return found


def _write_list(place: Path, origin: Server, end: Server, repositories: int, tags: int) -> None:
    names = [f"r{number:05d}:v{tag}" for number in range(repositories) for tag in range(tags)]
    lines = [f"127.0.0.1:{origin.port}/{name} 127.0.0.1:{end.port}/{name}\n" for name in names]
    (place / "list").write_text("".join(lines))


# -- the scheduler's memory --------------------------------------------------------------------------------


class SimulatedUnit(ApplyUnit):
    """A unit of an apply of which everything is there."""

    def begin(self) -> Applied:
        """As `bench.Unit.begin`."""
        return _Simulated(self)


class _Simulated(Applied):
    def __init__(self, unit: ApplyUnit) -> None:
        super().__init__(unit)
        totals, state = self.work.totals, self._state

        async def run(shared: object, watchers: object) -> None:
            for repository in (unit.planned or [{}])[0].values():
                await asyncio.sleep(0.005)
                for tag, (digest, *_) in repository.tags.items():
                    totals.images_found += 1
                    totals.images_done += 1
                    state.note(Note(0, repository.name, tag, str(digest), "unchanged"))

        self.work.run = run  # type: ignore[method-assign]


class _Run:
    """A run of a plan that counts the tags that workers report (`dask.ClusterRun`)."""

    def __init__(self, file: MigrationFile, planned: Mapping[str, PlannedRepository]) -> None:
        self.totals = Totals()
        self.tags = 0
        self._file, self._planned = file, planned

    def unit_of(self, job: Job) -> ApplyUnit:
        return SimulatedUnit(
            self._file, [job.keys], {}, None, [{name: self._planned[name] for name in job.keys}]
        )

    def take(self, job: Job, news: Any) -> bool:
        self.tags += len(news.notes)
        return True

    def fail(self, job: Job, error: Exception) -> None:
        raise error


def scheduler(place: Path, size: str) -> dict[str, Any]:
    """The peak memory of a scheduler to which a whole plan is given."""
    repositories, tags = PLANNED[size]
    entry = Entry(name="all", source=Namespace("source.example"), targets=(Namespace("target.example"),))
    file = MigrationFile(entries=(entry,), digest="")
    digests = [Digest(f"sha256:{number:064x}") for number in range(tags)]
    names = [f"group/app{number:06d}" for number in range(repositories)]
    planned = {
        name: PlannedRepository(
            mirror=0,
            name=name,
            tags={f"v{tag}": (digest, None) for tag, digest in enumerate(digests)},
            bytes=1 << 30,
        )
        for name in names
    }
    with dask(place) as (process, address), ExitStack() as stack:
        for number in (1, 2):
            stack.enter_context(worker(place, address))
            _wait_for(place / "worker.log", _REGISTERED, number)
        began = time.monotonic()
        reported = asyncio.run(_hand_out(address, _Run(file, planned), names))
        seconds = time.monotonic() - began
        if reported != repositories * tags:
            raise RuntimeError("not every tag was reported")
        return {"peak_rss": memory_of(process.pid, "VmHWM"), "seconds": seconds, "tags": repositories * tags}


async def _hand_out(address: str, run: _Run, names: Sequence[str]) -> int:
    """Give all repositories to the workers; the number of tags that they reported."""
    async with Session(CopyOptions()) as session:
        shared = await session.shared()
        async with open_cluster(ClusterPlace(address=address), run, shared, [], print) as cluster:
            await cluster.do([Item(name, frozenset({name})) for name in names])
    return run.tags


@contextmanager
def dask(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler, and its address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    words = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    process = _dask(place, "scheduler", *words)
    try:
        _wait_for(place / "scheduler.log", "Scheduler at:", 1)
        yield process, address
    finally:
        process.kill()
        process.wait()


@contextmanager
def worker(place: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one thread, without a nanny that would start it again."""
    process = start_worker(place, address)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_worker(place: Path, address: str) -> subprocess.Popen[bytes]:
    """As `worker`, without its end."""
    return _dask(place, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")


def _wait_for(log: Path, words: str, times: int) -> None:
    """Wait until the log has the words so often. Raises RuntimeError."""
    deadline = time.monotonic() + READY_S
    while log.read_text(errors="replace").count(words) < times:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{log} has no {words}: {log.read_text(errors='replace')[-1000:]}")
        time.sleep(0.1)


def _dask(place: Path, what: str, *words: str) -> subprocess.Popen[bytes]:
    with (place / f"{what}.log").open("ab") as log:
        argv = [sys.executable, "-m", "distributed.cli.dask_" + what, *words]
        environ = {**_environ(place), "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(argv, cwd=place, stdout=log, stderr=log, env=environ)


# -- workers that die --------------------------------------------------------------------------------------


def kills(place: Path, size: str) -> dict[str, Any]:
    """A run whose workers are killed one after the other: whether it is whole, and the bytes sent again."""
    repositories, tags = KILLED[size]
    with (
        registry(place, "source", repositories, tags, 20_000) as origin,
        registry(place, "target", repositories, tags, 20_000) as end,
        dask(place) as (_, address),
    ):
        host = f"127.0.0.1:{end.port}"
        mirror = {"name": "all", "source": f"127.0.0.1:{origin.port}", "targets": [host]}
        limits = {"hosts": {host: {"requests_per_second": REQUESTS_PER_S}}}
        file = place / "m.yaml"
        file.write_text(json.dumps({"version": 1, "limits": limits, "mirrors": [mirror]}))
        with closing(_Killer(place, address)) as killer:
            began = time.monotonic()
            argv = [CROSSDOCK, "apply", str(file), "--cluster", address, "--output", "json"]
            done = subprocess.run(
                [*argv, "--progress", "none", "--worker-timeout", "15s"],
                capture_output=True,
                env=_environ(place),
                check=False,
            )
            seconds = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-1000:])
        counted = look(end)
        verified = subprocess.run(
            [CROSSDOCK, "verify", str(file)], capture_output=True, env=_environ(place), check=False
        )
        totals = json.loads(done.stdout)["totals"]
    whole = repositories * tags
    if (verified.returncode, counted["manifests"], totals["copied"] + totals["unchanged"]) != (
        0,
        whole,
        whole,
    ):
        raise RuntimeError(f"not whole: {counted} {totals} {verified.stderr.decode()[-500:]}")
    once = repositories * tags * (20_000 + 500)
    again = max(0, counted["bytes"] - once)
    return {
        "kills": killer.kills,
        "seconds": seconds,
        "committed_twice": counted["twice"],
        "sent_again_a_kill": again / max(1, killer.kills),
        "totals": totals,
    }


class _Killer:
    """Three workers, of which one is killed every ten seconds, and another started."""

    def __init__(self, place: Path, address: str) -> None:
        self._workers = [start_worker(place, address) for _ in range(3)]
        _wait_for(place / "worker.log", _REGISTERED, 3)
        self._place, self._address = place, address
        self._is_over = threading.Event()
        self.kills = 0
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()

    def _kill(self) -> None:
        while not self._is_over.wait(KILL_EVERY_S):
            oldest = self._workers.pop(0)
            oldest.kill()
            oldest.wait()
            self.kills += 1
            self._workers.append(start_worker(self._place, self._address))

    def close(self) -> None:
        """End all of them."""
        self._is_over.set()
        self._thread.join()
        for each in self._workers:
            each.kill()
            each.wait()


if __name__ == "__main__":
    from benchmarks.cluster import main as run  # workers find its units by that name

    run()
