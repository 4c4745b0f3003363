"""Runs on a Dask cluster: the result is that of one machine, whatever becomes of workers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Fault
from support import dask
from support.command import CANCELLED, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.interrupted import start_target
from support.process import wait_until

pytestmark = pytest.mark.real

UPLOADS = "POST|PUT|PATCH */blobs/uploads/*"
QUIET = ("--output", "json", "--progress", "none")
NAMES = [f"r{number}" for number in range(6)]
IMAGES = 2 * len(NAMES)
PASSWORD = "correct-horse-battery"
ROLES = ("scheduler", "worker", "client")
MIB = 1 << 20


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a cluster with TLS: an authority, a certificate for everybody, its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", common_name="dask")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    return {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}


@pytest.fixture(scope="module")
def cluster_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the clusters keep their log and temporary files."""
    return tmp_path_factory.mktemp("clusters")


@pytest.fixture(scope="module")
def clusters(cluster_folder: Path, certificates: dict[str, str]) -> Iterator[list[str]]:
    """The addresses of a cluster of two workers, one of none, and one of one worker with TLS."""
    files = {f"tls_{role}_{kind}": certificates[kind] for role in ROLES for kind in ("cert", "key")}
    tls = {**files, "tls_ca_file": certificates["ca"]}
    schedulers = [{"workers": 2}, {"workers": 0}, {"workers": 1, "tls": tls}]
    with dask.started(cluster_folder, schedulers=schedulers) as addresses:
        yield addresses


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


