"""Unusual but valid documents are copied; errors about invalid ones name the fault."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossdock.imagebuilder import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Content, ImageBuilder
from support.command import NOT_FOUND, SOURCE, USAGE, Crossdock
from support.docker_registry import DockerRegistry
from support.embedded import start_embedded
from support.images import layout_tags
from support.process import require
from support.push import sha256
from support.scripted import ScriptedRegistry

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ODD_TAGS = ("a__b", "_x", "v1.", "1-", "A..b", "a.-_b", "x" * 128)

Serve = Callable[..., str]


@pytest.fixture
def lenient(closing: ExitStack) -> ScriptedRegistry:
    return ScriptedRegistry(closing)


@pytest.fixture
def serve(lenient: ScriptedRegistry, builder: ImageBuilder) -> Serve:
    def name(root: Content, tag: str = "v1") -> str:
        lenient.hold(builder)
        lenient.name(tag, root)
        return f"{lenient.host}/app:{tag}"

    return name


def image(builder: ImageBuilder, platform: str = "linux/amd64") -> Content:
    return builder.image([builder.random_layer(100)], platform)


def document(builder: ImageBuilder, text: bytes) -> Content:
    """An image whose manifest has `text` as its last member."""
    plain = builder.read(image(builder))
    return builder.blob(plain[:-1] + b"," + text + b"}", OCI_MANIFEST)


# -- null, and half of a surrogate pair ----------------------------------------------------------------------

ODD = {
    "null": b'"annotations":{"k":null,"l":"x"}',
    "high half": b'"annotations":{"k":"\\ud83d"}',
    "low half": b'"annotations":{"k":"\\uDE00 x"}',
    "two high halves": b'"annotations":{"\\ud83d\\uD83D":"\\ud83d\\ude00"}',
    "escaped backslash": b'"annotations":{"k":"\\\\ud83d"}',
    "unknown member": b'"x-unknown":["\\udfff",null]',
}


@pytest.mark.real
@pytest.mark.parametrize("odd", ODD)
def test_annotations_that_nothing_acts_on_are_copied(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    serve: Serve,
    target: DockerRegistry,
    builder: ImageBuilder,
    repository: str,
    tmp_path: Path,
    odd: str,
) -> None:
    content = document(builder, ODD[odd])
    source = serve(content)
    crossdock.copy(source, f"{target.host}/{repository}:v1")
    assert sha256(target.remote.manifest(repository, "v1").body) == content.digest
    crossdock.copy(source, f"oci:{tmp_path}/layout:v1")
    assert crossdock.copy(f"oci:{tmp_path}/layout:v1", f"{lenient.host}/copy:v1")["digest"] == content.digest
    for words in ((), ("--output", "json")):
        assert crossdock.ok("inspect", source, *words).stdout


def test_index_with_odd_annotations_is_filtered(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder
) -> None:
    images = [image(builder, each) for each in ("linux/amd64", "linux/arm64", "linux/s390x")]
    plain = builder.read(builder.index([each.having(annotations={"k": None}) for each in images]))
    odd = plain[:-1] + b',"annotations":{"k":"\\ud83d","l":null}}'
    source = serve(builder.blob(odd, OCI_INDEX))
    both = ("--platform", "linux/amd64", "--platform", "linux/s390x")
    crossdock.copy(source, f"{lenient.host}/copy:v1", *both)
    new = lenient.document("copy", "v1")
    assert [each["digest"] for each in new["manifests"]] == [images[0].digest, images[2].digest]
    assert new["annotations"] == {"k": "\ufffd", "l": None}


def test_layout_with_odd_annotations_in_its_index(
    crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path
) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    content = builder.tag(image(builder).having(annotations={"k": None, "l": "HALF"}), "v1")
    index = tmp_path / "layout/index.json"
    index.write_bytes(index.read_bytes().replace(b"HALF", b"\\ud83d"))
    crossdock.copy(f"oci:{tmp_path}/layout:v1", f"{lenient.host}/copy:v1")
    crossdock.copy(f"{lenient.host}/copy:v1", f"oci:{tmp_path}/layout:v2")
    assert layout_tags(tmp_path / "layout") == ["v1", "v2"]
    assert ("copy", content.digest) in lenient.manifests


def test_signature_with_null_annotations_is_listed_by_a_registry_without_the_api(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder, tmp_path: Path
) -> None:
    layout = ImageBuilder(tmp_path / "layout")
    subject = layout.tag(image(layout), "v1")
    signature = layout.read(layout.artifact("application/x.sig", subject=subject))
    odd = layout.blob(signature[:-1] + b',"annotations":{"k":null,"l":"x"}}', OCI_MANIFEST)
    layout.list_untagged(odd)
    result = crossdock.copy(f"oci:{tmp_path}/layout:v1", f"{lenient.host}/copy:v1")
    assert result["referrers_copied"] == 1
    (entry,) = lenient.document("copy", subject.digest.replace(":", "-"))["manifests"]
    assert (entry["digest"], entry["annotations"]) == (odd.digest, {"l": "x"})


def test_annotation_that_is_not_text_is_refused_in_words(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder
) -> None:
    """Go's decoders refuse it as well: no registry would take it."""
    source = serve(document(builder, b'"annotations":{"k":1}'))
    crossdock.fail_copy(source, f"{lenient.host}/copy:v1", code=SOURCE, naming=["$.annotations"])


