"""`crossdock registry` and `crossdock demo` as commands; the server's protocol is tested beside its code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from support.command import MODULE, NOT_FOUND, Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, everything, one_layer_image, push
from support.process import ServerProcess, free_port, listening, wait_until
from support.push import Remote
from support.skopeo import copy_all, raw_digest

pytestmark = pytest.mark.real

Serve = Callable[[Path], Remote]


@pytest.fixture
def serve(closing: ExitStack, tmp_path: Path) -> Serve:
    """Starts ``crossdock registry`` over a folder."""

    def start(root: Path) -> Remote:
        port = free_port()
        server = ServerProcess(
            f"crossdock registry :{port}",
            [*MODULE, "registry", "--root", str(root), "--listen", f"127.0.0.1:{port}"],
            tmp_path / f"log-{port}",
            lambda: listening(port),
        )
        closing.callback(server.stop)
        return Remote(f"127.0.0.1:{port}")

    return start


def test_copies_go_in_and_out_and_skopeo_agrees(
    serve: Serve,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    real_index: tuple[ImageBuilder, Content],
    tmp_path: Path,
) -> None:
    builder, content = real_index
    graph = push(source.remote, repository, builder, content, "v1")
    served = serve(tmp_path / "root")
    crossdock.copy(f"{source.host}/{repository}:v1", f"{served.host}/{repository}:v1")
    assert_holds(served, repository, "v1", graph)
    assert raw_digest(f"docker://{served.host}/{repository}:v1") == graph.root
    copy_all(f"docker://{served.host}/{repository}:v1", f"oci:{tmp_path}/back:v1")
    crossdock.copy(f"{served.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", graph)
    assert crossdock.ok("tags", f"{served.host}/{repository}").stdout == "v1\n"
    crossdock.fail("inspect", f"{served.host}/{repository}:v2", code=NOT_FOUND)


def test_a_second_copy_moves_nothing_and_other_repositories_mount(
    serve: Serve,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    graph = push(source.remote, repository, builder, everything(builder), "v1")
    served = serve(tmp_path / "root")
    words = f"{source.host}/{repository}:v1", f"{served.host}/{repository}:v1"
    assert crossdock.copy(*words)["bytes_moved"] == graph.blob_bytes
    assert crossdock.copy(*words)["bytes_moved"] == 0
    result = crossdock.copy(f"{served.host}/{repository}:v1", f"{served.host}/other/place:v1")
    assert (result["bytes_mounted"], result["bytes_moved"]) == (graph.blob_bytes, 0)
    assert_holds(served, "other/place", "v1", graph)


def test_a_large_layer_moves_by_ranges_between_two_of_them(
    serve: Serve, crossdock: Crossdock, builder: ImageBuilder, tmp_path: Path
) -> None:
    one, two = serve(tmp_path / "one"), serve(tmp_path / "two")
    content, _ = one_layer_image(builder, 30_000_000)
    graph = push(one, "some/repository", builder, content, "v1")
    words = f"{one.host}/some/repository:v1", f"{two.host}/some/repository:v1"
    result = crossdock.copy(*words, "--chunk-size", "2MiB")
    assert result["bytes_moved"] == graph.blob_bytes
    assert_holds(two, "some/repository", "v1", graph)


def test_its_content_survives_its_end(serve: Serve, builder: ImageBuilder, tmp_path: Path) -> None:
    first = serve(tmp_path / "root")
    graph = push(first, "some/repository", builder, sample_index(builder), "v1")
    ServerProcess.running[-1].stop()
    assert_holds(serve(tmp_path / "root"), "some/repository", "v1", graph)


def test_ctrl_c_ends_it_cleanly(crossdock: Crossdock, tmp_path: Path) -> None:
    port = free_port()
    with crossdock.start("registry", "--root", tmp_path / "root", "--listen", f"127.0.0.1:{port}") as running:
        wait_until(lambda: listening(port), "the registry to listen")
        running.interrupt()
        done = running.finish()
    assert done.code in (0, 130, -signal.SIGINT), str(done)
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_line(
    crossdock: Crossdock, source: DockerRegistry, tmp_path: Path
) -> None:
    done = crossdock("registry", "--root", tmp_path / "root", "--listen", source.host)
    assert done.code not in (0, 1), str(done)
    assert "Traceback" not in done.stderr
    assert source.host in done.error


@pytest.mark.slow
def test_the_demo_runs_and_reports(crossdock: Crossdock) -> None:
    done = crossdock.ok("demo", "--size", "8MiB", timeout=120)
    assert "sha256:" in done.stdout + done.stderr
