"""Every kind of content arrives byte for byte, in registries and layouts, and skopeo agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossdock import imagebuilder
from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault
from support.command import NOT_FOUND, SCRIPT, Crossdock
from support.docker_registry import DockerRegistry
from support.images import Graph, assert_holds, assert_layout_holds, everything, push
from support.skopeo import copy_all, raw_digest

pytestmark = pytest.mark.real

Kind = Callable[[ImageBuilder], Content]


def signed(builder: ImageBuilder) -> Content:
    """An artifact whose subject is an image (that is not part of its graph)."""
    subject = builder.image([builder.random_layer(10)])
    return builder.artifact("application/vnd.example.sbom", [builder.random_layer(3000)], subject=subject)


def cosign(builder: ImageBuilder) -> Content:
    """A signature as cosign stores it: an OCI manifest whose layer's media type is its own."""
    payload = builder.blob(b'{"critical":{}}', "application/vnd.dev.cosign.simplesigning.v1+json")
    return builder.manifest(
        {
            "schemaVersion": 2,
            "mediaType": imagebuilder.OCI_MANIFEST,
            "config": builder.blob(b'{"architecture":""}', imagebuilder.OCI_CONFIG).document(),
            "layers": [payload.having(annotations={"dev.cosignproject.cosign/signature": "MEUC"}).document()],
        }
    )


def untyped(builder: ImageBuilder) -> Content:
    """An OCI manifest without the optional ``mediaType``, with unusual spacing and unknown members."""
    config = builder.blob(b"{}", imagebuilder.OCI_CONFIG)
    layer = builder.random_layer(500)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "x-unknown": [None, 1.5e3, "ü"],
        "config": config.document(),
        "layers": [layer.document()],
    }
    return builder.blob(json.dumps(document, indent=3).encode() + b"\n", imagebuilder.OCI_MANIFEST)


