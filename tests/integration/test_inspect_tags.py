"""`inspect` and `tags`, over registries and layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.imagebuilder import ImageBuilder, sample_index
from support.command import NOT_FOUND, SOURCE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import push
from support.process import free_port

pytestmark = pytest.mark.real


def test_tags_are_one_a_line(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    image = builder.image([builder.random_layer(100)])
    names = sorted([f"v{number}" for number in range(30)] + ["latest", "Upper_case.1-x"])
    for name in names:
        push(source.remote, repository, builder, image, name)
    done = crossdock.ok("tags", f"{source.host}/{repository}")
    assert sorted(done.stdout.splitlines()) == names
    assert done.stderr == ""
    assert crossdock.ok("tags", f"docker://{source.host}/{repository}").stdout == done.stdout


def test_tags_of_a_missing_repository_are_not_found(
    crossdock: Crossdock, source: DockerRegistry, repository: str
) -> None:
    name = f"{source.host}/{repository}"
    crossdock.fail("tags", name, code=NOT_FOUND, naming=[name])


def test_tags_of_an_unreachable_registry_are_the_sources_fault(crossdock: Crossdock) -> None:
    name = f"127.0.0.1:{free_port()}/some/repository"
    crossdock.fail("tags", name, "--retries", "1", code=SOURCE, naming=[name])


def test_inspect_prints_digest_and_media_type(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    graph = push(source.remote, repository, builder, sample_index(builder), "v1")
    for reference in (f"{source.host}/{repository}:v1", f"docker://{source.host}/{repository}@{graph.root}"):
        text = crossdock.ok("inspect", reference)
        assert graph.root in text.stdout
        assert graph.media_type in text.stdout
        assert text.stderr == ""
        document = json.loads(crossdock.ok("inspect", reference, "--output", "json").stdout)
        assert (document["digest"], document["media_type"]) == (graph.root, graph.media_type)


def test_inspect_reads_no_blob(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    push(source.remote, repository, builder, sample_index(builder), "v1")
    mark = source.mark()
    crossdock.ok("inspect", f"{source.host}/{repository}:v1")
    assert not [a for a in source.accesses(mark) if "/blobs/" in a.path]


def test_inspect_reads_layouts(crossdock: Crossdock, builder: ImageBuilder, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "layout", seed=4)
    root = layout.tag(sample_index(layout), "here")
    assert root.digest in crossdock.ok("inspect", f"oci:{layout.root}:here").stdout
    assert root.digest in crossdock.ok("inspect", f"oci:{layout.root}@{root.digest}").stdout
    crossdock.fail("inspect", f"oci:{layout.root}:elsewhere", code=NOT_FOUND, naming=["elsewhere"])


def test_inspect_of_a_missing_tag_is_not_found(
    crossdock: Crossdock, source: DockerRegistry, repository: str
) -> None:
    name = f"{source.host}/{repository}:none"
    crossdock.fail("inspect", name, code=NOT_FOUND, naming=[name])
