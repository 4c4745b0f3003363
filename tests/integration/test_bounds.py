"""Sizes at the edges of chunks and budgets: nothing is lost, nothing waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, assert_layout_holds, push

pytestmark = pytest.mark.real

KIB = 1 << 10
MIB = 1 << 20


def test_blobs_around_the_edges_of_a_chunk(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    sizes = [1, 2, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, MIB - 1, MIB, MIB + 1, 3 * MIB + 7]
    graph = push(
        source.remote,
        repository,
        builder,
        builder.image([builder.random_layer(size) for size in sizes]),
        "v1",
    )
    for place in (f"{target.host}/{repository}:v1", f"oci:{tmp_path}/layout:v1"):
        result = crossdock.copy(f"{source.host}/{repository}:v1", place, "--chunk-size", "64KiB")
        assert result["bytes_moved"] == graph.blob_bytes
        assert result["bytes_requested"] == graph.blob_bytes
    assert_holds(target.remote, repository, "v1", graph)
    assert_layout_holds(tmp_path / "layout", graph, "v1")


def test_a_blob_of_no_bytes(
    crossdock: Crossdock, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    layout = ImageBuilder(tmp_path / "from")
    empty = layout.blob(b"", "application/vnd.example.nothing")
    layout.tag(layout.image([empty, layout.random_layer(10)]), "v1")
    crossdock.copy(f"oci:{layout.root}:v1", f"{target.host}/{repository}:v1")
    assert target.remote.blob(repository, empty.digest) == b""
    crossdock.copy(f"{target.host}/{repository}:v1", f"oci:{tmp_path}/to:v1")
    assert (tmp_path / "to" / "blobs" / empty.digest.replace(":", "/")).read_bytes() == b""


@pytest.mark.parametrize(
    "flags",
    [
        ("--memory", "4MiB", "--chunk-size", "64KiB", "--connections", "64"),
        ("--memory", "4MiB", "--chunk-size", "64MiB", "--connections", "1"),
        ("--memory", "5MiB", "--chunk-size", "3MiB", "--connections", "8"),
        ("--memory", "1GiB", "--chunk-size", "1GiB", "--connections", "256"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_any_budget_moves_several_layers_at_once(
    flags: tuple[str, ...],
    ranges: bool,
    crossdock: Crossdock,
    source: DockerRegistry,
    source_faults: FaultProxy,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    layers = [builder.random_layer(3_000_000 + number) for number in range(7)]
    graph = push(source.remote, repository, builder, builder.image(layers), "v1")
    if not ranges:
        source_faults.add(Fault(lambda r: r.is_blob_get(), times=None, strip_range=True))
    words = f"{source_faults.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    assert crossdock.copy(*words, *flags)["bytes_moved"] == graph.blob_bytes
    assert_holds(target.remote, repository, "v1", graph)


def test_two_copies_to_one_repository_at_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, builder.image([builder.random_layer(8_000_000)]), "v1")
    words = ("copy", f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1", "--progress", "none")
    with crossdock.start(*words) as one, crossdock.start(*words) as two:
        for run in (one, two):
            done = run.finish()
            assert done.code == 0, str(done)
    assert_holds(target.remote, repository, "v1", graph)


def test_a_copy_onto_itself_changes_nothing(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    graph = push(source.remote, repository, builder, builder.helm_chart(), "v1")
    mark = source.mark()
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{source.host}/{repository}:v1")
    assert (result["blobs_moved"], result["blobs_mounted"]) == (0, 0)
    assert result["blobs_skipped"] == len(graph.blobs)
    assert source.uploads_begun(mark) == 0
    again = crossdock.copy(f"{source.host}/{repository}:v1", f"{source.host}/{repository}:other")
    assert again["blobs_skipped"] == len(graph.blobs)
    assert_holds(source.remote, repository, "other", graph)
