"""skopeo and umoci read crossdock's registry and layouts, and crossdock reads theirs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conformance.subject import Subject
from crossdock.imagebuilder import ImageBuilder, sample_index
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.store.layout import LayoutStore
from support.process import require
from support.skopeo import copy_all, raw_digest, skopeo

pytestmark = pytest.mark.real


def run(*words: str | Path) -> bytes:
    done = subprocess.run([str(word) for word in words], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def write_layout(builder: ImageBuilder, root: str, tag: str | None, folder: Path) -> None:
    """Copy everything that the builder holds into a new layout, by the store."""
    store = LayoutStore(folder, create=True)
    for digest in builder.digests():
        data = builder.read(digest)
        blob = Descriptor("application/octet-stream", Digest(digest), len(data))
        session = await store.start_upload(blob)
        await session.append(memoryview(data))
        await session.commit()
    data = builder.read(root)
    descriptor = Descriptor(json.loads(data)["mediaType"], Digest(root), len(data))
    await store.push_manifest(descriptor, data, tag)
    if tag is None:
        await store.add_root(descriptor)


def test_skopeo_copies_in_and_out_of_the_registry(embedded: Subject, name: str, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "layout", seed=1)
    root = layout.tag(sample_index(layout), "v1")
    served = f"docker://{embedded.host}/{name}:v1"
    copy_all(f"oci:{layout.root}:v1", served)
    assert raw_digest(served) == root.digest
    copy_all(served, f"oci:{tmp_path}/back:v1")
    assert raw_digest(f"oci:{tmp_path}/back:v1") == root.digest
    assert raw_digest(f"oci:{embedded.root}/{name}:v1") == root.digest


def test_skopeo_copies_between_repositories_by_mounting(embedded: Subject, name: str, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "layout", seed=2)
    layer = layout.tar_layer({"a": b"1"})
    layout.tag(layout.image([layer]), "v1")
    copy_all(f"oci:{layout.root}:v1", f"docker://{embedded.host}/{name}/one:v1")
    copy_all(f"docker://{embedded.host}/{name}/one:v1", f"docker://{embedded.host}/{name}/two:v1")
    one, two = (
        (embedded.root / name / part / "blobs" / layer.digest.replace(":", "/")).stat()
        for part in ("one", "two")
    )
    assert one.st_ino == two.st_ino


def test_skopeo_lists_and_deletes(embedded: Subject, name: str, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "layout", seed=3)
    for tag in ("v1", "v2"):
        layout.tag(layout.image([layout.tar_layer({tag: b"1"})]), tag)
        copy_all(f"oci:{layout.root}:{tag}", f"docker://{embedded.host}/{name}:{tag}")
    address = f"docker://{embedded.host}/{name}"
    assert json.loads(skopeo("list-tags", "--tls-verify=false", address))["Tags"] == ["v1", "v2"]
    skopeo("delete", "--tls-verify=false", f"{address}:v1")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", address))["Tags"] == ["v2"]


def test_a_layout_of_skopeo_is_served_in_place(embedded: Subject, name: str, tmp_path: Path) -> None:
    layout = ImageBuilder(tmp_path / "layout", seed=4)
    root = layout.tag(sample_index(layout), "v1")
    (embedded.root / name).parent.mkdir(parents=True, exist_ok=True)
    copy_all(f"oci:{layout.root}:v1", f"oci:{embedded.root}/{name}:v1")
    assert raw_digest(f"docker://{embedded.host}/{name}:v1") == root.digest
    copy_all(f"docker://{embedded.host}/{name}:v1", f"oci:{tmp_path}/back:v1")


@pytest.mark.parametrize("tag", ["v1", None])
async def test_skopeo_reads_a_layout_of_the_store(tmp_path: Path, tag: str | None) -> None:
    memory = ImageBuilder(seed=5)
    root = sample_index(memory)
    folder = tmp_path / "layout"
    await write_layout(memory, root.digest, tag, folder)
    reference = f"oci:{folder}:{tag}" if tag else f"oci:{folder}"
    assert raw_digest(reference) == root.digest
    skopeo("inspect", reference)
    copy_all(reference, f"oci:{tmp_path}/back:v1")
    found = await LayoutStore(tmp_path / "back").resolve("v1")
    assert found.digest == root.digest
    assert await LayoutStore(tmp_path / "back").fetch_manifest(found) == memory.read(root)


async def test_skopeo_writes_into_a_layout_of_the_store_and_the_store_reads_both(tmp_path: Path) -> None:
    memory, other = ImageBuilder(seed=6), ImageBuilder(tmp_path / "other", seed=7)
    image = memory.image([memory.tar_layer({"a": b"1"})])
    second = other.tag(other.image([other.tar_layer({"b": b"2"})]), "v2")
    folder = tmp_path / "layout"
    await write_layout(memory, image.digest, "v1", folder)
    copy_all(f"oci:{other.root}:v2", f"oci:{folder}:v2")
    copy_all(f"oci:{other.root}:v2", f"oci:{folder}:moved")
    await write_layout(memory, image.digest, "moved", folder)
    store = LayoutStore(folder)
    assert await store.tags() == ["moved", "v1", "v2"]
    assert (await store.resolve("v2")).digest == second.digest
    for tag, digest in (("v1", image.digest), ("moved", image.digest), ("v2", second.digest)):
        assert raw_digest(f"oci:{folder}:{tag}") == digest


async def test_umoci_reads_and_unpacks_a_layout_of_the_store(tmp_path: Path) -> None:
    umoci = require("umoci")
    memory = ImageBuilder(seed=8)
    image = memory.image([memory.tar_layer({"etc/name": b"crossdock\n"})])
    folder = tmp_path / "layout"
    await write_layout(memory, image.digest, "v1", folder)
    assert json.loads(run(umoci, "stat", "--json", "--image", f"{folder}:v1"))["history"]
    run(umoci, "unpack", "--rootless", "--image", f"{folder}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "name").read_bytes() == b"crossdock\n"
    run(umoci, "tag", "--image", f"{folder}:v1", "v2")
    run(umoci, "gc", "--layout", folder)
    store = LayoutStore(folder)
    assert await store.tags() == ["v1", "v2"]
    assert (await store.resolve("v2")).digest == image.digest