KINDS: dict[str, Kind] = {
    "oci image": lambda b: b.image([b.tar_layer({"a": b"1"}), b.random_layer(70_000)]),
    "docker image": lambda b: b.image([b.random_layer(70_000)], flavour="docker"),
    "oci index with windows and attestations": sample_index,
    "docker manifest list": lambda b: sample_index(b, flavour="docker"),
    "nested index with everything": everything,
    "helm chart": lambda b: b.helm_chart(),
    "artifact with subject": signed,
    "artifact with the empty descriptor": lambda b: b.artifact("application/vnd.example.thing"),
    "cosign signature": cosign,
    "wasm": lambda b: b.artifact("application/wasm", [b.blob(b"\0asm\1\0\0\0", "application/wasm")]),
    "manifest without mediaType": untyped,
    "image without layers": lambda b: b.image([]),
    "uncompressed layer": lambda b: b.image([b.tar_layer({"a": b"x" * 9000}, compression="none")]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_goes_from_registry_to_registry_unchanged(
    kind: Kind,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, kind(builder), "v1")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v2")
    assert_holds(target.remote, repository, "v2", graph)
    assert [tag for tag in target.remote.tags(repository) if not tag.startswith("sha256-")] == ["v2"]
    assert result["digest"] == graph.root
    assert result["media_type"] == graph.media_type
    assert result["manifests"] == len(graph.manifests)
    assert result["blobs_moved"] == len(graph.blobs)
    assert result["bytes_moved"] == graph.blob_bytes
    assert result["blobs_skipped"] == result["blobs_mounted"] == 0
    assert result["bytes_skipped"] == result["bytes_mounted"] == 0
    assert result["retries"] == 0
    assert result["seconds"] > 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_goes_through_a_layout_unchanged(
    kind: Kind,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    graph = push(source.remote, repository, builder, kind(builder), "v1")
    layout = tmp_path / "layout"
    down = crossdock.copy(f"{source.host}/{repository}:v1", f"oci:{layout}:name")
    assert (down["digest"], down["bytes_moved"]) == (graph.root, graph.blob_bytes)
    assert_layout_holds(layout, graph, "name")
    up = crossdock.copy(f"oci:{layout}:name", f"{target.host}/{repository}:v1")
    assert (up["digest"], up["bytes_moved"]) == (graph.root, graph.blob_bytes)
    assert_holds(target.remote, repository, "v1", graph)


def test_a_real_multi_platform_image_is_the_same_for_skopeo(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    real_index: tuple[ImageBuilder, Content],
    tmp_path: Path,
) -> None:
    builder, content = real_index
    graph = push(source.remote, repository, builder, content, "real")
    crossdock.ok(
        "copy", f"{source.host}/{repository}:real", f"{target.host}/{repository}:real", program=SCRIPT
    )
    assert_holds(target.remote, repository, "real", graph)
    assert raw_digest(f"docker://{target.host}/{repository}:real") == graph.root
    copy_all(f"docker://{target.host}/{repository}:real", f"oci:{tmp_path}/skopeo:real")
    assert_layout_holds(tmp_path / "skopeo", graph, "real")


def test_a_real_image_in_a_nested_index_is_the_same_for_skopeo(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    real_index: tuple[ImageBuilder, Content],
) -> None:
    builder, content = real_index
    outer = builder.index([content.having(annotations={"inner": "yes"}), builder.helm_chart()])
    graph = push(source.remote, repository, builder, outer, "nested")
    crossdock.copy(
        f"docker://{source.host}/{repository}:nested", f"docker://{target.host}/{repository}:nested"
    )
    assert_holds(target.remote, repository, "nested", graph)
    assert raw_digest(f"docker://{target.host}/{repository}:nested") == graph.root


def test_a_layout_written_by_the_command_is_valid_for_skopeo(
    crossdock: Crossdock,
    source: DockerRegistry,
    repository: str,
    real_index: tuple[ImageBuilder, Content],
    tmp_path: Path,
) -> None:
    builder, content = real_index
    graph = push(source.remote, repository, builder, content, "real")
    crossdock.copy(f"{source.host}/{repository}:real", f"oci:{tmp_path}/ours:real")
    assert raw_digest(f"oci:{tmp_path}/ours:real") == graph.root
    copy_all(f"oci:{tmp_path}/ours:real", f"docker://{source.host}/{repository}/back:real")
    assert_holds(source.remote, f"{repository}/back", "real", graph)


def test_a_layout_written_by_skopeo_is_a_source_and_a_target(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    real_index: tuple[ImageBuilder, Content],
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    real, content = real_index
    graph = push(source.remote, repository, real, content, "real")
    copy_all(f"docker://{source.host}/{repository}:real", f"oci:{tmp_path}/theirs:real")
    result = crossdock.copy(f"oci:{tmp_path}/theirs:real", f"{target.host}/{repository}:real")
    assert result["digest"] == graph.root
    assert_holds(target.remote, repository, "real", graph)
    chart = push(source.remote, repository, builder, builder.helm_chart("other"), "chart")
    crossdock.copy(f"{source.host}/{repository}:chart", f"oci:{tmp_path}/theirs:chart")
    assert raw_digest(f"oci:{tmp_path}/theirs:real") == graph.root
    assert raw_digest(f"oci:{tmp_path}/theirs:chart") == chart.root


def test_a_digest_names_the_source_and_no_tag_appears(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    graph = push(source.remote, repository, builder, sample_index(builder))
    reference = f"{source.host}/{repository}@{graph.root}"
    result = crossdock.copy(reference, f"{target.host}/{repository}@{graph.root}")
    assert result["digest"] == graph.root
    assert_holds(target.remote, repository, graph.root, graph)
    assert target.remote.tags(repository) == []
    crossdock.copy(reference, f"oci:{tmp_path}/layout")
    assert_layout_holds(tmp_path / "layout", graph)
    crossdock.copy(f"oci:{tmp_path}/layout@{graph.root}", f"{target.host}/{repository}/again:v1")
    assert_holds(target.remote, f"{repository}/again", "v1", graph)


def test_a_tag_with_a_digest_that_agrees_is_copied(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, builder.helm_chart(), "v1")
    crossdock.copy(
        f"{source.host}/{repository}:v1@{graph.root}", f"{target.host}/{repository}:v1@{graph.root}"
    )
    assert_holds(target.remote, repository, "v1", graph)


def test_no_tag_means_latest(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, builder.helm_chart(), "latest")
    crossdock.copy(f"{source.host}/{repository}", f"{target.host}/{repository}")
    assert target.remote.tags(repository) == ["latest"]
    assert_holds(target.remote, repository, "latest", graph)


def test_the_second_copy_moves_nothing(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, everything(builder), "v1")
    words = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    first = crossdock.copy(*words)
    assert first["bytes_moved"] == graph.blob_bytes
    mark = target.mark()
    second = crossdock.copy(*words)
    assert (second["blobs_moved"], second["bytes_moved"]) == (0, 0)
    assert (second["blobs_skipped"], second["bytes_skipped"]) == (len(graph.blobs), graph.blob_bytes)
    assert second["bytes_requested"] == 0
    assert second["manifests"] == first["manifests"] == len(graph.manifests)
    assert target.uploads_begun(mark) == 0


def test_the_second_copy_into_a_layout_moves_nothing(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    graph = push(source.remote, repository, builder, everything(builder), "v1")
    words = f"{source.host}/{repository}:v1", f"oci:{tmp_path}/layout:v1"
    crossdock.copy(*words)
    again = crossdock.copy(*words)
    assert (again["blobs_moved"], again["bytes_moved"]) == (0, 0)
    assert again["blobs_skipped"] == len(graph.blobs)
    assert again["manifests"] == len(graph.manifests)
    assert_layout_holds(tmp_path / "layout", graph, "v1")


def test_blobs_are_mounted_between_repositories_of_one_registry(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder
) -> None:
    graph = push(source.remote, repository, builder, sample_index(builder), "v1")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{source.host}/{repository}/copy:v1")
    assert (result["blobs_mounted"], result["bytes_mounted"]) == (len(graph.blobs), graph.blob_bytes)
    assert (result["blobs_moved"], result["bytes_moved"]) == (0, 0)
    assert_holds(source.remote, f"{repository}/copy", "v1", graph)
    assert source.forgotten_sessions(f"{repository}/copy") == []


def test_a_blob_that_occurs_twice_counts_and_moves_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    layer = builder.random_layer(90_000)
    one = builder.image([layer, layer], "linux/amd64")
    two = builder.image([layer], "linux/arm64")
    graph = push(source.remote, repository, builder, builder.index([one, two]), "v1")
    mark = source.mark()
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert len(graph.blobs) == 3
    assert (result["blobs_moved"], result["bytes_moved"]) == (3, graph.blob_bytes)
    reads = [a for a in source.accesses(mark) if a.method == "GET" and layer.digest in a.path]
    assert len(reads) == 1


def test_a_manifest_that_occurs_twice_counts_once(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    image = builder.image([builder.random_layer(100)])
    graph = push(source.remote, repository, builder, builder.index([image, builder.index([image])]), "v1")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert result["manifests"] == len(graph.manifests) == 3


def test_a_layer_larger_than_many_chunks_is_exact(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph = push(source.remote, repository, builder, builder.image([builder.random_layer(20_000_001)]), "v1")
    mark = source.mark()
    result = crossdock.copy(
        f"{source.host}/{repository}:v1",
        f"{target.host}/{repository}:v1",
        *("--chunk-size", "1MiB", "--connections", "5"),
    )
    assert result["bytes_moved"] == graph.blob_bytes
    assert result["bytes_requested"] >= graph.blob_bytes
    assert_holds(target.remote, repository, "v1", graph)
    partial = [a for a in source.accesses(mark) if a.status == 206]
    assert len(partial) >= 20
    assert max(a.size for a in partial) <= 1 << 20


def platform_index(
    source: DockerRegistry, repository: str, builder: ImageBuilder
) -> tuple[Graph, list[Content]]:
    """An index of five platforms, pushed as ``v1``, and its entries."""
    names = ("linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "windows/amd64")
    entries = [builder.image([builder.random_layer(2000)], name) for name in names]
    return push(source.remote, repository, builder, builder.index(entries), "v1"), entries


@pytest.mark.parametrize(
    ("wanted", "position"),
    [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/arm/v6", 3)],
)
def test_one_platform_copies_that_manifest(
    wanted: str,
    position: int,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph, entries = platform_index(source, repository, builder)
    chosen = entries[position].digest
    result = crossdock.copy(
        f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1", "--platform", wanted
    )
    assert result["digest"] == chosen
    assert result["manifests"] == 1
    served = target.remote.manifest(repository, "v1")
    assert served.body == graph.manifests[chosen][1]
    assert target.remote.manifest(repository, graph.root).status == 404
    told = crossdock.ok(
        "copy", f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1", "--platform", wanted
    )
    assert graph.root in told.stdout + told.stderr, "nobody says that the digest is not the source tag's"


def test_several_platforms_make_a_filtered_index(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    graph, entries = platform_index(source, repository, builder)
    words = ("--platform", "windows/amd64", "--platform", "linux/arm/v7")
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1", *words)
    served = target.remote.manifest(repository, "v1")
    assert served.headers["docker-content-digest"] == result["digest"] != graph.root
    document = json.loads(served.body)
    original = json.loads(graph.manifests[graph.root][1])
    assert document["manifests"] == [original["manifests"][2], original["manifests"][4]]
    assert result["manifests"] == 3
    for entry in entries:
        kept = entry.digest in (entries[2].digest, entries[4].digest)
        assert (target.remote.manifest(repository, entry.digest).status == 200) is kept


def test_a_platform_that_is_not_there_is_an_error_without_a_tag(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
) -> None:
    platform_index(source, repository, builder)
    crossdock.fail_copy(
        f"{source.host}/{repository}:v1",
        f"{target.host}/{repository}:v1",
        *("--platform", "linux/riscv64"),
        code=NOT_FOUND,
        naming=["linux/riscv64", "linux/arm/v6", "source", f"{source.host}/{repository}"],
    )
    assert target.remote.tags(repository) == []


def test_moving_the_source_tag_in_mid_copy_changes_nothing(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    repository: str,
    builder: ImageBuilder,
    fault_proxy: Callable[[str], FaultProxy],
) -> None:
    graph = push(source.remote, repository, builder, sample_index(builder), "v1")
    other = builder.image([builder.random_layer(10)])

    def move_the_tag() -> None:
        push(source.remote, repository, builder, other, "v1")

    proxy = fault_proxy(source.host)
    proxy.add(
        Fault(
            lambda request: request.is_blob_get(),
            head=lambda status, headers: (status, headers),
            when_reached=move_the_tag,
        )
    )
    result = crossdock.copy(f"{proxy.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert source.remote.manifest(repository, "v1").headers["docker-content-digest"] == other.digest
    assert result["digest"] == graph.root
    assert_holds(target.remote, repository, "v1", graph)
    assert proxy.count(lambda r: r.path.endswith("/manifests/v1") and r.method == "GET") <= 1