@pytest.fixture
def slow(target: DockerRegistry, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before the target."""
    return fault_proxy(target.host)


def through(proxy: FaultProxy, place: str) -> str:
    return f"{proxy.host}/{place.partition('/')[2]}"


def write(path: Path, source: str, target: str, limits: Any = None, **more: Any) -> str:
    entry = {"name": "team", "source": source, "targets": [target], **more}
    document = {"version": 1, "mirrors": [entry], **({"limits": limits} if limits else {})}
    path.write_text(json.dumps(document))
    return str(path)


def write_list(path: Path, source: str, target: str) -> str:
    names = [f"{name}:{tag}" for name in NAMES for tag in ("v1", "v2")]
    path.write_text("".join(f"{source}/{name} {target}/{name}\n" for name in names))
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


def test_workers_do_what_one_process_does(
    crossdock: Crossdock, places: tuple[str, str], clusters: list[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "m.yaml", *places)
    done = crossdock.ok("apply", file, *QUIET, "--cluster", clusters[0])
    assert done.stderr == ""
    totals = done.result["totals"]
    assert (totals["tags"], totals["copied"], totals["images"]) == (IMAGES, IMAGES, IMAGES)
    assert totals["requests"] > IMAGES * 5
    assert [each["tag"] for each in done.result["copies"]] == ["new"] * IMAGES
    crossdock.ok("verify", file)
    assert crossdock.ok("apply", file, *QUIET).result["totals"]["unchanged"] == IMAGES
    runs = json.loads(crossdock.ok("runs", "list", "--output", "json").stdout)["runs"]
    assert [(each["totals"]["tags"], each["status"]) for each in runs] == [(IMAGES, "done")] * 2


def test_a_plan_and_what_failed(
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    places: tuple[str, str],
    clusters: list[str],
    tmp_path: Path,
) -> None:
    spoilt = []
    for name in NAMES[:3]:
        digest = source.remote.manifest(f"{repository}/{name}", "v2").headers["docker-content-digest"]
        spoilt.append((source.blob_file(digest), source.blob_file(digest).read_bytes()))
    plan = str(tmp_path / "PLAN.json")
    crossdock.ok("plan", write(tmp_path / "m.yaml", *places), "--out", plan)
    for path, _ in spoilt:
        path.write_bytes(b"spoilt")
    words = (*QUIET, "--cluster", clusters[0])
    done = crossdock("apply", plan, *words, "--retries", "0")
    assert done.code not in (0, USAGE)
    assert (done.result["totals"]["copied"], done.result["totals"]["failed"]) == (IMAGES - 3, 3)
    assert len(done.result["not_copied"]) == 3
    for path, data in spoilt:
        path.write_bytes(data)
    again = crossdock.ok("apply", plan, *words, "--failed").result["totals"]
    assert (again["copied"], again["unchanged"]) == (3, 0)


def test_deletes_are_made_with_their_caps(
    crossdock: Crossdock,
    places: tuple[str, str],
    clusters: list[str],
    closing: ExitStack,
    tmp_path: Path,
) -> None:
    target = start_target("embedded", tmp_path / "target", closing)
    crossdock.ok("copy", f"{places[0]}/r0:v1", f"{target}/copy/r0:gone", *QUIET)
    for most, left in ((0, ["gone", "v1", "v2"]), (5, ["v1", "v2"])):
        deletes = {"mode": "delete", "max_tags": most, "max_percent": 100, "grace": "0s"}
        file = write(tmp_path / "m.yaml", places[0], f"{target}/copy", delete=deletes)
        done = crossdock("apply", file, *QUIET, "--cluster", clusters[0])
        assert (done.code == 0, done.result["totals"]["deleted"]) == (most > 0, most and 1), str(done)
        tags = crossdock.ok("tags", f"{target}/copy/r0", "--output", "json").result["tags"]
        assert sorted(tags) == left


def test_a_list_is_copied_and_its_totals_are_those_of_one_machine(
    crossdock: Crossdock, places: tuple[str, str], clusters: list[str], tmp_path: Path
) -> None:
    path = write_list(tmp_path / "list", *places)
    with (tmp_path / "list").open("a") as more:
        more.write(f"{places[0]}/none:v1 {places[1]}/none:v1\n")
        more.write(f"{places[0]}/r0:v1 {places[1]}/a:v1 {places[1]}/b:v1\n")
    report = tmp_path / "report.json"
    done = crossdock("copy", "--from-file", path, *QUIET, "--cluster", clusters[0], "--report", report)
    found = done.result
    assert (found["totals"]["copied"], found["totals"]["failed"]) == (IMAGES + 2, 1), str(done)
    assert found["not_copied"] == [f"{places[0]}/none:v1 {places[1]}/none:v1"]
    line = found["copies"][-1]
    assert [each["status"] for each in line["targets"]] == ["copied", "copied"]
    assert json.loads(report.read_text())["copies"][0]["blobs"]
    again = crossdock("copy", "--from-file", path, *QUIET).result
    assert digests(again) == digests(found)


def test_a_mirror_ends_as_on_one_machine(
    crossdock: Crossdock, places: tuple[str, str], clusters: list[str], tmp_path: Path
) -> None:
    crossdock.ok("copy", f"{places[0]}/r0:v1", f"{places[1]}/r0:v1", *QUIET)
    report = tmp_path / "report.json"
    words = ("mirror", *places, *QUIET, "--cluster", clusters[0])
    done = crossdock.ok(*words, "--tags", "v1", "--report", report).result
    totals = done["totals"]
    found = [totals[name] for name in ("repositories", "tags", "copies", "copied", "unchanged")]
    assert found == [len(NAMES), len(NAMES), len(NAMES), len(NAMES) - 1, 1], done
    copies = json.loads(report.read_text())["copies"]
    assert sorted(each["status"] for each in copies) == ["copied"] * (len(NAMES) - 1) + ["unchanged"]
    assert any(each["blobs"] for each in copies)
    again = crossdock.ok("mirror", *places, *QUIET).result["totals"]
    assert (again["copied"], again["unchanged"]) == (len(NAMES), len(NAMES))
    done = crossdock("mirror", *places, *QUIET, "--cluster", clusters[0], "--tags", "none")
    assert (done.code, "have no tag that is chosen" in done.stderr) == (12, True), str(done)


def digests(found: dict[str, Any]) -> list[str | None]:
    return [each.get("digest") for line in found["copies"] for each in line["targets"]]


def test_credentials_travel_by_tls_and_stay_out_of_logs_and_files(
    crossdock: Crossdock,
    places: tuple[str, str],
    clusters: list[str],
    certificates: dict[str, str],
    cluster_folder: Path,
    tmp_path: Path,
) -> None:
    path = write_list(tmp_path / "list", *places)
    files = [word for name in certificates for word in (f"--cluster-{name}", certificates[name])]
    words = ("copy", "--from-file", path, *QUIET, "--cluster", clusters[2], "--src-creds-stdin")
    done = crossdock.ok(*words, *files, stdin=f"user:{PASSWORD}\n")
    assert done.result["totals"]["copied"] == IMAGES
    others = [each for each in cluster_folder.rglob("*") if each.is_file()]
    assert others
    assert not any(PASSWORD.encode() in each.read_bytes() for each in others)
    done = crossdock(*words, stdin=f"user:{PASSWORD}\n")  # without certificates
    assert (done.code, "no Dask scheduler answers" in done.stderr) == (USAGE, True), str(done)


def test_requests_are_limited_and_pauses_hold_for_the_whole_cluster(
    crossdock: Crossdock, places: tuple[str, str], clusters: list[str], slow: FaultProxy, tmp_path: Path
) -> None:
    busy = Answer(429, {"Retry-After": "2"})
    fault = slow.add(Fault("POST */blobs/uploads/*", nth=6, answer=busy))
    limits = {"hosts": {slow.host: {"requests_per_second": 30, "connections": 2}}}
    file = write(tmp_path / "m.yaml", places[0], through(slow, places[1]), limits)
    crossdock.ok("apply", file, *QUIET, "--cluster", clusters[0])
    times = [each.at for each in slow.seen]
    for index, begin in enumerate(times):
        assert sum(begin <= at < begin + 1 for at in times[index:]) <= 30 + 30 * 0.2 + 2
    assert fault.reached.is_set()
    refused = next(each.at for each in slow.seen if each.status == 429)
    assert not [at for at in times if refused + 0.5 < at < refused + 1.5]


def test_connections_to_a_host_are_those_of_the_whole_cluster(
    crossdock: Crossdock, places: tuple[str, str], clusters: list[str], slow: FaultProxy, tmp_path: Path
) -> None:
    slow.add(Fault(UPLOADS, times=None, rate=30_000))  # so that each worker could use many
    limits = {"hosts": {slow.host: {"connections": 4}}}
    file = write(tmp_path / "m.yaml", places[0], through(slow, places[1]), limits)
    crossdock.ok("apply", file, *QUIET, "--cluster", clusters[0])
    slow.settle()
    used: dict[int, tuple[float, float]] = {}
    for each in slow.seen:
        begin, _ = used.get(each.connection, (each.at, 0.0))
        used[each.connection] = begin, each.ended_at
    most = max(sum(begin <= at < end for begin, end in used.values()) for at, _ in used.values())
    assert 1 < most <= 4  # of two workers


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process with one worker (`dask.start`), and ends it."""
    started: list[subprocess.Popen[str]] = []

    def start(**given: Any) -> subprocess.Popen[str]:
        started.append(dask.start(tmp_path / "workers", workers=1, **given))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_others_do_the_work_of_lost_workers_from_where_they_were(
    crossdock: Crossdock,
    source: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
    clusters: list[str],
    start_worker: Callable[..., subprocess.Popen[str]],
    fault_proxy: Callable[..., FaultProxy],
    closing: ExitStack,
    tmp_path: Path,
) -> None:
    """One is killed, one is frozen; one of another version gets nothing, and the last does the rest."""
    for name in ("a", "b"):
        push(source.remote, f"{repository}/{name}", builder, one_layer_image(builder, 12 * MIB)[0], "v1")
    target = start_target("embedded", tmp_path / "target", closing)
    slow = fault_proxy(target)
    slow.add(Fault(lambda seen: seen.is_upload_body(), times=None, rate=3 * MIB))
    file = write(tmp_path / "m.yaml", f"{source.host}/{repository}", f"{slow.host}/copy")
    lost = [start_worker(address=clusters[1]) for _ in range(2)]
    other = start_worker(address=clusters[1], version="0.0.1")
    for each in (*lost, other):
        dask.addresses(each)
    words = (*QUIET[:2], "--progress", "plain", "--cluster", clusters[1], "--worker-timeout", "6s")
    words = (*words, "--resume-above", "1MiB", "--upload-chunk", "2MiB")
    with crossdock.start("apply", file, *words) as running:
        wait_until(lambda: chunks(slow) >= 4, "chunks to arrive", 60)
        lost[0].send_signal(signal.SIGKILL)
        lost[1].send_signal(signal.SIGSTOP)
        start_worker(address=clusters[1])
        done = running.finish(120)
    assert done.code == 0, str(done)
    assert "0.0.1" in done.stderr
    assert "gets no work" in done.stderr
    assert "is given up" in done.stderr
    crossdock.ok("verify", file)
    assert json.loads(done.stdout)["totals"]["copied"] == 2
    sent = sum(each.body_size for each in slow.seen if each.is_upload_body())
    assert sent <= 2 * (12 * MIB + 2 * MIB) + 10_000


def chunks(proxy: FaultProxy) -> int:
    return sum(each.is_upload_body() and each.method == "PATCH" for each in proxy.seen)


def test_a_cancelled_run_leaves_no_process_and_local_workers_go_on(
    crossdock: Crossdock, places: tuple[str, str], slow: FaultProxy, tmp_path: Path
) -> None:
    slow.add(Fault(UPLOADS, times=None, rate=2_000))
    file = write(tmp_path / "m.yaml", places[0], through(slow, places[1]))
    with crossdock.start("apply", file, *QUIET, "--workers", "2") as running:
        wait_until(lambda: len(slow.seen) >= 10, "requests", 60)
        started = children(running.pid)
        running.interrupt()
        begin = time.monotonic()
        done = running.finish(30)
    assert done.code == CANCELLED, str(done)
    assert started
    assert time.monotonic() - begin < 20
    wait_until(lambda: not any(map(is_alive, started)), "the workers to end", 10)
    slow.faults.clear()
    done = crossdock.ok("apply", file, *QUIET, "--workers", "1")
    assert done.result["totals"]["tags"] == IMAGES


def test_a_cluster_that_cannot_be_used_is_told_before_anything_is_sent(
    crossdock: Crossdock, places: tuple[str, str], source: DockerRegistry, clusters: list[str], tmp_path: Path
) -> None:
    file = write(tmp_path / "m.yaml", *places)
    begin = source.mark()
    for words, said in (
        (("--cluster", "tcp://127.0.0.1:1"), ["no Dask scheduler", "127.0.0.1:1"]),
        (("--cluster", clusters[1]), ["has no workers"]),
    ):
        done = crossdock("apply", file, *QUIET, *words, stdin="user:secret\n")
        assert done.code == USAGE, str(done)
        assert "Traceback" not in done.stderr
        assert all(word in done.stderr for word in said), done.stderr
    assert [each for each in source.accesses(begin) if "/manifests/" in each.path] == []


def test_without_the_extra_it_says_so(crossdock: Crossdock, places: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('none')\n")
    file = write(tmp_path / "m.yaml", *places)
    env = {"PYTHONPATH": str(tmp_path)}
    for words in (("--workers", "2"), ("--cluster", "tcp://127.0.0.1:1")):
        crossdock.fail("apply", file, *words, env=env, code=USAGE, naming=["Dask", "crossdock[dask]"])
