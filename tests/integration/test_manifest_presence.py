"""A manifest is present only if stored as a manifest with its children: the same bytes may also be a layer.

Bundles (Zarf, UDS) have manifests of images as layers. Taking such a layer for the image would omit the
image's own layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from crossdock.imagebuilder import Content, ImageBuilder
from support.command import Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, assert_layout_holds, push, walk
from support.interrupted import KINDS, start_target
from support.push import Remote
from support.scripted import ScriptedRegistry

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=[*KINDS, "layout"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote | Path]:
    """A real registry of each kind, or a folder for layouts."""
    with ExitStack() as closing:
        folder = tmp_path_factory.mktemp("target")
        yield (
            folder
            if request.param == "layout"
            else Remote(start_target(request.param, folder / "r", closing))
        )


def named(place: Remote | Path, repository: str, tag: str) -> str:
    """The reference of a tag of the target."""
    if isinstance(place, Path):
        return f"oci:{place}/{repository.replace('/', '-')}:{tag}"
    return f"{place.host}/{repository}:{tag}"


def check(place: Remote | Path, repository: str, tag: str, builder: ImageBuilder, content: Content) -> None:
    """All of `content` is at the target, manifests as manifests and blobs as blobs."""
    graph = walk(builder.read, content.digest)
    if isinstance(place, Path):
        assert_layout_holds(place / repository.replace("/", "-"), graph, tag)
    else:
        assert_holds(place, repository, tag, graph)


def image(builder: ImageBuilder) -> Content:
    return builder.image([builder.random_layer(500)])


def pack(builder: ImageBuilder, manifest: Content) -> Content:
    """An artifact that has the bytes of `manifest` as a layer."""
    return builder.artifact(
        "application/vnd.example.pack", [replace(manifest, media_type="application/octet-stream")]
    )


def test_a_pack_and_then_an_index_with_the_image(
    place: Remote | Path, crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    inner = image(builder)
    wanted = {"pack": pack(builder, inner), "index": builder.index([inner])}
    wanted["another"] = builder.index([inner, image(builder)])
    for tag, content in wanted.items():
        push(source.remote, repository, builder, content, tag)
    for tag, content in wanted.items():
        crossdock.copy(f"{source.host}/{repository}:{tag}", named(place, repository, tag))
        check(place, repository, tag, builder, content)


def test_an_image_by_digest_that_the_target_has_as_a_layer(
    place: Remote | Path, crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    inner = image(builder)
    push(source.remote, repository, builder, pack(builder, inner), "pack")
    push(source.remote, repository, builder, inner, "image")
    crossdock.copy(f"{source.host}/{repository}:pack", named(place, repository, "pack"))
    whole = f"{source.host}/{repository}@{inner.digest}"
    crossdock.copy(whole, named(place, repository, "pack").removesuffix(":pack"))
    check(place, repository, inner.digest if isinstance(place, Remote) else "", builder, inner)


@pytest.mark.parametrize("order", ["pack first", "image first", "nested"])
def test_one_copy_with_the_bytes_in_both_kinds(
    order: str,
    place: Remote | Path,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    inner = image(builder)
    parts = [pack(builder, inner), builder.index([inner]) if order == "nested" else inner]
    index = builder.index(parts[::-1] if order == "image first" else parts)
    push(source.remote, repository, builder, index, "v1")
    crossdock.copy(f"{source.host}/{repository}:v1", named(place, repository, "v1"))
    check(place, repository, "v1", builder, index)


def test_a_referrer_with_its_subject_as_a_layer(
    place: Remote | Path, crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    subject = image(builder)
    layer = replace(subject, media_type="application/octet-stream")
    referrer = builder.artifact("application/vnd.example.copy", [layer], subject=subject)
    push(source.remote, repository, builder, subject, "v1")
    push(source.remote, repository, builder, referrer, "referrer")
    tag = subject.digest.replace(":", "-")
    push(source.remote, repository, builder, builder.index([referrer]), tag)  # its list of referrers
    result = crossdock.copy(f"{source.host}/{repository}:v1", named(place, repository, "v1"), "--referrers")
    assert result["referrers"] == 1
    check(place, repository, "v1", builder, subject)
    if isinstance(place, Remote):
        check(place, repository, referrer.digest, builder, referrer)


@pytest.mark.parametrize("way", ["list", "mirror"])
def test_in_one_run_of_many(
    way: str,
    place: Remote | Path,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    if way == "mirror" and isinstance(place, Path):
        pytest.skip("a mirror has no layouts")
    inner = image(builder)
    wanted = {"a-pack": pack(builder, inner), "b-index": builder.index([inner]), "c-image": inner}
    for tag, content in wanted.items():
        push(source.remote, repository, builder, content, tag)
    if isinstance(place, Remote) and way == "mirror":
        crossdock.ok("mirror", source.host, place.host, "--repository", repository)
    else:
        lines = [f"{source.host}/{repository}:{tag} {named(place, repository, tag)}\n" for tag in wanted]
        (tmp_path / "list").write_text("".join(lines))
        crossdock.ok("copy", "--from-file", tmp_path / "list")
    for tag, content in wanted.items():
        check(place, repository, tag, builder, content)


# -- a registry that serves blobs as manifests: what is asked of it ----------------------------------------


@pytest.fixture
def mixed(closing: ExitStack) -> ScriptedRegistry:
    registry = ScriptedRegistry(closing)
    registry.is_mixed = registry.is_strict = True
    return registry


def test_a_manifest_present_only_as_a_blob_is_pushed(
    mixed: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    inner = image(builder)
    push(source.remote, repository, builder, pack(builder, inner), "pack")
    push(source.remote, repository, builder, builder.index([inner]), "index")
    for tag in ("pack", "index"):
        crossdock.copy(f"{source.host}/{repository}:{tag}", f"{mixed.host}/app:{tag}")
    assert ("app", inner.digest) in mixed.manifests
    assert not mixed.missing("app", builder.read(inner))


def test_unchanged_tags_cost_no_further_request(
    mixed: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    children = [image(builder) for _ in range(3)]
    push(source.remote, repository, builder, builder.index(children), "v1")
    pair = f"{source.host}/{repository}:v1", f"{mixed.host}/app:v1"
    crossdock.copy(*pair, "--no-referrers")
    mixed.seen.clear()
    crossdock.copy(*pair, "--no-referrers")
    wanted = [f"/v2/app/manifests/{each}" for each in ("v1", *(child.digest for child in children))]
    asked = [(method, path) for method, path in mixed.asked if path not in ("/v2", "/v2/")]
    assert sorted(asked) == sorted(("GET", path) for path in wanted)


def test_another_tag_costs_one_head_for_each_manifest_below(
    mixed: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    children = [image(builder) for _ in range(3)]
    index = builder.index(children)
    push(source.remote, repository, builder, index, "v1")
    crossdock.copy(f"{source.host}/{repository}:v1", f"{mixed.host}/app:v1", "--no-referrers")
    mixed.seen.clear()
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{mixed.host}/app:v2", "--no-referrers")
    assert result["blobs_moved"] == 0
    asked = [each for each in mixed.asked if each[1] not in ("/v2", "/v2/")]
    below = [(kind, child.digest) for child in children for kind in ("manifests", "blobs")]
    heads = [("HEAD", f"/v2/app/{kind}/{digest}") for kind, digest in below]
    assert sorted(asked) == sorted([("GET", "/v2/app/manifests/v2"), ("PUT", "/v2/app/manifests/v2"), *heads])


def test_an_index_that_was_left_without_its_image_is_repaired_on_demand(
    mixed: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    inner = image(builder)
    index = builder.index([inner])
    push(source.remote, repository, builder, index, "v1")
    mixed.blobs[inner.digest] = builder.read(inner)  # as a layer of something else
    Remote(mixed.host).push_manifest("app", builder.read(index), index.media_type, "v1")
    pair = f"{source.host}/{repository}:v1", f"{mixed.host}/app:v1"
    result = crossdock.copy(*pair, "--check-blobs")
    assert result["blobs_moved"] == 2
    assert ("app", inner.digest) in mixed.manifests
    assert not mixed.missing("app", builder.read(inner))
