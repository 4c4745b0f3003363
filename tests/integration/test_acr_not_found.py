"""``crossdock acr`` reports whether repository or tag is missing, and the tags that exist."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import ImageBuilder
from support.command import NOT_FOUND, Crossdock
from support.embedded import start_embedded
from support.images import push
from support.scripted import ScriptedRegistry

NO_DIGEST = f"sha256:{'0' * 64}"
ONE_ITEM = {
    "show": ("repository", "show", "-n", "HOST", "--image", "ITEM"),
    "delete": ("repository", "delete", "-n", "HOST", "--image", "ITEM", "--yes"),
    "untag": ("repository", "untag", "-n", "HOST", "--image", "ITEM"),
    "update": ("repository", "update", "-n", "HOST", "--image", "ITEM", "--write-enabled", "false"),
    "manifest show": ("manifest", "show", "-r", "HOST", "-n", "ITEM"),
    "manifest show-metadata": ("manifest", "show-metadata", "-r", "HOST", "-n", "ITEM"),
    "manifest update-metadata": ("manifest", "update-metadata", "HOST/ITEM", "--write-enabled", "false"),
    "manifest delete": ("manifest", "delete", "-r", "HOST", "-n", "ITEM", "--yes"),
}
REPOSITORY = {
    "show": ("repository", "show", "-n", "HOST", "--repository", "ITEM"),
    "update": ("repository", "update", "-n", "HOST", "--repository", "ITEM", "--write-enabled", "false"),
    "delete": ("repository", "delete", "-n", "HOST", "--repository", "ITEM", "--yes"),
    "show-tags": ("repository", "show-tags", "-n", "HOST", "--repository", "ITEM"),
    "show-manifests": (
        *("repository", "show-manifests", "-n", "HOST", "--repository", "ITEM"),
        "--only-show-errors",
    ),
    "list-metadata": ("manifest", "list-metadata", "-r", "HOST", "-n", "ITEM"),
}


@pytest.fixture(params=["azure", pytest.param("plain", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest, tmp_path: Path, closing: ExitStack, builder: ImageBuilder) -> str:
    """A registry with ``/acr/v1``, or one without, that has team/app:v1.2.3."""
    registry: Any
    if request.param == "azure":
        (tmp_path / "root").mkdir()
        registry = start_embedded(tmp_path, tmp_path / "root", closing)
    else:
        new_registry: Callable[..., Any] = request.getfixturevalue("new_registry")
        registry = new_registry()
    push(registry.remote, "team/app", builder, builder.image([builder.random_layer(100)]), "v1.2.3")
    return str(registry.host)


def missing(crossdock: Crossdock, words: tuple[str, ...], host: str, item: str) -> str:
    """The error of the command, which names no side and no command for copies."""
    words = tuple(each.replace("HOST", host).replace("ITEM", item) for each in words)
    line = crossdock.fail("acr", *words, code=NOT_FOUND).splitlines()[-1]
    assert " source " not in line
    assert "`crossdock tags`" not in line
    return line


@pytest.mark.parametrize("verb", ONE_ITEM)
def test_an_image_that_is_missing_is_distinguished_from_a_missing_repository(
    crossdock: Crossdock, host: str, verb: str
) -> None:
    words = ONE_ITEM[verb]
    line = missing(crossdock, words, host, "team/app:v1.2")
    assert line.endswith(f"; {host}/team/app has no tag v1.2; did you mean v1.2.3?")
    line = missing(crossdock, words, host, "team/app")
    assert "has no tag latest, which is assumed where none is given; its tags are v1.2.3" in line
    line = missing(crossdock, words, host, "team/ap:v1.2.3")
    assert line.endswith(f"; there is no repository team/ap at {host}, or none with tags")
    if verb != "untag":
        line = missing(crossdock, words, host, f"team/app@{NO_DIGEST}")
        assert line.endswith(f"; {host}/team/app exists and has no such manifest")


@pytest.mark.parametrize("verb", REPOSITORY)
def test_a_repository_that_is_missing_is_named(crossdock: Crossdock, host: str, verb: str) -> None:
    line = missing(crossdock, REPOSITORY[verb], host, "team/ap")
    assert line.endswith(f"; there is no repository team/ap at {host}, or none with tags")
    line = missing(crossdock, REPOSITORY[verb], host, "v2/team/app")
    assert line.endswith(f"; v2/ is a part of the API's URLs: leave it out, as in {host}/team/app")


@pytest.mark.parametrize("status", [403, 500])
def test_a_list_of_tags_that_cannot_be_had_adds_nothing(
    crossdock: Crossdock, closing: ExitStack, status: int
) -> None:
    """The explanation is one question after the failure, and its own failure is not shown."""
    registry = ScriptedRegistry(closing)
    registry.refused["tags"] = status
    line = crossdock.fail("acr", "repository", "show", "-n", registry.host, "-t", "app:v1", code=NOT_FOUND)
    assert line.endswith("; check repository and tag; `crossdock tags` lists tags")
    assert str(status) not in line.replace(registry.host, "")
    assert len([path for _, path in registry.asked if "/tags/" in path]) == 1
