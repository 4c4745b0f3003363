"""``--platform``, once and several times, with real content of registries and layouts."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Content, ImageBuilder
from support.command import NOT_FOUND, VERIFICATION, Crossdock
from support.docker_registry import DockerRegistry
from support.images import assert_holds, push
from support.scripted import ScriptedRegistry

AMD64, ARM64 = ("--platform", "linux/amd64"), ("--platform", "linux/arm64")


@pytest.fixture
def lenient(closing: ExitStack) -> ScriptedRegistry:
    return ScriptedRegistry(closing)


@pytest.fixture
def serve(lenient: ScriptedRegistry, builder: ImageBuilder) -> Any:
    """Gives a manifest the tag ``v1`` at the source."""

    def name(root: Content) -> str:
        lenient.hold(builder)
        lenient.name("v1", root)
        return f"{lenient.host}/app:v1"

    return name


def image(builder: ImageBuilder, platform: str = "linux/amd64", **how: Any) -> Content:
    return builder.image([builder.random_layer(100)], platform, **how)


def unsaid(content: Content) -> Content:
    """The entry without its platform."""
    return replace(content, extra={})


def untyped(builder: ImageBuilder, *entries: Content) -> Content:
    """An index of entries without media types."""
    documents = [each.document() for each in entries]
    for each in documents:
        del each["mediaType"]
    return builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": documents})


def entries(lenient: ScriptedRegistry, tag: str = "new") -> list[str]:
    return [each["digest"] for each in lenient.document("copy", tag)["manifests"]]


# -- attestations --------------------------------------------------------------------------------------------


def test_a_new_index_keeps_the_attestations_of_the_chosen_platforms(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    images = [image(builder, each) for each in ("linux/amd64", "linux/arm64", "linux/s390x")]
    about = [builder.attestation(each) for each in images]
    source = serve(builder.index([*images, *about]))
    result = crossdock.copy(source, f"{lenient.host}/copy:new", *AMD64, *ARM64)
    assert entries(lenient) == [each.digest for each in (images[0], images[1], about[0], about[1])]
    assert result["warnings"] == []
    assert ("copy", about[0].digest) in lenient.manifests
    assert ("copy", about[2].digest) not in lenient.manifests


def test_one_platform_is_its_manifest_and_says_that_attestations_stay(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    images = [image(builder), image(builder, "linux/arm64")]
    source = serve(builder.index([*images, builder.attestation(images[0])]))
    result = crossdock.copy(source, f"{lenient.host}/copy:amd64", *AMD64)
    assert result["digest"] == images[0].digest
    (warning,) = result["warnings"]
    assert "the attestations of linux/amd64 are not copied" in warning
    assert crossdock.copy(source, f"{lenient.host}/copy:arm64", *ARM64)["warnings"] == []


def test_an_attestation_that_was_cleaned_up_is_left_out_with_a_warning(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    images = [image(builder), image(builder, "linux/arm64")]
    about = [builder.attestation(each) for each in images]
    source = serve(builder.index([*images, *about]))
    del lenient.manifests["app", about[0].digest]
    result = crossdock.copy(source, f"{lenient.host}/copy:new", *AMD64, *ARM64)
    assert entries(lenient) == [images[0].digest, images[1].digest, about[1].digest]
    (warning,) = result["warnings"]
    assert about[0].digest in warning


# -- nested and untyped --------------------------------------------------------------------------------------


def test_platforms_of_different_nested_indexes_become_one_index(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    amd64, arm64, s390x = (image(builder, each) for each in ("linux/amd64", "linux/arm64", "linux/s390x"))
    about = builder.attestation(arm64)
    nested = builder.index([builder.index([builder.index([arm64, about])]), builder.index([s390x])])
    root = builder.index([nested, amd64], annotations={"kept": "yes"})
    source = serve(root)
    crossdock.copy(source, f"{lenient.host}/copy:new", *ARM64, *AMD64)
    assert entries(lenient) == [amd64.digest, arm64.digest, about.digest]
    assert lenient.document("copy", "new")["annotations"] == {"kept": "yes"}
    one = crossdock.copy(source, f"{lenient.host}/copy:one", "--platform", "linux/s390x")
    assert one["digest"] == s390x.digest


def test_untyped_indexes_are_searched(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    amd64, arm64 = image(builder), image(builder, "linux/arm64")
    source = serve(untyped(builder, untyped(builder, amd64), untyped(builder, arm64)))
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *ARM64)["digest"] == arm64.digest
    crossdock.copy(source, f"{lenient.host}/copy:new", *ARM64, *AMD64)
    assert entries(lenient) == [amd64.digest, arm64.digest]


def test_an_index_for_each_platform_is_copied_whole(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    amd64, arm64 = image(builder), image(builder, "linux/arm64")
    each = [
        builder.index([one, builder.attestation(one)]).having(platform=one.extra["platform"])
        for one in (amd64, arm64)
    ]
    source = serve(builder.index(each))
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *ARM64)["digest"] == each[1].digest
    crossdock.copy(source, f"{lenient.host}/copy:new", *ARM64, *AMD64)
    assert entries(lenient) == [each[0].digest, each[1].digest]


# -- entries that state no platform --------------------------------------------------------------------------


def test_an_entry_without_a_platform_is_matched_by_its_config(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    amd64, arm64 = unsaid(image(builder)), unsaid(image(builder, "linux/arm64/v8"))
    source = serve(builder.index([builder.helm_chart(), arm64, unsaid(builder.attestation(amd64)), amd64]))
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *AMD64)["digest"] == amd64.digest
    crossdock.copy(source, f"{lenient.host}/copy:new", *ARM64, *AMD64)
    assert entries(lenient) == [arm64.digest, amd64.digest]


def test_a_stated_platform_counts_before_one_that_only_a_config_tells(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    unstated, stated = unsaid(image(builder)), image(builder)
    source = serve(builder.index([unstated, builder.index([stated])]))
    before = len(lenient.asked)
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *AMD64)["digest"] == stated.digest
    assert not [path for _, path in lenient.asked[before:] if unstated.digest in path]


def test_half_a_platform_is_none(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    amd64 = image(builder).having(platform={"os": "linux"})
    source = serve(builder.index([amd64]))
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *AMD64)["digest"] == amd64.digest


def test_other_missing_platforms_do_not_prevent_the_copy(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    gone, amd64 = unsaid(image(builder, "linux/arm64")), unsaid(image(builder))
    source = serve(builder.index([gone, amd64]))
    del lenient.manifests["app", gone.digest]
    assert crossdock.copy(source, f"{lenient.host}/copy:one", *AMD64)["digest"] == amd64.digest
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:other", *ARM64, code=NOT_FOUND)
    assert f"{gone.digest} is listed and cannot be read" in line


# -- one manifest for two platforms --------------------------------------------------------------------------


def test_an_entry_that_was_not_chosen_is_left_out_although_its_digest_was(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder
) -> None:
    arm, amd64 = image(builder, "linux/arm/v6"), image(builder)
    other = arm.having(platform={"os": "linux", "architecture": "arm", "variant": "v7"})
    source = serve(builder.index([arm, other, amd64]))
    crossdock.copy(source, f"{lenient.host}/copy:new", "--platform", "linux/arm/v7", *AMD64)
    listed = lenient.document("copy", "new")["manifests"]
    assert [each["platform"].get("variant") for each in listed] == ["v7", None]
    both = ("--platform", "linux/arm/v7", "--platform", "linux/arm/v6")
    crossdock.copy(source, f"{lenient.host}/copy:both", *both)
    assert len(entries(lenient, "both")) == 2


# -- what is not there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), AMD64])
def test_a_missing_platform_lists_what_there_is_and_no_attestations(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Any, builder: ImageBuilder, more: tuple[str, ...]
) -> None:
    amd64, arm = image(builder), image(builder, "linux/arm/v6")
    nested = builder.index([unsaid(image(builder, "linux/riscv64"))])
    source = serve(builder.index([amd64, arm, builder.attestation(amd64), nested]))
    target = f"{lenient.host}/copy:new"
    line = crossdock.fail_copy(source, target, "--platform", "linux/s390", *more, code=NOT_FOUND)
    assert "no manifest for linux/s390; offered: linux/amd64, linux/arm/v6, linux/riscv64;" in line
    assert "choose one of these with --platform" in line
    assert "unknown" not in line
    assert "crossdock tags" not in line
    assert ("copy", "new") not in lenient.manifests


# -- layouts -------------------------------------------------------------------------------------------------


def layout(folder: Path, named: str | None, *contents: Content) -> str:
    """Write the index.json of a builder's layout; all entries have the same name, or none."""
    annotations = {"annotations": {"org.opencontainers.image.ref.name": named}} if named else {}
    listed = []
    for each in contents:
        document = each.document()
        more = {**document.get("annotations", {}), **annotations.get("annotations", {})}
        listed.append({**document, **({"annotations": more} if more else {})})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
    return f"oci:{folder}" + (f":{named}" if named else "")


