"""The target's own content under tags of digests is kept by every kind of copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import OCI_CONFIG, OCI_MANIFEST, Content, ImageBuilder
from support.cloud import Cloud, put
from support.command import Crossdock, Finished
from support.docker_registry import DockerRegistry
from support.images import layout_entries, push
from support.interrupted import KINDS, start_target
from support.push import Remote

pytestmark = pytest.mark.real

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"


@pytest.fixture(scope="module", params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A real registry of each kind."""
    with ExitStack() as closing:
        folder = tmp_path_factory.mktemp("target") / "registry"
        yield Remote(start_target(request.param, folder, closing))


def signed(builder: ImageBuilder, *names: str, media_type: str = SIMPLE) -> Content:
    """A manifest as cosign writes it: signatures of one payload, apart by their annotations."""
    payload = builder.blob(b'{"critical":{}}', media_type)
    layers = [payload.having(annotations={"dev.cosignproject.cosign/signature": each}) for each in names]
    return builder.manifest(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": builder.blob(b'{"architecture":""}', OCI_CONFIG).document(),
            "layers": [each.document() for each in layers],
        }
    )


def put_image(remote: Remote, repository: str, builder: ImageBuilder) -> str:
    """An image ``v1``; the tag of its signatures, without a suffix."""
    image = builder.image([builder.random_layer(100)])
    push(remote, repository, builder, image, "v1")
    return image.digest.replace(":", "-")


def names(remote: Remote, repository: str, tag: str) -> list[str]:
    """The signatures that clients find under the tag, whose blobs are there."""
    layers: list[dict[str, Any]] = remote.manifest(repository, tag).json()["layers"]
    for each in layers:
        assert remote.has_blob(repository, each["digest"])
    return [each["annotations"]["dev.cosignproject.cosign/signature"] for each in layers]


@pytest.mark.parametrize("word", ["sig", "att"])
def test_signatures_of_both_sides_are_merged_once(
    word: str,
    crossdock: Crossdock,
    source: DockerRegistry,
    target: Remote,
    repository: str,
    builder: ImageBuilder,
) -> None:
    tag = f"{put_image(source.remote, repository, builder)}.{word}"
    push(source.remote, repository, builder, signed(builder, "source"), tag)
    push(target, repository, builder, signed(builder, "own"), tag)
    pair = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    first = crossdock.copy(*pair)
    assert names(target, repository, tag) == ["own", "source"]
    assert (first["referrers"], first["referrers_copied"]) == (1, 1)
    [warning] = first["warnings"]
    assert tag in warning
    merged = target.manifest(repository, tag).body
    again = crossdock.copy(*pair)
    assert again["warnings"] == []
    assert (again["referrers"], again["referrers_copied"], again["blobs_moved"]) == (1, 0, 0)
    assert target.manifest(repository, tag).body == merged
    push(source.remote, repository, builder, signed(builder, "source", "later"), tag)
    crossdock.copy(*pair)
    assert names(target, repository, tag) == ["own", "source", "later"]


def test_a_newer_manifest_of_the_source_arrives_unchanged(
    crossdock: Crossdock, source: DockerRegistry, target: Remote, repository: str, builder: ImageBuilder
) -> None:
    tag = f"{put_image(source.remote, repository, builder)}.sig"
    push(source.remote, repository, builder, signed(builder, "one", "two"), tag)
    push(target, repository, builder, signed(builder, "one"), tag)
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1")
    assert result["warnings"] == []
    there, here = (remote.manifest(repository, tag).body for remote in (source.remote, target))
    assert there == here


