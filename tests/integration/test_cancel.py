"""Ctrl-C: exit code 130, the upload session dropped at the target, no tag; a later one ends at once."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Break, Fault
from support.command import CANCELLED, Crossdock, Finished
from support.docker_registry import DockerRegistry, start_docker_registry
from support.faults import wait_set
from support.images import Graph, layout_tags, one_layer_image, push
from support.process import find_distribution

pytestmark = pytest.mark.real

LAYER = 30_000_000


@pytest.fixture
def image(source: DockerRegistry, repository: str, builder: ImageBuilder) -> Graph:
    """An image with one layer, in the source."""
    content, _ = one_layer_image(builder, LAYER)
    return push(source.remote, repository, builder, content, "v1")


def is_clean(done: Finished) -> None:
    """Check for exit code 130 and one error about it."""
    assert done.code == CANCELLED, str(done)
    assert "Traceback" not in done.stdout + done.stderr, str(done)
    assert done.stdout == ""
    assert done.error
    assert "cancel" in done.stderr.lower()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_in_mid_upload_deletes_the_session(
    number: signal.Signals,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    stall = target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200))
    )
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the upload to begin")
        running.interrupt(number)
        done = running.finish()
    is_clean(done)
    opened = target_faults.count(lambda r: r.is_upload_start())
    deleted = target_faults.count(lambda r: r.method == "DELETE" and "/blobs/uploads/" in r.path)
    assert opened >= 1
    assert deleted == opened
    assert target.remote.tags(repository) == []
    assert target.forgotten_sessions(repository) == []


def test_distribution_3_keeps_no_session_of_a_cancelled_copy(
    crossdock: Crossdock, source: DockerRegistry, repository: str, image: Graph, tmp_path: Path
) -> None:
    # It keeps the bytes of a request that was cut, and answers 416 to a DELETE that does not know of them.
    with ExitStack() as closing:
        target = start_docker_registry(tmp_path / "target", program=find_distribution())
        closing.callback(target.stop)
        faults = FaultProxy(target.host)
        closing.callback(faults.close)
        stall = faults.add(
            Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 5_000_000))
        )
        words = f"{source.host}/{repository}:v1", f"{faults.host}/{repository}:v1"
        with crossdock.start("copy", *words, "--progress", "none") as running:
            wait_set(stall.reached, "the upload to begin")
            running.interrupt()
            is_clean(running.finish())
        assert target.upload_sessions() == []


def test_ctrl_c_while_the_source_stalls_ends_soon(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    stall = source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, breaks=Break("stall", at=100)))
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the download to begin")
        running.interrupt()
        done = running.finish()
    is_clean(done)
    assert target.remote.tags(repository) == []
    assert target.forgotten_sessions(repository) == []


def test_ctrl_c_while_the_manifest_is_awaited_ends_soon(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    image: Graph,
) -> None:
    stall = source_faults.add(
        Fault(lambda r: "/manifests/" in r.path, times=None, breaks=Break("stall", "request"))
    )
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the manifest to be asked for")
        running.interrupt()
        is_clean(running.finish())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_signals_of_one_request_to_stop_leave_no_session(
    number: signal.Signals,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    # GNU timeout signals its child, then its process group; a closed terminal adds SIGHUP.
    stall = target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200))
    )
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the upload to begin")
        running.interrupt(signal.SIGTERM)
        running.interrupt(number)
        done = running.finish()
    is_clean(done)
    assert target.forgotten_sessions(repository) == []


def test_gnu_timeout_leaves_no_session(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    stall = target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200))
    )
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    report = tmp_path / "report.json"
    # Python needs a while to start when the machine is busy: the time is long enough for that.
    how = ("copy", *words, "--progress", "none", "--report", report)
    done = crossdock(*how, prefix=("timeout", "6"))
    assert done.code == 124, str(done)
    assert stall.reached.is_set()
    assert "cancelled" in done.stderr
    assert target.forgotten_sessions(repository) == []
    assert json.loads(report.read_text())["error"]["exit_code"] == CANCELLED


def test_a_later_ctrl_c_ends_at_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    stall = target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200))
    )
    cleaning = target_faults.add(
        Fault(lambda r: r.method == "DELETE", times=None, breaks=Break("stall", "request"))
    )
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the upload to begin")
        running.interrupt()
        wait_set(cleaning.reached, "the session to be deleted")
        done = running.insist()
    assert done.code == CANCELLED, str(done)
    assert "Traceback" not in done.stderr
    assert target.remote.tags(repository) == []


def test_cleaning_up_is_bounded_when_the_target_is_silent(
    crossdock: Crossdock,
    source: DockerRegistry,
    target_faults: FaultProxy,
    repository: str,
    image: Graph,
) -> None:
    stall = target_faults.add(
        Fault(lambda r: r.is_upload_body(), times=None, breaks=Break("stall", "request", 200))
    )
    target_faults.add(Fault(lambda r: r.method == "DELETE", times=None, breaks=Break("stall", "request")))
    words = f"{source.host}/{repository}:v1", f"{target_faults.host}/{repository}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the upload to begin")
        running.interrupt()
        done = running.finish()
    is_clean(done)


def test_ctrl_c_into_a_layout_leaves_no_name_and_no_half_blob(
    crossdock: Crossdock, source_faults: FaultProxy, repository: str, image: Graph, tmp_path: Path
) -> None:
    layer = max(image.blobs, key=lambda digest: image.blobs[digest])
    stall = source_faults.add(
        Fault(lambda r: r.is_blob_get(layer), times=None, breaks=Break("stall", at=1_000_000))
    )
    layout = tmp_path / "layout"
    words = f"{source_faults.host}/{repository}:v1", f"oci:{layout}:v1"
    with crossdock.start("copy", *words, "--progress", "none") as running:
        wait_set(stall.reached, "the download to begin")
        running.interrupt()
        done = running.finish()
    is_clean(done)
    assert layout_tags(layout) == []
    assert not (layout / "blobs" / layer.replace(":", "/")).exists()
    crossdock.copy(words[0].replace(source_faults.host, source_faults.upstream), words[1])
    assert layout_tags(layout) == ["v1"]


def test_a_cancelled_copy_still_writes_its_report(
    crossdock: Crossdock,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    image: Graph,
    tmp_path: Path,
) -> None:
    stall = source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, breaks=Break("stall", at=100)))
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    report = tmp_path / "report.json"
    with crossdock.start("copy", *words, "--progress", "none", "--report", report) as running:
        wait_set(stall.reached, "the download to begin")
        running.interrupt()
        is_clean(running.finish())
    assert "cancel" in json.dumps(json.loads(report.read_text())).lower()
