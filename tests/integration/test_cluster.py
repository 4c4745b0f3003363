"""``apply`` on a Dask cluster: the result is that of one machine, whatever becomes of workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault
from support.command import CANCELLED, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.process import wait_until

pytestmark = pytest.mark.real

UPLOADS = "POST|PUT|PATCH */blobs/uploads/*"
QUIET = ("--output", "json", "--progress", "none")
NAMES = [f"r{number}" for number in range(8)]


@pytest.fixture
def places(
    source: DockerRegistry, target: DockerRegistry, repository: str, builder: ImageBuilder
) -> tuple[str, str]:
    """A source of repositories with two images each, of different sizes, and an empty target."""
    for number, name in enumerate(NAMES):
        for tag in ("v1", "v2"):
            image = one_layer_image(builder, 3000 * (number + 1))[0]
            push(source.remote, f"{repository}/{name}", builder, image, tag)
    return f"{source.host}/{repository}", f"{target.host}/copy/{repository}"


def write(path: Path, source: str, target: str, **more: Any) -> str:
    entry = {"name": "team", "source": source, "targets": [target], **more}
    path.write_text(json.dumps({"version": 1, "mirrors": [entry]}))
    return str(path)


def children(pid: int) -> set[int]:
    """The processes that `pid` has started, and those that these have."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child), *children(int(child))}
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_local_workers_do_what_one_process_does(
    crossdock: Crossdock, places: tuple[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "m.yaml", *places)
    done = crossdock.ok("apply", file, *QUIET, "--workers", "2")
    assert done.stderr == ""
    totals = done.result["totals"]
    assert (totals["tags"], totals["copied"], totals["images"]) == (16, 16, 16)
    assert totals["requests"] > 16 * 5
    crossdock.ok("verify", file)
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == 16
    runs = json.loads(crossdock.ok("runs", "list", "--output", "json").stdout)["runs"]
    assert [(each["totals"]["tags"], each["status"]) for each in runs] == [(16, "done"), (16, "done")]


def test_a_plan_and_what_failed(
    crossdock: Crossdock, source: DockerRegistry, repository: str, places: tuple[str, str], tmp_path: Path
) -> None:
    spoilt = []
    for name in NAMES[:3]:
        digest = source.remote.manifest(f"{repository}/{name}", "v2").headers["docker-content-digest"]
        spoilt.append((source.blob_file(digest), source.blob_file(digest).read_bytes()))
    plan = str(tmp_path / "PLAN.json")
    crossdock.ok("plan", write(tmp_path / "m.yaml", *places), "--out", plan)
    for path, _ in spoilt:
        path.write_bytes(b"spoilt")
    done = crossdock("apply", plan, *QUIET, "--workers", "2")
    assert done.code not in (0, USAGE)
    assert (done.result["totals"]["copied"], done.result["totals"]["failed"]) == (13, 3)
    assert len(done.result["not_copied"]) == 3
    for path, data in spoilt:
        path.write_bytes(data)
    again = crossdock.ok("apply", plan, *QUIET, "--workers", "2", "--failed").result["totals"]
    assert (again["copied"], again["unchanged"]) == (3, 0)


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler without workers."""
    code = (
        "import asyncio\nfrom distributed import Scheduler\n"
        "async def main():\n"
        "    async with Scheduler(host='127.0.0.1', port=0, dashboard_address=None) as found:\n"
        "        print(found.address, flush=True)\n"
        "        await found.finished()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def start_worker(scheduler: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a worker; `version` is what it takes crossdock's to be."""
    started: list[subprocess.Popen[bytes]] = []

    def start(version: str = "") -> subprocess.Popen[bytes]:
        code = "import asyncio, crossdock, logging\nfrom distributed import Worker\n"
        code += f"crossdock.__version__ = {version!r} or crossdock.__version__\n"
        code += "async def main():\n"
        code += f"    async with Worker({scheduler!r}, nthreads=1, dashboard_address=None) as worker:\n"
        code += "        await worker.finished()\n"
        code += "asyncio.run(main())\n"
        started.append(
            subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_others_do_the_work_of_a_lost_worker_and_another_version_gets_none(
    crossdock: Crossdock,
    places: tuple[str, str],
    scheduler: str,
    start_worker: Callable[..., subprocess.Popen[bytes]],
    fault_proxy: Callable[..., FaultProxy],
    target: DockerRegistry,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    first = start_worker()
    start_worker()
    start_worker("0.0.1")
    slow = fault_proxy(target.host)
    slow.add(Fault(UPLOADS, times=None, rate=20_000))
    file = write(tmp_path / "m.yaml", places[0], f"{slow.host}/{places[1].partition('/')[2]}")
    with crossdock.start(
        "apply",
        file,
        "--output",
        "json",
        "--progress",
        "plain",
        "--cluster",
        scheduler,
        "--worker-timeout",
        "4s",
    ) as running:
        deadline = time.monotonic() + 60
        while len(slow.seen) < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        first.send_signal(number)
        done = running.finish()
    assert done.code == 0, str(done)
    assert "0.0.1" in done.stderr
    assert "gets no work" in done.stderr
    crossdock.ok("verify", file)
    totals = json.loads(done.stdout)["totals"]
    assert (totals["tags"], totals["failed"]) == (16, 0)


def test_a_cancelled_run_leaves_no_process_and_goes_on(
    crossdock: Crossdock,
    places: tuple[str, str],
    target: DockerRegistry,
    fault_proxy: Callable[..., FaultProxy],
    tmp_path: Path,
) -> None:
    slow = fault_proxy(target.host)
    slow.add(Fault(UPLOADS, times=None, rate=2_000))
    file = write(tmp_path / "m.yaml", places[0], f"{slow.host}/{places[1].partition('/')[2]}")
    with crossdock.start("apply", file, *QUIET, "--workers", "2") as running:
        deadline = time.monotonic() + 60
        while len(slow.seen) < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        started = children(running.pid)
        running.interrupt()
        done = running.finish(30)
    assert done.code == CANCELLED, str(done)
    assert started
    wait_until(lambda: not any(map(is_alive, started)), "the workers to end", 10)
    done = crossdock.ok("apply", write(tmp_path / "m.yaml", *places), *QUIET)
    assert done.result["totals"]["tags"] == 16


def test_a_cluster_that_cannot_be_used_is_told_before_anything_is_sent(
    crossdock: Crossdock, places: tuple[str, str], source: DockerRegistry, scheduler: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "m.yaml", *places)
    begin = source.mark()
    for words, said in (
        (("--cluster", "tcp://127.0.0.1:1"), ["no Dask scheduler", "127.0.0.1:1"]),
        (("--cluster", scheduler), ["has no workers"]),
        (("--cluster", "http://127.0.0.1:1"), ["tcp://HOST:PORT"]),
        (("--cluster", "tcp://192.0.2.1:8786", "--src-creds-stdin"), ["192.0.2.1", "unencrypted"]),
        (("--cluster", scheduler, "--workers", "2"), ["not allowed with"]),
        (("--workers", "2", "--shard", "0/2"), ["not allowed with"]),
        (("--workers", "0"), ["1 or more"]),
    ):
        done = crossdock("apply", file, *QUIET, *words, stdin="user:secret\n")
        assert done.code == USAGE, str(done)
        assert "Traceback" not in done.stderr
        assert all(word in done.stderr for word in said), done.stderr
        assert "secret" not in done.stderr
    assert [each for each in source.accesses(begin) if "/manifests/" in each.path] == []
    file = write(tmp_path / "d.yaml", *places, delete={"mode": "delete"})
    crossdock.fail("apply", file, "--workers", "2", code=USAGE, naming=["deletes nothing"])


def test_without_the_extra_it_says_so(crossdock: Crossdock, places: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('none')\n")
    file = write(tmp_path / "m.yaml", *places)
    env = {"PYTHONPATH": str(tmp_path)}
    for words in (("--workers", "2"), ("--cluster", "tcp://127.0.0.1:1")):
        crossdock.fail("apply", file, *words, env=env, code=USAGE, naming=["Dask", "crossdock[dask]"])