def test_a_list_that_cannot_be_merged_stays_and_is_reported_in_text_json_and_report(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: Remote,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    tag = f"{put_image(source.remote, repository, builder)}.sbom"
    push(source.remote, repository, builder, signed(builder, "source", media_type="text/spdx"), tag)
    own = signed(builder, "own", media_type="text/spdx")
    push(target, repository, builder, own, tag)
    pair = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:v1"
    done = crossdock.ok("copy", *pair, "--report", tmp_path / "report", "--output", "json")
    assert target.manifest(repository, tag).body == builder.read(own)
    assert tag in done.stderr
    for document in (done.result, json.loads((tmp_path / "report").read_text())):
        assert [tag in warning and "not replaced" in warning for warning in document["warnings"]] == [True]


def mirrored(crossdock: Crossdock, source: DockerRegistry, target: Remote, repository: str) -> Finished:
    words = ("mirror", source.host, target.host, "--repository", repository, "--output", "json")
    return crossdock.ok(*words, "--progress", "none")


def test_a_mirror_merges_and_finds_nothing_to_do_the_next_time(
    crossdock: Crossdock, source: DockerRegistry, target: Remote, repository: str, builder: ImageBuilder
) -> None:
    stem = put_image(source.remote, repository, builder)
    for side, name in ((source.remote, "source"), (target, "own")):
        push(side, repository, builder, signed(builder, name), f"{stem}.sig")
        push(side, repository, builder, signed(builder, name, media_type="text/spdx"), f"{stem}.sbom")
    first = mirrored(crossdock, source, target, repository).result
    assert names(target, repository, f"{stem}.sig") == ["own", "source"]
    assert names(target, repository, f"{stem}.sbom") == ["own"]
    by_tag = {each["target"].rpartition(":")[2]: each for each in first["copies"]}
    assert (by_tag[f"{stem}.sig"]["status"], by_tag[f"{stem}.sig"]["merged"]) == ("copied", True)
    assert (by_tag[f"{stem}.sbom"]["status"], by_tag[f"{stem}.sbom"]["merged"]) == ("unchanged", False)
    assert all(by_tag[f"{stem}.{word}"]["warnings"] for word in ("sig", "sbom"))
    again = mirrored(crossdock, source, target, repository).result
    assert [each["status"] for each in again["copies"]] == ["unchanged"] * 3
    assert again["totals"]["blobs_moved"] == 0


def test_a_list_of_copies_replaces_nothing_and_a_copy_by_name_says_so(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: Remote,
    repository: str,
    builder: ImageBuilder,
    tmp_path: Path,
) -> None:
    tag = f"{put_image(source.remote, repository, builder)}.sig"
    push(source.remote, repository, builder, signed(builder, "source"), tag)
    push(target, repository, builder, signed(builder, "own"), tag)
    pair = f"{source.host}/{repository}:{tag}", f"{target.host}/{repository}:{tag}"
    (tmp_path / "list").write_text(" ".join(pair))
    done = crossdock.ok("copy", "--from-file", tmp_path / "list")
    assert tag in done.stderr
    assert names(target, repository, tag) == ["own", "source"]
    result = crossdock.copy(*pair)
    assert names(target, repository, tag) == ["source"]
    assert ["is replaced" in each for each in result["warnings"]] == [True]


def test_a_layout_keeps_its_own_signatures(
    crossdock: Crossdock, source: DockerRegistry, repository: str, builder: ImageBuilder, tmp_path: Path
) -> None:
    tag = f"{put_image(source.remote, repository, builder)}.sig"
    own = ImageBuilder(tmp_path / "layout")
    own.tag(signed(own, "own"), tag)
    push(source.remote, repository, builder, signed(builder, "source"), tag)
    result = crossdock.copy(f"{source.host}/{repository}:v1", f"oci:{tmp_path}/layout:v1")
    assert any(tag in warning for warning in result["warnings"])
    refs = {
        each.get("annotations", {}).get("org.opencontainers.image.ref.name"): each["digest"]
        for each in layout_entries(tmp_path / "layout")
    }
    merged = json.loads((tmp_path / "layout/blobs/sha256" / refs[tag].removeprefix("sha256:")).read_text())
    found = [each["annotations"]["dev.cosignproject.cosign/signature"] for each in merged["layers"]]
    assert found == ["own", "source"]


@pytest.fixture
def cloud(crossdock: Crossdock, new_registry: Callable[..., DockerRegistry], tmp_path: Path) -> Cloud:
    public, other, target = (new_registry(name) for name in ("public", "other", "target"))
    return Cloud(crossdock, tmp_path, public, other, other, target)


WORDS = ("--name", "myregistry", "--source", "docker.io/library/app:v1", "--image", "app:v1")


@pytest.mark.parametrize("is_index", [False, True], ids=["image", "child"])
def test_an_import_without_force_changes_no_signature(
    is_index: bool, cloud: Cloud, builder: ImageBuilder
) -> None:
    graph = put(cloud.public, "library/app", "v1", index=is_index)
    signed_one = list(graph.manifests)[-1] if is_index else graph.root
    tag = f"{signed_one.replace(':', '-')}.sig"
    push(cloud.public.remote, "library/app", builder, signed(builder, "source"), tag)
    own = signed(builder, "own")
    push(cloud.target.remote, "app", builder, own, tag)
    before = len(cloud.target.accesses())
    cloud.fail(*WORDS, code=11, naming=(tag, "already exists", "nothing was copied", "--no-referrers"))
    assert {each.method for each in cloud.target.accesses()[before:]} <= {"GET", "HEAD"}
    assert cloud.target.remote.tags("app") == [tag]
    cloud.run(*WORDS, "--no-referrers")
    assert cloud.target.remote.manifest("app", tag).body == builder.read(own)
    done = cloud.run(*WORDS, "--force", "--output", "json")
    assert names(cloud.target.remote, "app", tag) == ["own", "source"]
    assert any(tag in warning for warning in done.result["warnings"])
    cloud.run(*WORDS)  # the target has all that the source has
    assert names(cloud.target.remote, "app", tag) == ["own", "source"]
