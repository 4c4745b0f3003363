"""``crossdock apply``: what a migration file says is done, once, whatever happens in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import one_layer_image, push
from support.push import Remote

pytestmark = pytest.mark.real

QUIET = ("--output", "json", "--progress", "none")


def write(path: Path, source: str, *targets: str, **more: Any) -> Path:
    """A migration file with one entry. JSON is YAML."""
    entry = {"name": "team", "source": source, "targets": list(targets), **more}
    path.write_text(json.dumps({"version": 1, "mirrors": [entry]}))
    return path


def state_of(remote: Remote, repository: str) -> dict[str, str]:
    """Tag → digest."""
    return {
        tag: remote.manifest(repository, tag).headers["docker-content-digest"]
        for tag in remote.tags(repository)
    }


def fill(remote: Remote, repository: str, builder: ImageBuilder, images: int, tags: int) -> list[Content]:
    """A repository with so many images, each with `tags` tags."""
    made = [one_layer_image(builder, 3000 + number)[0] for number in range(images)]
    for number, image in enumerate(made):
        for tag in range(tags):
            push(remote, repository, builder, image, f"v{number}.{tag}")
    return made


@pytest.fixture
def places(source: DockerRegistry, target: DockerRegistry, repository: str) -> tuple[str, str]:
    return f"{source.host}/{repository}", f"{target.host}/copy/{repository}"


def test_tags_of_one_manifest_are_copied_together_and_a_second_run_asks_for_each_tag_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    places: tuple[str, str],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    fill(source.remote, f"{repository}/app", builder, 10, 5)
    file = write(tmp_path / "m.yaml", *places, repositories={"include": ["app"]})
    begin = source.mark()
    first = crossdock.ok("apply", str(file), *QUIET).result
    gets = [each for each in source.accesses(begin) if each.method == "GET" and "/manifests/" in each.path]
    assert len(gets) == 10
    assert state_of(target.remote, f"copy/{repository}/app") == state_of(source.remote, f"{repository}/app")
    totals = first["totals"]
    assert (totals["tags"], totals["images"], totals["copied"], totals["failed"]) == (50, 10, 50, 0)
    assert first["not_copied"] == []
    marks = source.mark(), target.mark()
    again = crossdock.ok("apply", str(file), *QUIET).result
    assert again["run"] != first["run"]
    assert (again["totals"]["unchanged"], again["totals"]["copied"]) == (50, 0)
    for registry, mark in ((source, marks[0]), (target, marks[1])):
        asked = [each for each in registry.accesses(mark) if "/manifests/" in each.path]
        assert [each.method for each in asked] == ["HEAD"] * 50