@pytest.mark.parametrize("named", [None, "v1"])
@pytest.mark.parametrize("says", [True, False])
def test_layout_that_lists_the_platforms_itself(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path, named: str | None, says: bool
) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    amd64, arm64 = image(builder), image(builder, "linux/arm64")
    about = builder.attestation(arm64)
    listed = (amd64, arm64) if says else (unsaid(amd64), unsaid(arm64))
    source = layout(tmp_path / "layout", named, *listed, about)
    target = f"{lenient.host}/copy"
    assert crossdock.copy(source, f"{target}:one", *AMD64)["digest"] == amd64.digest
    crossdock.copy(source, f"{target}:new", *ARM64, *AMD64)
    assert entries(lenient) == [amd64.digest, arm64.digest, about.digest]
    assert "ref.name" not in json.dumps(lenient.document("copy", "new"))
    line = crossdock.fail_copy(source, f"{target}:all", code=VERIFICATION)
    assert "linux/amd64, linux/arm64" in line
    assert "--platform" in line
    gone = crossdock.fail_copy(source, f"{target}:all", "--platform", "linux/s390x", code=NOT_FOUND)
    assert "offered: linux/amd64, linux/arm64" in gone


def test_layout_of_several_images_is_not_one_of_several_platforms(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path
) -> None:
    """Two images of one platform, or with different names: a platform does not identify one."""
    builder = ImageBuilder(tmp_path / "layout")
    one, other, arm64 = image(builder), image(builder), image(builder, "linux/arm64")
    source = layout(tmp_path / "layout", None, unsaid(one), unsaid(other), unsaid(arm64))
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:new", *AMD64, code=VERIFICATION)
    assert "holds 3 manifests and none was named" in line
    builder.tag(one, "v1")
    builder.tag(arm64, "v2")
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:new", *AMD64, code=VERIFICATION)
    assert "its tags are v1, v2" in line


