"""A document's own media type and size count, whatever its index or its server states.

The targets are real and strict: docker-registry 2.8, distribution 3 and the embedded registry refuse a PUT
whose Content-Type is not the document's ``mediaType``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from crossdock.imagebuilder import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    Flavour,
    ImageBuilder,
)
from support.command import SOURCE, Crossdock
from support.embedded import start_embedded
from support.images import layout_entries
from support.interrupted import KINDS, start_target
from support.push import Remote, sha256
from support.scripted import ScriptedRegistry

pytestmark = pytest.mark.real

OTHER = {
    OCI_MANIFEST: DOCKER_MANIFEST,
    DOCKER_MANIFEST: OCI_MANIFEST,
    OCI_INDEX: DOCKER_LIST,
    DOCKER_LIST: OCI_INDEX,
}


@pytest.fixture(scope="module", params=KINDS)
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A real registry of each kind."""
    with ExitStack() as closing:
        folder = tmp_path_factory.mktemp("strict") / "registry"
        yield Remote(start_target(request.param, folder, closing))


@pytest.fixture
def lenient(closing: ExitStack) -> ScriptedRegistry:
    return ScriptedRegistry(closing)


def serve(lenient: ScriptedRegistry, builder: ImageBuilder, root: Content, served_as: str = "") -> str:
    lenient.hold(builder)
    lenient.name("v1", root, served_as=served_as or None)
    return f"{lenient.host}/app:v1"


def assert_serves(remote: Remote, repository: str, content: Content, media_type: str) -> None:
    """By the tag or digest, the very bytes, under the media type that is theirs."""
    served = remote.manifest(repository, content.digest)
    assert (served.status, sha256(served.body)) == (200, content.digest)
    assert served.headers["content-type"] == media_type


def untyped(builder: ImageBuilder, image: Content) -> Content:
    """The same manifest without its ``mediaType``."""
    document = json.loads(builder.read(image))
    del document["mediaType"]
    return builder.manifest(document)


@pytest.mark.parametrize("flavour", ["oci", "docker"])
@pytest.mark.parametrize("stated", ["other", "none"])
def test_child_that_its_index_calls_otherwise(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    strict: Remote,
    builder: ImageBuilder,
    repository: str,
    flavour: Flavour,
    stated: str,
) -> None:
    child = builder.image([builder.random_layer(1000)], flavour=flavour)
    listed = child.document() | {"mediaType": OTHER[child.media_type]}
    if stated == "none":
        del listed["mediaType"]
    root = builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})
    result = crossdock.copy(serve(lenient, builder, root), f"{strict.host}/{repository}:v1")
    assert (result["digest"], result["warnings"]) == (root.digest, [])
    assert_serves(strict, repository, root, OCI_INDEX)
    assert_serves(strict, repository, child, child.media_type)


@pytest.mark.parametrize("flavour", ["oci", "docker"])
@pytest.mark.parametrize("kind", ["image", "index"])
def test_root_that_is_served_as_another_type(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    strict: Remote,
    builder: ImageBuilder,
    repository: str,
    flavour: Flavour,
    kind: str,
) -> None:
    root = builder.image([builder.random_layer(1000)], flavour=flavour)
    if kind == "index":
        root = builder.index([root], flavour=flavour)
    source = serve(lenient, builder, root, OTHER[root.media_type])
    result = crossdock.copy(source, f"{strict.host}/{repository}:v1")
    assert (result["digest"], result["media_type"]) == (root.digest, root.media_type)
    assert_serves(strict, repository, root, root.media_type)


def test_manifest_without_a_type_that_is_listed_as_dockers(
    crossdock: Crossdock, lenient: ScriptedRegistry, strict: Remote, builder: ImageBuilder, repository: str
) -> None:
    """Only an OCI manifest may leave its type out: as Docker's it would be refused."""
    child = untyped(builder, builder.image([builder.random_layer(1000)]))
    listed = child.document() | {"mediaType": DOCKER_MANIFEST}
    root = builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})
    crossdock.copy(serve(lenient, builder, root), f"{strict.host}/{repository}:v1")
    assert_serves(strict, repository, child, OCI_MANIFEST)


@pytest.mark.parametrize("stated", [DOCKER_MANIFEST, ""])
def test_layout_whose_index_calls_a_manifest_otherwise(
    crossdock: Crossdock, strict: Remote, tmp_path: Path, repository: str, stated: str
) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    image = builder.image([builder.random_layer(1000)])
    builder.tag(replace(image, media_type=stated), "v1")
    crossdock.copy(f"oci:{tmp_path}/layout:v1", f"{strict.host}/{repository}:v1")
    assert_serves(strict, repository, image, OCI_MANIFEST)
    crossdock.copy(f"oci:{tmp_path}/layout:v1", f"oci:{tmp_path}/new:v1")
    assert [each["mediaType"] for each in layout_entries(tmp_path / "new")] == [OCI_MANIFEST]


