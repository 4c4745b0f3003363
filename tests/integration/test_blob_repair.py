"""A target that lost a blob, or never had one that it claimed, gets it. No copy claims more than it has
read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

import pytest

from crossdock.imagebuilder import OCI_EMPTY, OCI_MANIFEST, Content, ImageBuilder
from support.cloud import Cloud, put
from support.command import TARGET, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, assert_layout_holds, push, walk
from support.interrupted import KINDS, start_target
from support.push import Remote
from support.scripted import ScriptedRegistry

pytestmark = pytest.mark.real


class Target:
    """A real registry whose blobs can be lost."""

    def __init__(self, kind: str, folder: Path, closing: ExitStack) -> None:
        self.kind = kind
        self.folder = folder
        self.remote = Remote(start_target(kind, folder, closing))

    def lose(self, repository: str, digest: str) -> None:
        if self.kind == "embedded":
            (self.folder / "root" / repository / "blobs" / digest.replace(":", "/")).unlink()
        else:
            assert self.remote.request("DELETE", f"/v2/{repository}/blobs/{digest}").status == 202
        assert not self.remote.has_blob(repository, digest)


@pytest.fixture(scope="module", params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with ExitStack() as closing:
        yield Target(request.param, tmp_path_factory.mktemp("target") / "registry", closing)


def image(builder: ImageBuilder) -> Content:
    return builder.image([builder.random_layer(500), builder.random_layer(600)])


REPAIRS = ("--check-blobs",), ("--verify", "reread")


@pytest.mark.parametrize("flags", REPAIRS, ids=" ".join)
@pytest.mark.parametrize("is_index", [False, True], ids=["image", "index"])
def test_a_lost_blob_comes_back(
    flags: tuple[str, ...],
    is_index: bool,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: Target,
    repository: str,
    builder: ImageBuilder,
) -> None:
    inner = image(builder)
    root = builder.index([image(builder), inner]) if is_index else inner
    graph = push(source.remote, repository, builder, root, "v1")
    pair = f"{source.host}/{repository}:v1", f"{target.remote.host}/{repository}:v1"
    crossdock.copy(*pair)
    for digest in walk(builder.read, inner.digest).blobs:
        target.lose(repository, digest)
    assert crossdock.copy(*pair)["blobs_moved"] == 0  # nobody looked
    result = crossdock.copy(*pair, *flags)
    assert result["blobs_moved"] == 3
    assert_holds(target.remote, repository, "v1", graph)
    assert crossdock.copy(*pair, *flags)["blobs_moved"] == 0


@pytest.mark.parametrize("way", ["mirror", "list"])
@pytest.mark.parametrize("flags", REPAIRS, ids=" ".join)
def test_runs_of_many_repair_as_well(
    way: str,
    flags: tuple[str, ...],
    crossdock: Crossdock,
    source: DockerRegistry,
    target: Target,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    graphs = {tag: push(source.remote, repository, builder, image(builder), tag) for tag in ("v1", "v2")}
    host = target.remote.host
    if way == "mirror":
        words: tuple[str | Path, ...] = ("mirror", source.host, host, "--repository", repository)
    else:
        lines = [f"{source.host}/{repository}:{tag} {host}/{repository}:{tag}" for tag in graphs]
        (tmp_path / "list").write_text("\n".join(lines))
        words = ("copy", "--from-file", tmp_path / "list")
    crossdock.ok(*words)
    target.lose(repository, min(graphs["v1"].blobs))
    result = crossdock.ok(*words, *flags, "--output", "json", "--progress", "none").result
    assert result["totals"]["blobs_moved"] == 1
    if way == "mirror":
        assert [each["status"] for each in result["copies"]].count("unchanged") == 1
    assert_holds(target.remote, repository, "v1", graphs["v1"])


def test_an_import_repairs(
    crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    public, other, registry = (new_registry(name) for name in ("public", "other", "target"))
    cloud = Cloud(crossdock, tmp_path, public, other, other, registry)
    graph = put(cloud.public, "library/app", "v1")
    words = ("--name", "myregistry", "--source", "docker.io/library/app:v1", "--image", "app:v1")
    cloud.run(*words)
    lost = min(graph.blobs)
    assert registry.remote.request("DELETE", f"/v2/app/blobs/{lost}").status == 202
    cloud.run(*words, "--check-blobs")
    assert_holds(registry.remote, "app", "v1", graph)


# -- reading back ------------------------------------------------------------------------------------------


def test_content_that_was_there_before_is_read_back(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, closing: ExitStack
) -> None:
    target = ScriptedRegistry(closing)
    layer = builder.random_layer(500)
    push(source.remote, repository, builder, builder.image([layer]), "v1")
    pair = f"{source.host}/{repository}:v1", f"{target.host}/app:v1"
    crossdock.copy(*pair)
    target.blobs[layer.digest] = bytes(layer.size)
    result = crossdock.copy(*pair, "--verify", "reread")
    assert target.blobs[layer.digest] == builder.read(layer)
    assert (result["verified"], result["blobs_moved"], result["blobs_skipped"]) == ("reread", 1, 1)
    assert [layer.digest in warning for warning in result["warnings"]] == [True]


def test_lasting_damage_fails(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, closing: ExitStack
) -> None:
    target = ScriptedRegistry(closing)
    layer = builder.random_layer(500)
    push(source.remote, repository, builder, builder.image([layer]), "v1")
    pair = f"{source.host}/{repository}:v1", f"{target.host}/app:v1"
    crossdock.copy(*pair)
    target.damaged[layer.digest] = bytes(layer.size)
    done = crossdock("copy", *pair, "--verify", "reread", "--progress", "none")
    assert done.code == VERIFICATION, str(done)
    assert layer.digest in done.stderr


# -- layouts -----------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("harm", "flags"),
    [(remove, ()), (cut, ()), (swap, ("--verify", "reread"))],
    ids=["gone", "cut", "wrong bytes"],
)
@pytest.mark.parametrize("what", ["blob", "child", "root"])
def test_a_damaged_layout_is_repaired_by_the_same_copy(
    harm: Callable[[Path], None],
    flags: tuple[str, ...],
    what: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    child = image(builder)
    root = builder.index([child])
    graph = push(source.remote, repository, builder, root, "v1")
    pair = f"{source.host}/{repository}:v1", f"oci:{tmp_path}/layout:v1"
    crossdock.copy(*pair)
    digest = {"blob": min(graph.blobs), "child": child.digest, "root": root.digest}[what]
    harm(tmp_path / "layout" / "blobs" / digest.replace(":", "/"))
    crossdock.copy(*pair, *flags)
    assert_layout_holds(tmp_path / "layout", graph, "v1")


# -- promises ----------------------------------------------------------------------------------------------


@pytest.fixture
def promising(closing: ExitStack) -> ScriptedRegistry:
    registry = ScriptedRegistry(closing)
    registry.is_strict = True
    return registry


def test_a_blob_that_head_promised_is_uploaded_once(
    promising: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    shared = builder.random_layer(500)
    children = [builder.image([shared, builder.random_layer(10)]) for _ in range(3)]
    graph = push(source.remote, repository, builder, builder.index(children), "v1")
    promising.reported = {("blobs", shared.digest)}
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{promising.host}/app:v1")
    assert_holds(Remote(promising.host), "app", "v1", graph)
    assert (result["blobs_moved"], result["blobs_skipped"]) == (len(graph.blobs), 0)
    # The first blob of a copy may be sent with a POST too, which this registry answers with a session.
    closings = [unquote(path) for method, path in promising.asked if method == "PUT"]
    assert len([path for path in closings if f"?digest={shared.digest}" in path]) == 1


def test_a_blob_that_a_mount_promised_is_uploaded_once(
    promising: ScriptedRegistry, crossdock: Crossdock, builder: ImageBuilder
) -> None:
    layer = builder.random_layer(500)
    root = builder.image([layer])
    promising.hold(builder)
    promising.name("v1", root)
    lost = promising.blobs.pop(layer.digest)
    promising.private["app", layer.digest] = lost  # its own repository serves it
    promising.mounted = {layer.digest}
    result = crossdock.copy(f"{promising.host}/app:v1", f"{promising.host}/other:v1")
    assert_holds(Remote(promising.host), "other", "v1", walk(builder.read, root.digest))
    assert result["blobs_mounted"] == 0


def test_a_manifest_that_head_promised_is_copied_with_its_blobs(
    promising: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    children = [image(builder) for _ in range(3)]
    graph = push(source.remote, repository, builder, builder.index(children), "v1")
    promising.reported = {("manifests", children[0].digest), ("manifests", children[2].digest)}
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{promising.host}/app:v1")
    assert_holds(Remote(promising.host), "app", "v1", graph)
    assert (result["blobs_moved"], result["blobs_skipped"]) == (len(graph.blobs), 0)


def test_a_promise_that_is_broken_again_blames_the_target(
    promising: ScriptedRegistry,
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    layer = builder.random_layer(500)
    push(source.remote, repository, builder, builder.image([layer]), "v1")
    promising.reported, promising.lost = {("blobs", layer.digest)}, {layer.digest}
    line = crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{promising.host}/app:v1",
        "--retries=0",
        code=TARGET,
        naming=("MANIFEST_BLOB_UNKNOWN", "storage"),
    )
    assert "crossdock tags" not in line


# -- content inside of descriptors -------------------------------------------------------------------------


def inline(content: Content, data: bytes) -> Content:
    return content.having(data=base64.b64encode(data).decode())


@pytest.mark.parametrize("is_right", [True, False])
def test_inline_content_is_used_when_it_is_right(
    is_right: bool,
    crossdock: Crossdock,
    target: Target,
    repository: str,
    builder: ImageBuilder,
    closing: ExitStack,
) -> None:
    source = ScriptedRegistry(closing)
    empty, layer = builder.blob(b"{}", OCI_EMPTY), builder.random_layer(2000)
    data = builder.read(layer)
    inner = builder.manifest(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": inline(empty, b"{}" if is_right else b"[]").document(),
            "layers": [inline(layer, data if is_right else data[:-1]).document()],
        }
    )
    root = builder.index([inline(inner, builder.read(inner))])
    source.hold(builder)
    source.name("v1", root)
    del source.manifests["app", inner.digest]
    if is_right:
        source.blobs.clear()
    crossdock.copy(f"{source.host}/app:v1", f"{target.remote.host}/{repository}:v1")
    assert_holds(target.remote, repository, "v1", walk(builder.read, root.digest))
    document = json.loads(target.remote.manifest(repository, inner.digest).body)
    assert "data" in document["config"]