def test_layout_where_one_name_means_an_image_and_its_signature(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path
) -> None:
    """As cosign and hauler save them: kinds tell them apart, and a digest names one."""
    builder = ImageBuilder(tmp_path / "layout")
    kinds = [
        each.having(annotations={"kind": f"dev.cosignproject.cosign/{kind}"})
        for each, kind in ((image(builder), "image"), (builder.artifact("application/x"), "sigs"))
    ]
    source = layout(tmp_path / "layout", "registry.example/app:v1", *kinds)
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:new", code=VERIFICATION)
    for each, kind in zip(kinds, ("image", "sigs"), strict=True):
        assert f"{each.digest} (dev.cosignproject.cosign/{kind})" in line
    assert f"name one by digest: oci:{tmp_path}/layout@{kinds[0].digest}" in line
    assert "whole name" not in line
    named = crossdock.copy(f"oci:{tmp_path}/layout@{kinds[0].digest}", f"{lenient.host}/copy:new")
    assert named["digest"] == kinds[0].digest


# -- to a real registry --------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_registry_takes_the_index_made_of_nested_ones(
    crossdock: Crossdock,
    source: DockerRegistry,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
) -> None:
    amd64, arm64 = image(builder), image(builder, "linux/arm64", flavour="docker")
    about = builder.attestation(amd64)
    root = builder.index([builder.index([amd64, about]), builder.index([arm64])])
    push(source.remote, repository, builder, root, "v1")
    asked = f"{source.host}/{repository}:v1", f"{target.host}/{repository}:new"
    result = crossdock.copy(*asked, *AMD64, *ARM64)
    expected = push(source.remote, f"{repository}/expected", builder, builder.index([amd64, about, arm64]))
    assert result["digest"] == expected.root
    assert_holds(target.remote, repository, "new", expected)
    types = [each["mediaType"] for each in target.remote.manifest(repository, "new").json()["manifests"]]
    assert types == [OCI_MANIFEST, OCI_MANIFEST, DOCKER_MANIFEST]
    assert crossdock.copy(*asked, *AMD64, *ARM64)["bytes_moved"] == 0