def test_served_and_mirrored_layout_states_the_types_of_its_documents(
    crossdock: Crossdock, strict: Remote, tmp_path: Path, closing: ExitStack, repository: str
) -> None:
    builder = ImageBuilder(tmp_path / "root/stored")
    docker = builder.image([builder.random_layer(1000)], flavour="docker")
    builder.tag(replace(docker, media_type=OCI_MANIFEST), "wrong")
    child = builder.image([builder.random_layer(1000)])
    listed = child.document() | {"mediaType": DOCKER_MANIFEST}
    index = builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})
    builder.tag(replace(index, media_type=""), "none")
    served = start_embedded(tmp_path, tmp_path / "root", closing)
    for content in (replace(docker, media_type=DOCKER_MANIFEST), index, child):
        assert_serves(served.remote, "stored", content, content.media_type)
    crossdock.ok("mirror", served.host, f"{strict.host}/{repository}")
    mirrored = f"{repository}/stored"
    assert strict.tags(mirrored) == ["none", "wrong"]
    assert_serves(strict, mirrored, docker, DOCKER_MANIFEST)
    assert_serves(strict, mirrored, child, OCI_MANIFEST)


def test_wrong_size_in_a_list_is_a_warning(
    crossdock: Crossdock, lenient: ScriptedRegistry, strict: Remote, builder: ImageBuilder, repository: str
) -> None:
    """Old versions of docker wrote such lists: the digest proves the bytes."""
    child = builder.image([builder.random_layer(1000)], flavour="docker")
    root = builder.index([replace(child, size=child.size + 12)], flavour="docker")
    source = serve(lenient, builder, root)
    result = crossdock.copy(source, f"{strict.host}/{repository}:v1")
    said = f"{child.digest} has {child.size} bytes, not {child.size + 12} as its index says"
    assert [each for each in result["warnings"] if said in each] == result["warnings"] != []
    assert_serves(strict, repository, root, DOCKER_LIST)
    assert_serves(strict, repository, child, DOCKER_MANIFEST)
    again = crossdock.copy(source, f"{strict.host}/{repository}:v1")
    assert again["digest"] == root.digest
    chosen = crossdock.copy(source, f"{strict.host}/{repository}:amd64", "--platform", "linux/amd64")
    assert chosen["digest"] == child.digest
    assert [each for each in chosen["warnings"] if said in each] == chosen["warnings"] != []


def test_wrong_size_is_a_warning_into_a_layout_and_out_of_it(
    crossdock: Crossdock, lenient: ScriptedRegistry, strict: Remote, tmp_path: Path, repository: str
) -> None:
    builder = ImageBuilder(seed=5)
    child = builder.image([builder.random_layer(1000)])
    nested = builder.index([builder.index([replace(child, size=1)]), replace(child, size=2)])
    source = serve(lenient, builder, nested)
    into = crossdock.copy(source, f"oci:{tmp_path}/layout:v1")
    assert any(child.digest in each for each in into["warnings"])
    out = crossdock.copy(f"oci:{tmp_path}/layout:v1", f"{strict.host}/{repository}:v1")
    assert out["digest"] == nested.digest
    assert_serves(strict, repository, child, OCI_MANIFEST)


def test_wrong_size_in_the_index_of_a_layout(
    crossdock: Crossdock, strict: Remote, tmp_path: Path, closing: ExitStack, repository: str
) -> None:
    """As a source, as a target that has it already, and served by a registry."""
    builder = ImageBuilder(tmp_path / "root/stored")
    image = builder.image([builder.random_layer(1000)])
    builder.tag(replace(image, size=image.size + 5), "v1")
    layout = f"oci:{tmp_path}/root/stored:v1"
    served = start_embedded(tmp_path, tmp_path / "root", closing)
    assert_serves(served.remote, "stored", image, OCI_MANIFEST)
    assert crossdock.copy(layout, f"{strict.host}/{repository}:v1")["digest"] == image.digest
    assert_serves(strict, repository, image, OCI_MANIFEST)
    assert crossdock.copy(f"{strict.host}/{repository}:v1", layout)["bytes_moved"] == 0
    copied = crossdock.copy(f"{served.host}/stored:v1", f"oci:{tmp_path}/new:v1")
    assert copied["digest"] == image.digest
    assert [each["size"] for each in layout_entries(tmp_path / "new")] == [image.size]


def test_wrong_bytes_stay_an_error_whatever_their_size(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path, builder: ImageBuilder
) -> None:
    child = builder.image([builder.random_layer(1000)])
    source = serve(lenient, builder, builder.index([child]))
    lenient.manifests["app", child.digest] = (
        OCI_MANIFEST,
        builder.read(child).replace(b"amd64", b"arm64") + b" ",
    )
    line = crossdock.fail_copy(source, f"oci:{tmp_path}/layout:v1", code=7)
    assert child.digest in line


def test_index_that_is_listed_as_an_image_is_refused(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path, builder: ImageBuilder
) -> None:
    """Another kind is no other spelling: two clients would read two documents."""
    inner = builder.index([builder.image([])])
    root = builder.index([replace(inner, media_type=OCI_MANIFEST)])
    line = crossdock.fail_copy(serve(lenient, builder, root), f"oci:{tmp_path}/layout:v1", code=SOURCE)
    assert "ambiguous manifest" in line


def test_verify_reread_and_referrers_use_the_own_type(
    crossdock: Crossdock, lenient: ScriptedRegistry, strict: Remote, builder: ImageBuilder, repository: str
) -> None:
    child = builder.image([builder.random_layer(1000)])
    wrong = replace(child, media_type=DOCKER_MANIFEST, size=child.size + 1)
    root = builder.index([wrong])
    copy: Callable[..., object] = crossdock.copy
    copy(serve(lenient, builder, root), f"{strict.host}/{repository}:v1", "--verify", "reread")
    assert_serves(strict, repository, child, OCI_MANIFEST)