# -- what an index lists and the source does not have --------------------------------------------------------


@pytest.mark.parametrize("attestation", [True, False])
def test_sparse_index_names_what_is_missing_and_how_to_copy_the_rest(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder, attestation: bool
) -> None:
    amd64, arm64 = image(builder), image(builder, "linux/arm64")
    gone = builder.attestation(amd64) if attestation else arm64
    source = serve(builder.index([amd64, gone]))
    del lenient.manifests["app", gone.digest]
    target = f"{lenient.host}/copy:v1"
    line = crossdock.fail_copy(source, target, code=NOT_FOUND, naming=[gone.digest])
    named = "as an attestation" if attestation else "for linux/arm64"
    assert f"an index lists this manifest {named} and the source no longer has it" in line
    assert "copy only the platforms that exist, with --platform" in line
    assert "check repository and tag" not in line
    assert ("copy", "v1") not in lenient.manifests
    crossdock.copy(source, target, "--platform", "linux/amd64")


def test_sparse_index_of_a_layout(crossdock: Crossdock, lenient: ScriptedRegistry, tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    amd64, arm64 = image(builder), image(builder, "linux/arm64")
    builder.tag(builder.index([amd64, arm64]), "v1")
    builder.path(arm64).unlink()
    line = crossdock.fail_copy(f"oci:{tmp_path}/layout:v1", f"{lenient.host}/copy:v1", code=NOT_FOUND)
    assert f"{arm64.digest}" in line
    assert "the source no longer has it" in line


def test_chosen_platform_that_is_gone_is_not_to_be_chosen(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder
) -> None:
    images = [image(builder, each) for each in ("linux/amd64", "linux/arm64")]
    source = serve(builder.index(images))
    del lenient.manifests["app", images[1].digest]
    both = ("--platform", "linux/amd64", "--platform", "linux/arm64")
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:v1", *both, code=NOT_FOUND)
    assert "for linux/arm64 and the source no longer has it: omit this platform" in line


# -- Docker's schema 1 ---------------------------------------------------------------------------------------


def schema1(builder: ImageBuilder) -> Content:
    text = {"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [], "history": [], "signatures": []}
    return builder.blob(json.dumps(text).encode(), SCHEMA1)


@pytest.mark.parametrize("stated", [SCHEMA1, "application/vnd.docker.distribution.manifest.v1+json", ""])
def test_schema_1_in_a_list_is_named_as_such(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder, stated: str
) -> None:
    old = replace(schema1(builder), media_type=stated)
    old = old.having(platform={"os": "linux", "architecture": "arm64"})
    listed = [each.document() for each in (image(builder), old)]
    root = builder.manifest({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": listed})
    source = serve(root)
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:v1", code=SOURCE)
    assert "schema 1" in line
    assert old.digest in line
    assert not [path for _, path in lenient.asked if f"/blobs/{old.digest}" in path]
    crossdock.copy(source, f"{lenient.host}/copy:amd64", "--platform", "linux/amd64")
    chosen = crossdock.fail_copy(source, f"{lenient.host}/copy:v1", "--platform", "linux/arm64", code=SOURCE)
    assert "schema 1" in chosen


def test_schema_1_ends_no_mirror(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    serve: Serve,
    builder: ImageBuilder,
    tmp_path: Path,
    closing: ExitStack,
) -> None:
    served = start_embedded(tmp_path, tmp_path / "root", closing)
    good, old = image(builder), schema1(builder)
    serve(builder.index([old]), "in-a-list")
    serve(old, "old")
    lenient.name("old", old, served_as=SCHEMA1)
    lenient.name("good", good)
    done = crossdock("mirror", "--repository", "app", lenient.host, f"{served.host}/new")
    assert done.code == SOURCE, str(done)
    assert done.stderr.count("schema 1") >= 2
    assert served.remote.tags("new/app") == ["good"]


# -- what is no layout ---------------------------------------------------------------------------------------


def test_file_given_as_a_layout_is_called_a_file(crossdock: Crossdock, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"\0" * 1024)
    for words in (
        ("copy", f"oci:{tmp_path}/image.tar:v1", "127.0.0.1:1/b:v"),
        ("tags", f"oci:{tmp_path}/image.tar"),
    ):
        line = crossdock.fail(*words, code=SOURCE)
        assert f"{tmp_path}/image.tar is a file, and a layout is a folder" in line
        assert "oci-archive:FILE" in line
    into = crossdock.fail("copy", "127.0.0.1:1/b:v", f"oci:{tmp_path}/image.tar", code=6)
    assert "is a file" in into
    missing = crossdock.fail("copy", f"oci:{tmp_path}/none.tar", "127.0.0.1:1/b:v", code=SOURCE)
    assert "no such folder" in missing


@pytest.mark.parametrize(
    ("reference", "advice"),
    [
        ("dir:image", "skopeo copy dir:DIR oci:NEW"),
    ],
)
def test_formats_of_other_tools_are_refused_with_a_way(
    crossdock: Crossdock, reference: str, advice: str
) -> None:
    for words in ((reference, "127.0.0.1:1/b:v"), ("127.0.0.1:1/b:v", reference)):
        line = crossdock.fail("copy", *words, code=USAGE)
        assert advice in line


@pytest.mark.real
def test_folder_in_skopeos_own_format_is_recognised(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder, tmp_path: Path
) -> None:
    skopeo = require("skopeo")
    crossdock.copy(serve(image(builder)), f"oci:{tmp_path}/layout:v1")
    words = [skopeo, "copy", "--quiet", f"oci:{tmp_path}/layout:v1", f"dir:{tmp_path}/dir"]
    subprocess.run(words, check=True, timeout=60)
    line = crossdock.fail_copy(f"oci:{tmp_path}/dir", f"{lenient.host}/copy:v1", code=SOURCE)
    assert "it is in the format dir: of skopeo" in line


# -- tags that the grammar of layouts lacks ------------------------------------------------------------------


@pytest.mark.parametrize("tag", ODD_TAGS)
def test_tags_of_registries_are_tags_of_layouts(
    crossdock: Crossdock,
    lenient: ScriptedRegistry,
    serve: Serve,
    builder: ImageBuilder,
    tmp_path: Path,
    tag: str,
) -> None:
    content = image(builder)
    source = serve(content, tag)
    crossdock.copy(source, f"oci:{tmp_path}/layout:{tag}")
    assert layout_tags(tmp_path / "layout") == [tag]
    assert (
        crossdock.copy(f"oci:{tmp_path}/layout:{tag}", f"{lenient.host}/copy:{tag}")["digest"]
        == content.digest
    )
    assert crossdock.ok("tags", f"oci:{tmp_path}/layout").stdout.split() == [tag]
    crossdock.copy(f"oci:{tmp_path}/layout:{tag}", f"oci:{tmp_path}/layout:other")
    document: dict[str, Any] = json.loads((tmp_path / "layout/index.json").read_bytes())
    assert len(document["manifests"]) == 2


# -- ORAS artifacts ------------------------------------------------------------------------------------------

ORAS = "application/vnd.cncf.oras.artifact.manifest.v1+json"


def oras_artifact(builder: ImageBuilder, subject: Content) -> Content:
    blob = builder.blob(b"signature", "application/jose+json")
    text = {"mediaType": ORAS, "artifactType": "application/x.sig", "blobs": [blob.document()]}
    return builder.blob(json.dumps({**text, "subject": subject.document()}).encode(), ORAS)


def test_oras_artifact_by_its_tag_is_named_as_such(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder
) -> None:
    artifact = oras_artifact(builder, image(builder))
    source = serve(artifact)
    for words in (("copy", source, f"{lenient.host}/copy:v1"), ("inspect", source)):
        line = crossdock.fail(*words, code=SOURCE)
        assert f"an ORAS artifact manifest ({ORAS}), which cannot be copied" in line
        assert "oras 1.0 or newer" in line
        assert "try again" not in line


def test_oras_artifact_that_does_not_state_its_type(
    crossdock: Crossdock, lenient: ScriptedRegistry, builder: ImageBuilder
) -> None:
    text = json.loads(builder.read(oras_artifact(builder, image(builder))))
    del text["mediaType"]
    content = builder.blob(json.dumps(text).encode(), ORAS)
    lenient.hold(builder)
    lenient.name("v1", content, served_as=ORAS)
    line = crossdock.fail_copy(f"{lenient.host}/app:v1", f"{lenient.host}/copy:v1", code=SOURCE)
    assert "ORAS artifact manifest" in line


def test_oras_artifact_in_an_index_is_named_as_such_and_platforms_are_copied(
    crossdock: Crossdock, lenient: ScriptedRegistry, serve: Serve, builder: ImageBuilder
) -> None:
    amd64 = image(builder)
    artifact = oras_artifact(builder, amd64)
    source = serve(builder.index([amd64, artifact]))
    line = crossdock.fail_copy(source, f"{lenient.host}/copy:v1", code=SOURCE)
    assert f"the index lists {artifact.digest}, an ORAS artifact manifest" in line
    assert not [path for _, path in lenient.asked if f"/blobs/{artifact.digest}" in path]
    crossdock.copy(source, f"{lenient.host}/copy:v1", "--platform", "linux/amd64")


def test_oras_artifact_that_refers_to_an_image_is_left_out_with_a_warning(
    crossdock: Crossdock, lenient: ScriptedRegistry, builder: ImageBuilder
) -> None:
    amd64 = image(builder)
    artifact = oras_artifact(builder, amd64)
    listed = builder.index([artifact])
    lenient.hold(builder)
    lenient.name("v1", amd64)
    lenient.name(amd64.digest.replace(":", "-"), listed)
    result = crossdock.copy(f"{lenient.host}/app:v1", f"{lenient.host}/copy:v1")
    assert any(artifact.digest in each and "ORAS artifact manifest" in each for each in result["warnings"])
    assert ("copy", "v1") in lenient.manifests
