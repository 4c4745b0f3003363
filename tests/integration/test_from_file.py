"""``crossdock copy --from-file`` between registries: one process, one report, whatever one pair does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Answer, Break, Fault
from support.command import CANCELLED, NOT_FOUND, SOURCE, Crossdock
from support.docker_registry import DockerRegistry
from support.faults import wait_set
from support.images import Graph, assert_holds, push

pytestmark = pytest.mark.real

IMAGES = 40
QUIET = ("--output", "json", "--progress", "none")


@pytest.fixture
def images(source: DockerRegistry, repository: str, builder: ImageBuilder) -> list[Graph]:
    """Small images in two repositories of the source, tagged ``v0``, ``v1``, …; all share one layer."""
    shared = builder.random_layer(20_000)
    return [
        push(
            source.remote,
            f"{repository}/{number % 2}",
            builder,
            builder.image([shared, builder.random_layer(5000)]),
            f"v{number}",
        )
        for number in range(IMAGES)
    ]


def list_of(source: str, target: str, repository: str, tmp_path: Path) -> Path:
    """The list that copies all of them."""
    names = [f"{repository}/{number % 2}:v{number}" for number in range(IMAGES)]
    path = tmp_path / "list"
    path.write_text("# all\n" + "".join(f"{source}/{name} {target}/{name}\n" for name in names))
    return path


def test_many_images_arrive_and_a_second_run_moves_nothing(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    images: list[Graph],
    tmp_path: Path,
) -> None:
    path = list_of(source.host, target.host, repository, tmp_path)
    first = crossdock.ok("copy", "--from-file", path, *QUIET).result
    assert [each["digest"] for each in first["copies"]] == [image.root for image in images]
    assert first["totals"]["copied"] == IMAGES
    for number, image in enumerate(images):
        assert_holds(target.remote, f"{repository}/{number % 2}", f"v{number}", image)
    before = target.mark()
    again = crossdock.ok("copy", "--from-file", "-", *QUIET, stdin=path.read_text()).result
    assert (again["totals"]["bytes_moved"], again["totals"]["bytes_requested"]) == (0, 0)
    assert target.uploads_begun(before) == 0


def test_one_pair_that_fails_leaves_the_others_alone(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    images: list[Graph],
    tmp_path: Path,
) -> None:
    wrong = set(images[7].blobs) - set(images[8].blobs)
    source_faults.add(
        Fault(
            lambda r: r.is_blob_get() and any(digest in r.path for digest in wrong),
            times=None,
            answer=Answer(404),
        )
    )
    path = list_of(source_faults.host, target.host, repository, tmp_path)
    report = tmp_path / "report"
    done = crossdock("copy", "--from-file", path, "--report", report, *QUIET)
    assert done.code == NOT_FOUND, str(done)
    failure, *_, last = done.stderr.splitlines()
    assert f"{repository}/1:v7 -> " in failure
    assert "1 of 40 copies failed" in last
    copies = json.loads(report.read_text())["copies"]
    assert [each["status"] for each in copies].count("copied") == IMAGES - 1
    assert copies[7]["error"]["side"] == "source"
    assert f"v{7}" not in target.remote.tags(f"{repository}/1")
    assert_holds(target.remote, f"{repository}/0", "v8", images[8])


def test_fail_fast_ends_the_run_with_the_first_failure(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    images: list[Graph],
    tmp_path: Path,
) -> None:
    source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, breaks=Break("stall", "request")))
    source_faults.add(Fault(lambda r: r.path.endswith("/manifests/v3"), times=None, answer=Answer(403)))
    path = list_of(source_faults.host, target.host, repository, tmp_path)
    done = crossdock("copy", "--from-file", path, "--fail-fast", *QUIET)
    assert "1 of 40 copies failed" in done.stderr
    totals = done.result["totals"]
    assert (totals["failed"], totals["copied"]) == (1, 0)
    assert totals["cancelled"] + totals["not_begun"] == IMAGES - 1
    assert target.forgotten_sessions(f"{repository}/0") == target.forgotten_sessions(f"{repository}/1") == []


def test_ctrl_c_cancels_all_and_the_report_says_what_was_done(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    images: list[Graph],
    tmp_path: Path,
) -> None:
    stall = target_faults.add(
        Fault(
            lambda r: r.method == "PUT" and r.path.endswith("/manifests/v3"), breaks=Break("stall", "request")
        )
    )
    path = list_of(source.host, target_faults.host, repository, tmp_path)
    report = tmp_path / "report"
    with crossdock.start("copy", "--from-file", path, "--report", report, "--progress", "none") as running:
        wait_set(stall.reached, "the manifest to be pushed")
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    assert done.stderr.startswith("crossdock: cancelled when ")
    assert done.error
    document = json.loads(report.read_text())
    assert document["copies"][3]["status"] == "cancelled"
    assert document["error"]["exit_code"] == CANCELLED
    assert len(document["not_copied"]) == IMAGES - document["totals"]["copied"]
    assert "v3" not in target.remote.tags(f"{repository}/1")
    assert target.forgotten_sessions(f"{repository}/0") == target.forgotten_sessions(f"{repository}/1") == []


def test_a_source_that_is_down_fails_its_pairs_and_no_other(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    images: list[Graph],
    unused_tcp_port: int,
    tmp_path: Path,
) -> None:
    path = tmp_path / "list"
    path.write_text(
        f"127.0.0.1:{unused_tcp_port}/x {target.host}/{repository}/x\n"
        f"{source.host}/{repository}/0:v0 {target.host}/{repository}/0:v0\n"
    )
    done = crossdock("copy", "--from-file", path, "--retries", "0", *QUIET)
    assert done.code == SOURCE, str(done)
    assert [each["status"] for each in done.result["copies"]] == ["failed", "copied"]


SHARED = 12  # repositories, all with one image


@pytest.fixture
def shared(source: DockerRegistry, repository: str, builder: ImageBuilder) -> list[Content]:
    """Two layers, one of them of several slots, that the images of all repositories share."""
    layers = [builder.random_layer(20_000), builder.random_layer(2_000_000)]
    for number in range(SHARED):
        image = builder.image([*layers, builder.random_layer(500)])
        push(source.remote, f"{repository}/r{number}", builder, image, "v1")
    return layers


def shared_list(source: str, target: str, repository: str) -> str:
    """The list that copies them, one to each repository."""
    names = [f"{repository}/r{number}:v1" for number in range(SHARED)]
    return "".join(f"{source}/{name} {target}/{name}\n" for name in names)


def bytes_read(source: DockerRegistry, mark: int, layer: Content) -> int:
    """Of the layer, from the source."""
    accesses = source.accesses(mark)
    return sum(each.size for each in accesses if each.method == "GET" and layer.digest in each.path)


def test_a_layer_that_many_repositories_need_is_read_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    shared: list[Content],
) -> None:
    mark = source.mark()
    text = shared_list(source.host, target.host, repository)
    totals = crossdock.ok("copy", "--from-file", "-", *QUIET, stdin=text).result["totals"]
    assert [bytes_read(source, mark, layer) for layer in shared] == [layer.size for layer in shared]
    assert totals["blobs_mounted"] == len(shared) * (SHARED - 1)
    assert totals["blobs_moved"] == len(shared) + 2 * SHARED  # a config and a layer of its own each
    assert totals["bytes_requested"] == totals["bytes_moved"]


def test_a_copy_that_fails_with_a_shared_layer_leaves_it_to_one_other(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    shared: list[Content],
) -> None:
    mark, small = source.mark(), shared[0]
    refusal = Fault(
        lambda r: r.is_upload_body() and small.digest.partition(":")[2] in r.path, answer=Answer(403)
    )
    target_faults.add(refusal)
    text = shared_list(source.host, target_faults.host, repository)
    totals = crossdock("copy", "--from-file", "-", *QUIET, stdin=text).result["totals"]
    assert refusal.reached.is_set()
    assert (totals["failed"], totals["copied"]) == (1, SHARED - 1)
    assert bytes_read(source, mark, small) == 2 * small.size


@pytest.mark.parametrize("status", [202, 405])
def test_a_target_that_does_not_mount_gets_all_uploads(
    status: int,
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    shared: list[Content],
) -> None:
    target_faults.add(Fault(lambda r: "mount=" in r.path, times=None, answer=Answer(status)))
    text = shared_list(source.host, target_faults.host, repository)
    totals = crossdock.ok("copy", "--from-file", "-", *QUIET, stdin=text).result["totals"]
    assert totals["blobs_moved"] == SHARED * (len(shared) + 2)
