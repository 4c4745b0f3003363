"""Errors for missing content name the missing part and existing alternatives, with one more request."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import NOT_FOUND, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.images import push
from support.interrupted import KINDS, start_target
from support.push import Remote
from support.scripted import ScriptedRegistry

TAGS = ("v1.0.0", "v1.1.0", "v2.0.0", "stable", "Nightly", "edge", "rc")
ADVICE = "`crossdock tags` lists tags"


@pytest.fixture
def lenient(closing: ExitStack) -> ScriptedRegistry:
    return ScriptedRegistry(closing)


@pytest.fixture
def image(lenient: ScriptedRegistry, builder: ImageBuilder) -> Content:
    """An image at the source, with all the tags."""
    image = builder.image([builder.random_layer(100)])
    lenient.hold(builder)
    for tag in TAGS:
        lenient.name(tag, image)
    return image


def missing(crossdock: Crossdock, lenient: ScriptedRegistry, reference: str) -> str:
    """The line of a copy, which is that of `inspect` but for its first words."""
    source = f"{lenient.host}/{reference}"
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:new", code=NOT_FOUND)
    inspected = crossdock.fail("inspect", source, code=NOT_FOUND)
    assert inspected.partition(" source ")[2] == line.partition(" source ")[2]
    assert ("copy", "new") not in lenient.manifests
    return line


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("1.0.0", "/app has no tag 1.0.0; did you mean v1.0.0"),
        ("v1.0", "did you mean v1.1.0, v1.0.0 or v2.0.0?"),
        ("nightly", "did you mean Nightly?"),
        ("stabel", "did you mean stable?"),
        ("zzz", "its tags are Nightly, edge, rc, stable, v1.0.0 and 2 more"),
        ("latest", "/app has no tag latest, which is assumed where none is given; its tags are"),
    ],
)
def test_tag_that_is_missing_is_named_with_those_like_it(
    crossdock: Crossdock, lenient: ScriptedRegistry, tag: str, said: str
) -> None:
    line = missing(crossdock, lenient, f"app:{tag}")
    assert said in line
    assert ADVICE not in line


@pytest.mark.usefixtures("image")
def test_tag_that_was_not_given(crossdock: Crossdock, lenient: ScriptedRegistry) -> None:
    assert "no tag latest, which is assumed where none is given" in missing(crossdock, lenient, "app")


@pytest.mark.usefixtures("image")
def test_repository_that_is_missing(crossdock: Crossdock, lenient: ScriptedRegistry) -> None:
    line = missing(crossdock, lenient, "ap/p:stable")
    assert f"there is no repository ap/p at {lenient.host}" in line


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("part", ["v2", "v1"])
def test_part_of_the_api_in_the_name(crossdock: Crossdock, lenient: ScriptedRegistry, part: str) -> None:
    line = missing(crossdock, lenient, f"{part}/app:stable")
    said = f"{part}/ is a part of the API's URLs: leave it out, as in {lenient.host}/app"
    assert said in line
    assert said in crossdock.fail("tags", f"{lenient.host}/{part}/app", code=NOT_FOUND)


@pytest.mark.usefixtures("image")
def test_digest_that_is_missing(crossdock: Crossdock, lenient: ScriptedRegistry) -> None:
    line = missing(crossdock, lenient, f"app@sha256:{'0' * 64}")
    assert f"{lenient.host}/app exists and has no such manifest" in line


def test_tag_that_is_listed_without_a_manifest(
    crossdock: Crossdock, lenient: ScriptedRegistry, image: Content
) -> None:
    del lenient.manifests["app", "stable"]
    lenient.manifests["app", "stable"] = "", b""
    assert "lists the tag stable and does not have its manifest" in missing(crossdock, lenient, "app:stable")
    assert image.digest


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("status", [403, 404, 500, 429])
def test_list_that_cannot_be_had_says_nothing_wrong(
    crossdock: Crossdock, lenient: ScriptedRegistry, status: int
) -> None:
    """The list is requested once, after the failure, and is optional: its own failure is not shown."""
    lenient.refused["tags"] = status
    before = len(lenient.asked)
    line = crossdock.fail("inspect", f"{lenient.host}/app:nope", code=NOT_FOUND)
    assert ADVICE in line or status == 404
    lists = [path for _, path in lenient.asked[before:] if "/tags/" in path]
    assert len(lists) == 1


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_real_registries_tell_repository_and_tag_apart(
    crossdock: Crossdock, tmp_path: Path, closing: ExitStack, builder: ImageBuilder, kind: str
) -> None:
    host = start_target(kind, tmp_path / "registry", closing)
    push(Remote(host), "team/app", builder, builder.image([builder.random_layer(100)]), "v1.0.0")
    line = crossdock.fail("inspect", f"{host}/team/app:v1.0.1", code=NOT_FOUND)
    assert "has no tag v1.0.1; did you mean v1.0.0?" in line
    line = crossdock.fail("inspect", f"{host}/team/other", code=NOT_FOUND)
    assert f"there is no repository team/other at {host}" in line
    line = crossdock.fail("tags", f"{host}/team/other", code=NOT_FOUND)
    assert "check the repository's name" in line
    assert "crossdock tags" not in line


@pytest.mark.real
def test_import_says_it_in_its_own_words(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    image: Content,
    target: DockerRegistry,
    tmp_path: Path,
) -> None:
    inventory = tmp_path / "inventory.yaml"
    entry = f"{{name: myregistry, login_server: '{target.host}', tls: {{plain_http: true}}}}"
    inventory.write_text(f"registries:\n  - {entry}\n")
    words = ("-n", "myregistry", "--source", f"{lenient.host}/app:stabel", "-t", "copy:v1")
    line = crossdock.fail("acr", "import", *words, "--inventory", inventory, code=NOT_FOUND)
    assert f"{lenient.host}/app has no tag stabel; did you mean stable?" in line
    assert "crossdock tags" not in line
    assert image.digest


# -- what can be told before anything is asked ---------------------------------------------------------------


@pytest.mark.parametrize("named", [":v1", f"@sha256:{'0' * 64}"])
def test_tags_of_a_tag_are_refused(crossdock: Crossdock, tmp_path: Path, named: str) -> None:
    for place in ("127.0.0.1:1/app", f"oci:{tmp_path}"):
        line = crossdock.fail("tags", f"{place}{named}", code=USAGE)
        assert f"leave {named} out" in line


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:50861",
        "localhost:5000",
        "registry.example:443",
        "ghcr.io",
        "10.0.0.1",
        "[::1]:5000",
        "localhost",
        "me.azurecr.io",
    ],
)
def test_registry_without_a_repository_is_called_that(crossdock: Crossdock, host: str) -> None:
    """Docker reads ``127.0.0.1:50861`` as an image of Docker Hub with the tag 50861."""
    for words in (
        ("copy", "127.0.0.1:1/app:v1", host),
        ("copy", host, "127.0.0.1:1/app:v1"),
        ("inspect", host),
    ):
        line = crossdock.fail(*words, code=USAGE)
        assert f"write {host}/REPOSITORY[:TAG]" in line
        assert "docker.io" not in line
