"""The image builder: same seed, same digests; layouts that other tools read."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from crossdock.imagebuilder import HELM_CONFIG, OCI_INDEX, ImageBuilder, sample_index
from support.process import require


def run(*words: str | Path) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def test_the_same_seed_gives_the_same_digests_in_memory_and_on_disk(tmp_path: Path) -> None:
    in_memory = ImageBuilder(seed=3)
    on_disk = ImageBuilder(tmp_path / "layout", seed=3)
    assert sample_index(in_memory) == sample_index(on_disk)
    assert in_memory.digests() == on_disk.digests()
    assert ImageBuilder(seed=4).random_layer(100) != ImageBuilder(seed=3).random_layer(100)


def test_every_blob_lies_under_its_own_digest(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    sample_index(builder)
    for digest in builder.digests():
        assert f"sha256:{hashlib.sha256(builder.read(digest)).hexdigest()}" == digest


def test_random_layers_have_exactly_the_size_asked_for() -> None:
    builder = ImageBuilder()
    for size in (0, 1, (1 << 20) - 1, (1 << 20) + 1):
        content = builder.random_layer(size)
        assert content.size == size == len(builder.read(content))


def test_a_tar_layer_is_a_true_gzip_tar_with_parents_before_files(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"from a file")
    builder = ImageBuilder(tmp_path / "layout")
    layer = builder.tar_layer({"usr/lib/a": file, "usr/lib/b": b"b", "top": b""})
    with tarfile.open(builder.path(layer)) as tar:
        assert tar.getnames() == ["usr", "usr/lib", "usr/lib/a", "usr/lib/b", "top"]
        member = tar.extractfile("usr/lib/a")
        assert member is not None
        assert member.read() == b"from a file"
    image = json.loads(builder.read(builder.image([layer])))
    config = json.loads(builder.read(image["config"]["digest"]))
    plain = gzip.decompress(builder.read(layer))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]


def test_a_tar_layer_stops_taking_files_at_the_size_asked_for() -> None:
    builder = ImageBuilder()
    files = ((f"file-{number}", b"x" * 10_000) for number in range(1_000_000))
    layer = builder.tar_layer(files, compression="none", until=100_000)
    assert 100_000 <= layer.size < 150_000


def test_failed_layers_leave_no_file_behind(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    with pytest.raises(FileNotFoundError):
        builder.tar_layer({"gone": tmp_path / "missing"})
    assert sorted(each.name for each in (tmp_path / "layout").iterdir()) == [
        "blobs",
        "index.json",
        "oci-layout",
    ]


def test_docker_images_name_only_docker_media_types() -> None:
    builder = ImageBuilder()
    index = json.loads(builder.read(sample_index(builder, flavour="docker")))
    assert index["mediaType"].startswith("application/vnd.docker.")
    for entry in index["manifests"]:
        manifest = json.loads(builder.read(entry["digest"]))
        for each in (manifest, manifest["config"], *manifest["layers"]):
            assert each["mediaType"].startswith("application/vnd.docker.")


def test_artifacts_carry_type_and_subject() -> None:
    builder = ImageBuilder()
    image = builder.image([builder.random_layer(10)])
    artifact = builder.artifact("application/vnd.example.signature", subject=image)
    document = json.loads(builder.read(artifact))
    assert document["artifactType"] == artifact.extra["artifactType"] == "application/vnd.example.signature"
    assert document["subject"] == {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
    chart = json.loads(builder.read(builder.helm_chart()))
    assert chart["config"]["mediaType"] == HELM_CONFIG


def test_attestations_point_at_their_image() -> None:
    builder = ImageBuilder()
    image = builder.image([builder.random_layer(10)])
    entry = builder.attestation(image).document()
    assert entry["platform"] == {"os": "unknown", "architecture": "unknown"}
    assert entry["annotations"]["vnd.docker.reference.digest"] == image.digest


@pytest.mark.real
def test_skopeo_copies_indexes_images_and_charts_with_equal_digests(tmp_path: Path) -> None:
    skopeo = require("skopeo")
    builder = ImageBuilder(tmp_path / "layout")
    contents = {
        "index": sample_index(builder),
        "image": builder.image([builder.tar_layer({"a": b"a"})]),
        "chart": builder.helm_chart(),
    }
    for tag, content in contents.items():
        builder.tag(content, tag)
        run(
            skopeo,
            "copy",
            "--all",
            "--preserve-digests",
            f"oci:{builder.root}:{tag}",
            f"dir:{tmp_path / tag}",
        )
        manifest = (tmp_path / tag / "manifest.json").read_bytes()
        assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == content.digest


@pytest.mark.real
def test_umoci_unpacks_a_tar_layer(tmp_path: Path) -> None:
    umoci = require("umoci")
    builder = ImageBuilder(tmp_path / "layout")
    builder.tag(builder.image([builder.tar_layer({"etc/hello": b"hello\n"})]), "v1")
    run(umoci, "unpack", "--rootless", "--image", f"{builder.root}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "hello").read_bytes() == b"hello\n"


def test_an_untagged_entry_is_listed_without_a_name(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout")
    content = builder.list_untagged(builder.helm_chart())
    index = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    assert index["mediaType"] == OCI_INDEX
    assert index["manifests"] == [content.document()]
