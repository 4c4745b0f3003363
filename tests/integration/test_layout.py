"""Layouts on disk: full disks, hostile names, several writers at once."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.command import TARGET, Crossdock, error_of
from support.docker_registry import DockerRegistry
from support.images import (
    assert_holds,
    assert_layout_holds,
    layout_entries,
    layout_tags,
    one_layer_image,
    push,
    walk,
)
from support.process import require
from support.skopeo import raw_digest

pytestmark = pytest.mark.real


def test_a_file_that_may_not_grow_is_one_line_and_no_name(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    image, layer = one_layer_image(builder, 9_000_000)
    push(source.remote, repository, builder, image, "v1")
    layout = tmp_path / "layout"
    line = crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"oci:{layout}:v1",
        prefix=(require("prlimit"), "--fsize=4000000"),
        code=TARGET,
        naming=["target", f"oci:{layout}"],
    )
    assert "large" in line.lower()
    assert layout_tags(layout) == []
    assert not (layout / "blobs" / layer.digest.replace(":", "/")).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs (prlimit covers the rest)")
def test_a_full_disk_is_one_line_and_no_name(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    image, _ = one_layer_image(builder, 9_000_000)
    push(source.remote, repository, builder, image, "v1")
    disk, seen = tmp_path / "disk", tmp_path / "seen"
    disk.mkdir()
    if subprocess.run([require("unshare"), "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mount namespaces are not permitted here (prlimit covers the rest)")
    # The mount lives in a namespace of its own and goes with it: what is left on the disk is listed inside.
    script = (
        f'mount -t tmpfs -o size=6m none {disk} || exit 99; "$@"; code=$?; '
        f"find {disk} -type f -size +1000k > {seen}; cat {disk}/layout/index.json >> {seen}; exit $code"
    )
    done = crossdock(
        *("copy", f"{source.host}/{repository}:v1", f"oci:{disk}/layout:v1", "--progress", "none"),
        prefix=(require("unshare"), "-m", "sh", "-c", script, "sh"),
    )
    assert done.code == TARGET, str(done)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("cat: ")]
    assert error_of("\n".join(lines)), str(done)
    assert "target" in lines[0]
    assert f"oci:{disk}/layout" in lines[0]
    assert "No space left" in lines[0]
    left = seen.read_text()
    assert "ref.name" not in left
    assert "blobs/sha256" not in left


def test_a_layout_below_a_file_is_the_targets_fault(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    (tmp_path / "file").write_text("")
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"oci:{tmp_path}/file/layout:v1",
        code=TARGET,
        naming=["target", f"oci:{tmp_path}/file/layout"],
    )


def test_a_folder_that_is_not_a_layout_is_not_written_to(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    push(source.remote, repository, builder, builder.helm_chart(), "v1")
    (tmp_path / "index.json").write_text('{"mine":true}')
    done = crossdock("copy", f"{source.host}/{repository}:v1", f"oci:{tmp_path}:v1", "--progress", "none")
    assert done.code == TARGET, str(done)
    assert "target" in done.error
    assert (tmp_path / "index.json").read_text() == '{"mine":true}'


def test_a_path_with_spaces_and_letters_of_any_kind_works(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    graph = push(source.remote, repository, builder, builder.helm_chart(), "v1")
    layout = tmp_path / "my läyout ü" / "deep"
    crossdock.copy(f"{source.host}/{repository}:v1", f"oci:{layout}:v1")
    assert_layout_holds(layout, graph, "v1")
    relative = crossdock.copy(f"{source.host}/{repository}:v1", "oci:relative/path:v1")
    assert relative["digest"] == graph.root
    assert_layout_holds(crossdock.home / "relative" / "path", graph, "v1")


def test_a_hostile_layout_cannot_reach_outside_its_folder(
    crossdock: Crossdock, target: DockerRegistry, tmp_path: Path, repository: str
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    root = layout.tag(layout.image([layout.random_layer(10)]), "v1")
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    blob = layout.path(root)
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    index["manifests"][0]["digest"] = "sha256:../../../secret"
    index["manifests"][0]["size"] = 9
    (tmp_path / "layout" / "index.json").write_text(json.dumps(index))
    done = crossdock(
        "copy", f"oci:{tmp_path}/layout:v1", f"{target.host}/{repository}:v1", "--progress", "none"
    )
    assert done.code not in (0, 1), str(done)
    assert "source" in done.error
    assert "not yours" not in done.error
    assert blob.exists()
    assert target.remote.tags(repository) == []


def test_many_copies_into_one_layout_at_once_all_arrive(
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    layout = tmp_path / "layout"
    graphs = {
        f"v{number}": push(source.remote, repository, builder, sample_index(builder), f"v{number}")
        for number in range(6)
    }
    runs = [
        closing.enter_context(
            crossdock.start(
                "copy", f"{source.host}/{repository}:{tag}", f"oci:{layout}:{tag}", "--progress", "none"
            )
        )
        for tag in graphs
    ]
    for run in runs:
        done = run.finish()
        assert done.code == 0, str(done)
    assert layout_tags(layout) == sorted(graphs)
    for tag, graph in graphs.items():
        assert_layout_holds(layout, graph, tag)
        assert raw_digest(f"oci:{layout}:{tag}") == graph.root


def test_the_same_image_copied_twice_at_once_is_there_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    layout = tmp_path / "layout"
    image, _ = one_layer_image(builder, 20_000_000)
    graph = push(source.remote, repository, builder, image, "v1")
    words = ("copy", f"{source.host}/{repository}:v1", f"oci:{layout}:v1", "--progress", "none")
    for run in [closing.enter_context(crossdock.start(*words)) for _ in range(3)]:
        done = run.finish()
        assert done.code == 0, str(done)
    assert_layout_holds(layout, graph, "v1")
    assert len(layout_entries(layout)) == 1


def test_a_name_moves_to_the_new_content_and_the_old_content_stays(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    old = push(source.remote, repository, builder, builder.helm_chart("old"), "v1")
    crossdock.copy(f"{source.host}/{repository}:v1", f"oci:{layout}:latest")
    new = push(source.remote, repository, builder, builder.helm_chart("new"), "v1")
    crossdock.copy(f"{source.host}/{repository}:v1", f"oci:{layout}:latest")
    assert layout_tags(layout) == ["latest"]
    assert raw_digest(f"oci:{layout}:latest") == new.root
    assert (layout / "blobs" / old.root.replace(":", "/")).exists()


def test_from_layout_to_layout(crossdock: Crossdock, tmp_path: Path) -> None:
    one = ImageBuilder(tmp_path / "one")
    root = one.tag(sample_index(one), "v1")
    result = crossdock.copy(f"oci:{one.root}:v1", f"oci:{tmp_path}/two:v2")
    assert result["digest"] == root.digest
    assert raw_digest(f"oci:{tmp_path}/two:v2") == root.digest
    for digest in one.digests():
        assert (tmp_path / "two" / "blobs" / digest.replace(":", "/")).read_bytes() == one.read(digest)


def test_the_only_image_of_a_layout_needs_no_name(
    crossdock: Crossdock, target: DockerRegistry, repository: str, tmp_path: Path
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    root = layout.tag(sample_index(layout), "whatever")
    crossdock.copy(f"oci:{layout.root}", f"{target.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", walk(layout.read, root.digest))
