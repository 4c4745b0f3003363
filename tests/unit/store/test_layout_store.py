"""A layout as source and target."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from crossdock.content import ManifestRow
from crossdock.errors import ContentError, LimitExceeded, NotFound, ReadFailed, SizeMismatch, StoreError
from crossdock.imagebuilder import OCI_INDEX, OCI_MANIFEST, Content, ImageBuilder
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.store import files as files_module
from crossdock.store.blobfiles import TEMPORARY_PREFIX
from crossdock.store.filebody import FileBody
from crossdock.store.layout import LayoutStore


def described(content: Content) -> Descriptor:
    return Descriptor(content.media_type, Digest(content.digest), content.size)


def index_of(folder: Path) -> list[dict[str, Any]]:
    manifests: list[dict[str, Any]] = json.loads((folder / "index.json").read_bytes())["manifests"]
    return manifests


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


class Collector:
    """A sink that offers `piece` bytes at a time and is full after each until `drain`."""

    def __init__(self, piece: int = 1 << 20, *, stops: bool = False) -> None:
        self.data = bytearray()
        self.pieces: list[int] = []
        self.full = asyncio.Event()
        self.empty = True
        self._piece = piece
        self._stops = stops
        self._memory = memoryview(bytearray(0))

    def get_buffer(self) -> memoryview | None:
        if self._stops and not self.empty:
            self.full.set()
            return None
        self.empty = False
        self._memory = memoryview(bytearray(self._piece))
        return self._memory

    def received(self, count: int) -> None:
        self.data += self._memory[:count]
        self.pieces.append(count)


async def push_blob(store: LayoutStore, data: bytes, *, piece: int = 1 << 20) -> Descriptor:
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    session = await store.start_upload(descriptor)
    for start in range(0, len(data), piece):
        await session.append(memoryview(data)[start : start + piece])
    await session.commit()
    return descriptor


async def push_all(builder: ImageBuilder, store: LayoutStore) -> None:
    for digest in builder.digests():
        await push_blob(store, builder.read(digest))


@pytest.fixture
def layout(tmp_path: Path) -> ImageBuilder:
    return ImageBuilder(tmp_path / "layout", seed=3)


# -- reading -----------------------------------------------------------------------------------------


async def test_a_tag_resolves_to_its_descriptor_without_the_index_annotations(layout: ImageBuilder) -> None:
    image = layout.tag(layout.image([layout.random_layer(100)]), "v1")
    found = await LayoutStore(str(layout.root)).resolve("v1")
    assert (found.media_type, found.digest, found.size) == (OCI_MANIFEST, image.digest, image.size)
    assert found.annotations is None


async def test_a_child_of_an_index_resolves_by_digest_though_it_is_not_listed(layout: ImageBuilder) -> None:
    image = layout.image([layout.random_layer(100)])
    layout.tag(layout.index([image]), "v1")
    store = LayoutStore(layout.root)
    found = await store.resolve(image.digest)
    assert (found.media_type, found.size) == (OCI_MANIFEST, image.size)
    assert await store.fetch_manifest(found) == layout.read(image)


async def test_the_manifests_are_listed_with_their_tags(layout: ImageBuilder) -> None:
    image = layout.tag(layout.tag(layout.image([layout.random_layer(100)]), "v1"), "latest")
    store = LayoutStore(layout.root, create=True)
    other = layout.image([layout.random_layer(10)])
    await store.add_root(described(other))
    assert await store.list_manifests(untagged=True) == [
        ManifestRow(Digest(image.digest), ("v1", "latest"), OCI_MANIFEST),
        ManifestRow(Digest(other.digest), (), OCI_MANIFEST),
    ]


async def test_a_tag_of_several_manifests_makes_no_list(layout: ImageBuilder) -> None:
    index_file = layout.root / "index.json"
    layout.tag(layout.image([layout.random_layer(100)]), "v1")
    layout.tag(layout.image([layout.random_layer(10)]), "v2")
    index_file.write_text(index_file.read_text().replace('"v2"', '"v1"'))
    assert await LayoutStore(layout.root).list_manifests() is None


async def test_without_a_tag_the_only_manifest_is_meant(layout: ImageBuilder) -> None:
    image = layout.tag(layout.image([]), "v1")
    layout.tag(image, "v2")
    assert (await LayoutStore(layout.root).resolve("")).digest == image.digest


async def test_without_a_tag_several_manifests_are_an_error_that_names_the_tags(layout: ImageBuilder) -> None:
    layout.tag(layout.image([], annotations={"a": "1"}), "v1")
    layout.tag(layout.image([], annotations={"a": "2"}), "v2")
    with pytest.raises(ContentError, match="its tags are v1, v2"):
        await LayoutStore(layout.root).resolve("")


async def test_a_manifest_that_lost_its_tag_does_not_make_the_only_tag_ambiguous(
    layout: ImageBuilder,
) -> None:
    image = layout.tag(layout.image([], annotations={"a": "1"}), "v1")
    layout.list_untagged(layout.image([], annotations={"a": "2"}))
    assert (await LayoutStore(layout.root).resolve("")).digest == image.digest


async def test_a_missing_tag_is_not_found_and_the_tags_are_named(layout: ImageBuilder) -> None:
    layout.tag(layout.image([]), "v1")
    with pytest.raises(NotFound, match=r"no tag v2 in .*; its tags are v1"):
        await LayoutStore(layout.root).resolve("v2")
    with pytest.raises(NotFound):
        await LayoutStore(layout.root).resolve("sha256:" + "0" * 64)


def write_index(folder: Path, entries: list[dict[str, Any]]) -> None:
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


async def test_names_of_other_tools_are_understood_when_they_mean_one_manifest(layout: ImageBuilder) -> None:
    assert layout.root is not None
    one = layout.image([], annotations={"n": "1"})
    two = layout.image([], annotations={"n": "2"})
    image_name, ref_name = "io.containerd.image.name", "org.opencontainers.image.ref.name"
    entries = [
        one.having(annotations={image_name: "docker.io/library/app:v1", ref_name: "v1"}).document(),
        two.having(annotations={ref_name: "registry.example:5000/other:v2"}).document(),
        two.having(annotations={ref_name: "registry.example:5000/third:v3"}).document(),
        one.having(annotations={ref_name: "registry.example:5000/fourth:v3"}).document(),
    ]
    write_index(layout.root, entries)
    store = LayoutStore(layout.root)
    assert (await store.resolve("v1")).digest == one.digest
    assert (await store.resolve("docker.io/library/app:v1")).digest == one.digest
    assert (await store.resolve("registry.example:5000/other:v2")).digest == two.digest
    assert (await store.resolve("v2")).digest == two.digest
    with pytest.raises(ContentError, match="means several manifests"):
        await store.resolve("v3")


async def test_tags_are_sorted_and_given_once(layout: ImageBuilder) -> None:
    image = layout.image([])
    for tag in ("b", "a", "C"):
        layout.tag(image, tag)
    assert await LayoutStore(layout.root).tags() == ["C", "a", "b"]


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda root: (root / "oci-layout").unlink(), StoreError, "not an OCI image layout"),
        (lambda root: (root / "index.json").unlink(), StoreError, "index.json is missing"),
        (lambda root: (root / "index.json").write_text("{"), ContentError, "damaged"),
        (lambda root: (root / "index.json").write_text("[]"), ContentError, "damaged"),
        (lambda root: (root / "index.json").write_text('{"manifests":[1]}'), ContentError, "damaged"),
        (lambda root: (root / "index.json").write_text("[" * 100_000), ContentError, "damaged"),
        (lambda root: (root / "oci-layout").write_text("no"), ContentError, "damaged"),
        (lambda root: (root / "oci-layout").write_text('{"imageLayoutVersion":"2.0"}'), StoreError, "2.0"),
        (lambda root: os.truncate(root / "index.json", 64 << 20), LimitExceeded, "more than"),
    ],
)
def test_a_damaged_layout_is_refused_in_words(
    layout: ImageBuilder, spoil: Any, error: type[Exception], words: str
) -> None:
    spoil(layout.root)
    with pytest.raises(error, match=words):
        LayoutStore(layout.root)


def test_a_missing_folder_is_refused_as_source(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        LayoutStore(tmp_path / "nothing")


async def test_a_listed_digest_that_is_not_a_digest_is_damage_not_a_path(layout: ImageBuilder) -> None:
    assert layout.root is not None
    (layout.root / "secret").write_text("{}")
    name = {"org.opencontainers.image.ref.name": "v1"}
    write_index(layout.root, [{"digest": "sha256:../../secret", "size": 2, "annotations": name}])
    with pytest.raises(ContentError, match="damaged"):
        await LayoutStore(layout.root).resolve("v1")


async def test_a_changed_manifest_is_a_content_error(layout: ImageBuilder) -> None:
    image = layout.tag(layout.image([]), "v1")
    store = LayoutStore(layout.root)
    path = layout.path(image)
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(ContentError, match="wrong digest"):
        await store.fetch_manifest(described(image))
    path.write_bytes(b"{}")
    with pytest.raises(SizeMismatch):
        await store.fetch_manifest(described(image))


async def test_a_target_finds_a_manifest_that_is_whole(layout: ImageBuilder, tmp_path: Path) -> None:
    image = layout.tag(layout.image([]), "v1")
    store = LayoutStore(layout.root, create=True)
    data = layout.read(image)
    assert await store.find_manifest("v1") == await store.find_manifest(image.digest) == data
    assert await store.find_manifest("v9") is None
    layout.path(image).write_bytes(data[::-1])
    assert await store.find_manifest("v1") is None
    layout.path(image).unlink()
    assert await store.find_manifest("v1") is None
    assert await LayoutStore(tmp_path / "new", create=True).find_manifest("v1") is None


async def test_links_that_lead_out_of_the_layout_are_refused(layout: ImageBuilder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    layer = layout.blob(b"secret", "text/plain")
    layout.path(layer).unlink()
    layout.path(layer).symlink_to(secret)
    store = LayoutStore(layout.root)
    with pytest.raises(StoreError, match="leads out of the layout") as caught:
        await store.blob(described(layer)).open(0, 6)
    assert "cp -rL" in str(caught.value.advice)
    inside = layout.path(layer).with_name("moved")
    secret.rename(inside)
    layout.path(layer).unlink()
    layout.path(layer).symlink_to(inside)
    (await store.blob(described(layer)).open(0, 6)).close()


async def test_a_blob_folder_that_leads_out_is_refused_for_reading_and_writing(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "layout"
    builder = ImageBuilder(root)
    (root / "blobs" / "sha256").rmdir()
    (root / "blobs" / "sha256").symlink_to(elsewhere)
    store = LayoutStore(root, create=True)
    with pytest.raises(StoreError, match="leads out"):
        await push_blob(store, b"data")
    assert not list(elsewhere.iterdir())
    assert not leftovers(root)
    builder.blob(b"other", "text/plain")
    with pytest.raises(StoreError, match="leads out"):
        await store.has_blob(Descriptor("text/plain", Digest.of(b"other"), 5))


# -- ranges ------------------------------------------------------------------------------------------


async def read(store: LayoutStore, blob: Descriptor, start: int, stop: int, sink: Collector) -> bytes:
    body = await store.blob(blob).open(start, stop)
    assert (body.start, body.stop) == (start, stop)
    await body.receive(sink)
    return bytes(sink.data)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 300_000), (77, 200_001), (299_999, 300_000), (5, 5)])
async def test_a_range_is_delivered_exactly(layout: ImageBuilder, start: int, stop: int) -> None:
    layer = layout.random_layer(300_000)
    data = layout.read(layer)
    store = LayoutStore(layout.root)
    assert await read(store, described(layer), start, stop, Collector(65_536)) == data[start:stop]


async def test_reading_fills_the_whole_buffer_that_the_sink_offers(layout: ImageBuilder) -> None:
    layer = layout.random_layer(3 << 20)
    sink = Collector(1 << 20)
    await read(LayoutStore(layout.root), described(layer), 0, layer.size, sink)
    assert sink.pieces == [1 << 20] * 3


async def test_a_full_sink_stops_the_reading_until_resume(layout: ImageBuilder) -> None:
    layer = layout.random_layer(3000)
    sink = Collector(1000, stops=True)
    body = await LayoutStore(layout.root).blob(described(layer)).open(0, 3000)
    task = asyncio.create_task(body.receive(sink))
    for expected in (1000, 2000):
        await sink.full.wait()
        assert len(sink.data) == expected
        sink.full.clear()
        sink.empty = True
        body.resume()
    await task
    assert bytes(sink.data) == layout.read(layer)


async def test_a_file_of_another_size_is_refused_before_reading(layout: ImageBuilder) -> None:
    layer = layout.random_layer(3000)
    os.truncate(layout.path(layer), 2999)
    with pytest.raises(SizeMismatch) as caught:
        await LayoutStore(layout.root).blob(described(layer)).open(0, 3000)
    assert (caught.value.expected, caught.value.received) == (3000, 2999)


async def test_a_file_that_shrinks_while_it_is_read_is_a_size_mismatch(layout: ImageBuilder) -> None:
    layer = layout.random_layer(3000)
    body = await LayoutStore(layout.root).blob(described(layer)).open(0, 3000)
    os.truncate(layout.path(layer), 1000)
    with pytest.raises(SizeMismatch, match="ended at byte 1000"):
        await body.receive(Collector(4096))


async def test_closing_ends_a_waiting_read_and_closes_the_file(layout: ImageBuilder) -> None:
    layer = layout.random_layer(3000)
    sink = Collector(1000, stops=True)
    body = await LayoutStore(layout.root).blob(described(layer)).open(0, 3000)
    task = asyncio.create_task(body.receive(sink))
    await sink.full.wait()
    body.close()
    body.close()
    with pytest.raises(ReadFailed):
        await task
    assert body._descriptor == -1


async def test_cancelling_waits_for_the_thread_that_fills_the_buffer(
    layout: ImageBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layout.random_layer(3000)
    body = await LayoutStore(layout.root).blob(described(layer)).open(0, 3000)
    loop = asyncio.get_running_loop()
    started, finish = asyncio.Event(), threading.Event()
    finished: list[int] = []
    preadv = os.preadv

    def slow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        loop.call_soon_threadsafe(started.set)
        assert finish.wait(10)
        finished.append(preadv(descriptor, buffers, offset))
        return finished[0]

    monkeypatch.setattr(os, "preadv", slow)
    task = asyncio.create_task(body.receive(Collector(3000)))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == [3000]
    assert isinstance(body, FileBody)
    assert body._descriptor == -1


# -- writing -----------------------------------------------------------------------------------------


async def test_a_target_is_made_by_the_first_write_and_not_before(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "layout"
    store = LayoutStore(folder, create=True)
    assert not folder.exists()
    with pytest.raises(NotFound):
        await store.resolve("v1")
    assert await store.tags() == []
    blob = await push_blob(store, b"x" * 100_000, piece=30_000)
    assert await store.has_blob(blob)
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert index_of(folder) == []
    assert not leftovers(folder)


async def test_an_image_written_is_read_back(layout: ImageBuilder, tmp_path: Path) -> None:
    image = layout.image([layout.random_layer(100_000)])
    store = LayoutStore(tmp_path / "copy", create=True)
    await push_all(layout, store)
    await store.push_manifest(described(image), layout.read(image), "v1")
    again = LayoutStore(tmp_path / "copy")
    assert (await again.resolve("v1")).digest == image.digest
    assert await again.fetch_manifest(described(image)) == layout.read(image)


async def test_children_are_not_listed_and_a_root_without_a_tag_is_when_added(tmp_path: Path) -> None:
    memory = ImageBuilder(seed=5)
    child = memory.image([])
    root = memory.index([child])
    store = LayoutStore(tmp_path / "copy", create=True)
    await push_all(memory, store)
    for content in (child, root):
        await store.push_manifest(described(content), memory.read(content), None)
    assert index_of(tmp_path / "copy") == []
    for _ in range(2):
        await store.add_root(described(root))
    assert index_of(tmp_path / "copy") == [
        {"mediaType": OCI_INDEX, "digest": root.digest, "size": root.size},
    ]
    assert (await store.resolve("")).digest == root.digest


async def test_an_artifact_is_listed_with_its_type(tmp_path: Path) -> None:
    memory = ImageBuilder(seed=5)
    artifact = memory.artifact("application/vnd.example.sbom")
    store = LayoutStore(tmp_path / "copy", create=True)
    await push_all(memory, store)
    await store.push_manifest(described(artifact), memory.read(artifact), "sbom")
    assert index_of(tmp_path / "copy")[0]["artifactType"] == "application/vnd.example.sbom"


async def test_a_tag_that_moves_leaves_its_old_manifest_listed_once_without_a_name(tmp_path: Path) -> None:
    memory = ImageBuilder(seed=5)
    one, two = (memory.image([], annotations={"n": n}) for n in "12")
    store = LayoutStore(tmp_path / "copy", create=True)
    await push_all(memory, store)
    for content, tag in ((one, "v1"), (one, "latest"), (two, "latest"), (two, "v1")):
        await store.push_manifest(described(content), memory.read(content), tag)
    names = [
        (entry["digest"], entry.get("annotations", {}).get("org.opencontainers.image.ref.name"))
        for entry in index_of(tmp_path / "copy")
    ]
    assert sorted(names, key=str) == sorted(
        [(one.digest, None), (two.digest, "latest"), (two.digest, "v1")], key=str
    )
    await store.push_manifest(described(one), memory.read(one), "v1")
    assert [entry["digest"] for entry in index_of(tmp_path / "copy")].count(one.digest) == 1


async def test_fields_of_other_tools_survive_an_update(layout: ImageBuilder) -> None:
    assert layout.root is not None
    image = layout.image([])
    foreign = {"mediaType": "application/xml", "digest": "sha256:" + "1" * 64, "size": 1, "x": {"y": 1}}
    document = {
        "schemaVersion": 2,
        "annotations": {"com.example": "r1"},
        "manifests": [foreign],
        "extra": 1.5,
    }
    (layout.root / "index.json").write_text(json.dumps(document))
    store = LayoutStore(layout.root, create=True)
    await store.push_manifest(described(image), layout.read(image), "v1")
    after = json.loads((layout.root / "index.json").read_text())
    assert after["manifests"][0] == foreign
    assert {**after, "manifests": None} == {**document, "manifests": None}


async def test_names_of_other_tools_go_with_the_tag_and_other_annotations_stay(layout: ImageBuilder) -> None:
    assert layout.root is not None
    old, new = (layout.image([], annotations={"n": n}) for n in "12")
    ref_name, image_name = "org.opencontainers.image.ref.name", "io.containerd.image.name"
    named = {ref_name: "v1", image_name: "docker.io/library/app:v1", "com.example": "kept"}
    write_index(layout.root, [old.having(annotations=named, platform={"os": "linux"}).document()])
    store = LayoutStore(layout.root, create=True)
    await store.push_manifest(described(old), layout.read(old), "v1")
    (entry,) = index_of(layout.root)
    assert (entry["annotations"], entry["platform"]) == (named, {"os": "linux"})
    await store.push_manifest(described(new), layout.read(new), "v1")
    assert [entry.get("annotations") for entry in index_of(layout.root)] == [
        {"com.example": "kept"},
        {ref_name: "v1"},
    ]
    with pytest.raises(NotFound):
        await store.resolve("docker.io/library/app:v1")


async def test_many_writers_at_once_lose_no_tag(tmp_path: Path) -> None:
    memory = ImageBuilder(seed=5)
    image = memory.image([])
    stores = [LayoutStore(tmp_path / "copy", create=True) for _ in range(8)]
    await asyncio.gather(
        *(
            store.push_manifest(described(image), memory.read(image), f"v{at}-{turn}")
            for at, store in enumerate(stores)
            for turn in range(5)
        )
    )
    assert len(await stores[0].tags()) == 40
    assert not leftovers(tmp_path / "copy")


async def test_processes_at_once_lose_no_tag(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.store.layout import LayoutStore
data = b'{"schemaVersion":2,"manifests":[]}'
root = Descriptor("application/vnd.oci.image.index.v1+json", Digest.of(data), len(data))
async def main():
    store = LayoutStore(sys.argv[1], create=True)
    for turn in range(10):
        await store.push_manifest(root, data, f"{sys.argv[2]}-{turn}")
asyncio.run(main())
"""
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path / "copy"), f"p{at}")
        for at in range(3)
    ]
    assert [await process.wait() for process in running] == [0, 0, 0]
    assert len(await LayoutStore(tmp_path / "copy").tags()) == 30


async def test_a_lock_that_is_never_free_ends_in_an_error(
    layout: ImageBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert layout.root is not None
    monkeypatch.setattr("crossdock.store.indexfile.LOCK_TIMEOUT", 0.01)
    image = layout.image([])
    store = LayoutStore(layout.root, create=True)
    with (layout.root / "oci-layout").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process"):
            await store.push_manifest(described(image), layout.read(image), "v1")
    await store.push_manifest(described(image), layout.read(image), "v1")


async def test_a_short_upload_is_not_committed(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    descriptor = Descriptor("text/plain", Digest.of(b"data"), 4)
    session = await store.start_upload(descriptor)
    await session.append(memoryview(b"dat"))
    assert session.offset == 3
    with pytest.raises(SizeMismatch):
        await session.commit()
    assert not await store.has_blob(descriptor)
    assert not leftovers(tmp_path / "copy")


async def test_a_long_upload_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    session = await store.start_upload(Descriptor("text/plain", Digest.of(b"data"), 4))
    with pytest.raises(SizeMismatch):
        await session.append(memoryview(b"datas"))
    assert not leftovers(tmp_path / "copy")


async def test_cancelling_removes_the_temporary_file_but_nothing_after_commit(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    descriptor = Descriptor("text/plain", Digest.of(b"data"), 4)
    session = await store.start_upload(descriptor)
    await session.append(memoryview(b"data"))
    await session.cancel()
    await session.cancel()
    assert not leftovers(tmp_path / "copy")
    session = await store.start_upload(descriptor)
    await session.append(memoryview(b"data"))
    await session.commit()
    await session.cancel()
    assert await store.has_blob(descriptor)


async def test_an_upload_that_was_given_up_cannot_be_committed(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    descriptor = Descriptor("text/plain", Digest.of(b"data"), 4)
    session = await store.start_upload(descriptor)
    await session.append(memoryview(b"data"))
    await session.cancel()
    with pytest.raises(StoreError, match="given up"):
        await session.commit()
    assert not await store.has_blob(descriptor)


async def test_a_private_index_stays_private(layout: ImageBuilder) -> None:
    assert layout.root is not None
    (layout.root / "index.json").chmod(0o600)
    image = layout.image([])
    await LayoutStore(layout.root, create=True).push_manifest(described(image), layout.read(image), "v1")
    assert (layout.root / "index.json").stat().st_mode & 0o777 == 0o600


async def test_a_layout_that_another_process_is_just_making_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    store = LayoutStore(folder, create=True)
    assert await store.tags() == []
    await push_blob(store, b"data")
    assert index_of(folder) == []


async def test_an_empty_blob_is_a_blob(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    blob = await push_blob(store, b"")
    assert await store.has_blob(blob)
    assert await read(store, blob, 0, 0, Collector()) == b""


async def test_a_full_disk_is_a_store_error_with_path_and_advice_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    session = await store.start_upload(Descriptor("text/plain", Digest.of(b"data"), 4))

    def full(descriptor: int, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("crossdock.store.blobfiles.write_all", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        await session.append(memoryview(b"data"))
    assert str(tmp_path / "copy") in str(caught.value)
    assert "free space" in str(caught.value.advice)
    assert not leftovers(tmp_path / "copy")
    await session.cancel()


async def test_a_write_that_the_kernel_cuts_is_carried_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    store = LayoutStore(tmp_path / "copy", create=True)
    data = hashlib.sha256(b"x").digest() * 3
    blob = await push_blob(store, data)
    assert store.files.path(blob.digest).read_bytes() == data
    assert files_module.MAX_WRITE >= 1 << 20


async def test_temporary_files_of_dead_writers_go_and_those_of_live_ones_stay(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    live = LayoutStore(folder, create=True)
    descriptor = Descriptor("text/plain", Digest.of(b"data"), 4)
    session = await live.start_upload(descriptor)
    dead = folder / f"{TEMPORARY_PREFIX}1-dead"
    dead.write_text("half")
    await push_blob(LayoutStore(folder, create=True), b"other")
    assert not dead.exists()
    await session.append(memoryview(b"data"))
    await session.commit()
    assert await live.has_blob(descriptor)


async def test_a_damaged_blob_is_replaced(layout: ImageBuilder) -> None:
    layer = layout.random_layer(1000)
    data = layout.read(layer)
    os.truncate(layout.path(layer), 10)
    store = LayoutStore(layout.root, create=True)
    assert not await store.has_blob(described(layer))
    await push_blob(store, data)
    assert await store.has_blob(described(layer))


async def test_a_manifest_that_is_not_what_its_descriptor_says_is_refused(tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "copy", create=True)
    wrong = Descriptor(OCI_INDEX, Digest.of(b"{}"), 3)
    with pytest.raises(SizeMismatch):
        await store.push_manifest(wrong, b"{}", "v1")
    with pytest.raises(ContentError):
        await store.push_manifest(Descriptor(OCI_INDEX, Digest.of(b"{ }"), 2), b"{}", "v1")
    assert not (tmp_path / "copy").exists()


def test_a_file_or_half_a_layout_is_not_a_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        LayoutStore(tmp_path / "file", create=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "index.json").write_text("{}")
    with pytest.raises(StoreError, match="no oci-layout file"):
        LayoutStore(tmp_path / "half", create=True)


async def test_a_folder_that_may_not_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        await push_blob(LayoutStore(tmp_path / "file" / "layout", create=True), b"data")


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("create", [False, True])
def test_a_named_pipe_in_a_layout_is_refused_and_never_waited_for(
    tmp_path: Path, name: str, create: bool
) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(StoreError, match=r"not a regular file|not an OCI image layout"):
        LayoutStore(tmp_path, create=create).index.entries()


def _names(**names: str) -> dict[str, Any]:
    keys = {"tag": "org.opencontainers.image.ref.name", "image": "io.containerd.image.name"}
    return {"annotations": {keys[key]: name for key, name in names.items()}}


async def test_every_name_that_is_listed_can_be_chosen(layout: ImageBuilder) -> None:
    assert layout.root is not None
    images = [layout.image([], annotations={"n": str(at)}) for at in range(6)]
    inner = layout.index([images[3].having(**_names(tag="nested")), images[4]])
    outer = layout.index([inner, images[5].having(**_names(image="docker.io/team/deep:1"))])
    entries = [
        images[0].having(**_names(tag="v1", image="docker.io/library/app:v1")).document(),
        images[1].having(**_names(tag="v1", image="docker.io/library/other:v1")).document(),
        images[2].having(**_names(image="docker.io/library/third:v3")).document(),
        images[2].having(**_names(tag="same", image="docker.io/library/third:same")).document(),
        outer.document(),
    ]
    write_index(layout.root, entries)
    store = LayoutStore(layout.root)
    expected = {
        "docker.io/library/app:v1": images[0],
        "docker.io/library/other:v1": images[1],
        "docker.io/library/third:v3": images[2],
        "docker.io/team/deep:1": images[5],
        "nested": images[3],
        "same": images[2],
    }
    assert await store.tags() == sorted(expected)
    for name, image in expected.items():
        assert (await store.resolve(name)).digest == image.digest
    rows = await store.list_manifests()
    assert rows is not None
    assert {tag: row.digest for row in rows for tag in row.tags} == {
        name: image.digest for name, image in expected.items()
    }
    with pytest.raises(ContentError, match="means several manifests"):
        await store.resolve("v1")
    with pytest.raises(NotFound, match="nested, same"):
        await store.resolve("none")


async def test_an_index_in_itself_or_missing_does_not_hold_up_a_list(layout: ImageBuilder) -> None:
    assert layout.root is not None
    image = layout.image([])
    index = layout.index([image])
    lost = layout.index([image.having(**_names(tag="lost"))])
    layout.path(lost).unlink()
    write_index(layout.root, [index.document(), index.document(), lost.document()])
    assert await LayoutStore(layout.root).tags() == []
