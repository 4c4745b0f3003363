"""A layout that others may write in: links in it, files that are swapped, an index that grows without end."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.errors import ContentError, LimitExceeded, NotFound, StoreError
from crossdock.imagebuilder import ImageBuilder
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.mediatype import OCI_CONFIG, OCI_MANIFEST, TYPE_LIMIT
from crossdock.oci.platform import Platform
from crossdock.store import folder, indexfile
from crossdock.store.blobfiles import BlobFiles, BlobWriter, remove_stale
from crossdock.store.files import read_file
from crossdock.store.folder import Folder
from crossdock.store.indexfile import IndexFile, set_tag
from crossdock.store.layout import LayoutStore

SECRET = b"secret of the machine"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the layout, with a file that must not be read."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_bytes(SECRET)
    return place


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder."""
    place = tmp_path / "home"
    place.mkdir()
    return place


def text_of(place: Folder, *parts: str) -> bytes:
    descriptor = place.open(*parts)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


# -- links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda home, out: (home / "a").symlink_to(out), id="absolute folder"),
        pytest.param(lambda home, out: (home / "a").symlink_to("../outside"), id="relative folder"),
        pytest.param(
            lambda home, out: ((home / "a").mkdir(), (home / "a" / "secret").symlink_to(out / "secret")),
            id="absolute file",
        ),
        pytest.param(
            lambda home, out: (
                (home / "a").mkdir(),
                (home / "a" / "secret").symlink_to("../../outside/secret"),
            ),
            id="relative file",
        ),
        pytest.param(
            lambda home, out: (
                (home / "inner").symlink_to(".."),
                (home / "a").symlink_to("inner/outside"),
            ),
            id="through another link",
        ),
        pytest.param(
            lambda home, out: (home / "a").symlink_to(f"{home}/../outside"),
            id="absolute by the folder's name",
        ),
    ],
)
def test_nothing_outside_is_reached_by_a_link(
    home: Path, outside: Path, make: Callable[[Path, Path], object]
) -> None:
    make(home, outside)
    place = Folder(home)
    for look in (place.open, place.stat):
        with pytest.raises(StoreError, match="leads out") as caught:
            look("a", "secret")
        assert caught.value.errno == errno.EXDEV
        assert str(outside) not in str(caught.value)


@pytest.mark.parametrize("target", ["real/file", "{home}/real/file", "./real/../real//file", "chain"])
def test_links_that_stay_inside_are_followed(home: Path, target: str) -> None:
    (home / "real").mkdir()
    (home / "real" / "file").write_bytes(b"inside")
    (home / "chain").symlink_to("folder/file")
    (home / "folder").symlink_to("real")
    (home / "link").symlink_to(target.format(home=home))
    assert text_of(Folder(home), "link") == b"inside"
    assert Folder(home).stat("link").st_size == 6


def test_links_in_a_circle_are_an_error(home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        Folder(home).open("a")


def test_the_folders_own_path_may_be_a_link(home: Path, tmp_path: Path) -> None:
    (home / "file").write_bytes(b"inside")
    (tmp_path / "way").symlink_to(home)
    (home / "absolute").symlink_to(tmp_path / "way" / "file")
    assert text_of(Folder(tmp_path / "way"), "file") == b"inside"
    assert text_of(Folder(tmp_path / "way"), "absolute") == b"inside"


def test_a_folder_below_is_confined_to_itself(home: Path) -> None:
    for name in ("one", "two"):
        (home / name).mkdir()
        (home / name / "file").write_bytes(name.encode())
    (home / "one" / "link").symlink_to("../two/file")
    (home / "three").symlink_to("one")
    below = Folder(home).below("one")
    with pytest.raises(StoreError, match="leads out"):
        below.open("link")
    assert text_of(Folder(home), "one", "link") == b"two"
    assert text_of(Folder(home).below("three"), "file") == b"one"


def test_a_name_that_becomes_a_link_between_two_looks_leads_nowhere(
    home: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the folder on the way is replaced after it was opened, the file before it is."""
    (home / "a").mkdir()
    (home / "a" / "secret").write_bytes(b"inside")
    real = folder._open_folder

    def swapped(name: str, at: int) -> int:
        opened = real(name, at)
        (home / "a").rename(home / "old")
        (home / "a").symlink_to(outside)
        return opened

    monkeypatch.setattr(folder, "_open_folder", swapped)
    assert text_of(Folder(home), "a", "secret") == b"inside"


def test_a_file_that_others_swap_for_a_link_all_the_time_is_never_the_outer_one(
    home: Path, outside: Path
) -> None:
    files, digest = BlobFiles(home), Digest.of(b"inside")
    place = files.path(digest)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"inside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (home / "link").symlink_to(outside / "secret")
            (home / "link").replace(place)
            (home / "file").write_bytes(b"inside")
            (home / "file").replace(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    read: Counter[bytes] = Counter()
    try:
        for _ in range(2000):
            try:
                read[files.read(digest, 100)] += 1
            except (StoreError, NotFound):
                read[b"refused"] += 1
    finally:
        over.set()
        swapping.join()
    assert SECRET not in read


def test_a_folder_that_is_replaced_is_found_again(home: Path, outside: Path) -> None:
    place = Folder(home)
    for n in range(3):
        (home / "a").mkdir()
        (home / "a" / "secret").write_bytes(b"%d" % n)
        assert text_of(place, "a", "secret") == b"%d" % n
        (home / "a").rename(home / f"old{n}")
    (home / "a").symlink_to(outside)
    with pytest.raises(StoreError, match="leads out"):
        place.open("a", "secret")
    (home / "a").unlink()
    (home / "a").symlink_to("old1")
    assert text_of(place, "a", "secret") == b"1"


@pytest.mark.parametrize("most", [0, 2])
def test_few_folders_stay_open(home: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(folder, "MOST_KEPT", most)
    for n in range(10):
        (home / f"{n}").mkdir()
        (home / f"{n}" / "file").write_bytes(b"%d" % n)
        assert text_of(Folder(home).below(f"{n}"), "file") == b"%d" % n
    assert len(folder._kept) <= most


def test_writing_and_removing_go_nowhere_else(home: Path, outside: Path) -> None:
    (home / "blobs").symlink_to(outside)
    files, digest = BlobFiles(home), Digest.of(b"data")
    writer = files.writer()
    writer.write(memoryview(b"data"))
    with pytest.raises(StoreError, match="leads out"):
        writer.commit(files, digest)
    with pytest.raises(StoreError, match="leads out"):
        files.remove(digest)
    assert [each.name for each in outside.iterdir()] == ["secret"]
    assert [each.name for each in home.iterdir()] == ["blobs"]


def test_a_blob_that_is_a_link_is_not_shared_by_a_mount(home: Path, outside: Path, tmp_path: Path) -> None:
    digest = Digest.of(SECRET)
    (home / "blobs" / "sha256").mkdir(parents=True)
    (home / "blobs" / "sha256" / digest.encoded).symlink_to(outside / "secret")
    target = BlobFiles(tmp_path / "target")
    assert not target.adopt(BlobFiles(home), digest)
    assert target.size(digest) is None


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_the_files_of_a_layout_are_not_read_through_a_link_that_leads_out(
    home: Path, outside: Path, name: str
) -> None:
    IndexFile(home).create()
    (home / name).rename(outside / name)
    (home / name).symlink_to(outside / name)
    assert not IndexFile(home).exists()
    before = (outside / name).read_bytes()
    for use in (IndexFile(home).entries, lambda: IndexFile(home).update(lambda entries: entries.clear())):
        with pytest.raises(StoreError, match="leads out"):
            use()
    with pytest.raises(StoreError, match="leads out"):
        LayoutStore(home, create=True)
    assert (home / name).is_symlink()
    assert (outside / name).read_bytes() == before


async def test_a_layout_reached_through_a_link_is_used_as_ever(home: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(home)
    builder = ImageBuilder(seed=3)
    image = builder.image([])
    store = LayoutStore(tmp_path / "way", create=True)
    descriptor = Descriptor(image.media_type, Digest(image.digest), image.size)
    await store.push_manifest(descriptor, builder.read(image), "v1")
    assert (await LayoutStore(home).resolve("v1")).digest == image.digest
    assert (await LayoutStore(tmp_path / "way").resolve("v1")).digest == image.digest


def test_files_of_a_dead_writer_are_removed_in_the_folder_alone(home: Path, outside: Path) -> None:
    for place in (home, outside):
        (place / ".crossdock-upload-1-x").write_bytes(b"left")
    (home / ".crossdock-upload-2-x").symlink_to(outside / "secret")
    assert remove_stale(Folder(home)) == 1
    assert (outside / ".crossdock-upload-1-x").exists()
    assert (outside / "secret").read_bytes() == SECRET


def test_pipes_and_devices_are_not_content(home: Path) -> None:
    digest = Digest.of(b"x")
    (home / "blobs" / "sha256").mkdir(parents=True)
    os.mkfifo(home / "blobs" / "sha256" / digest.encoded)
    with pytest.raises(NotFound):
        BlobFiles(home).open(digest)
    os.mkfifo(home / "index.json")
    with pytest.raises(StoreError, match="not a regular file"):
        read_file(Folder(home), "index.json", 10)


def test_a_writer_needs_its_folder(home: Path) -> None:
    with pytest.raises(StoreError, match="cannot write in"):
        BlobWriter(Folder(home / "missing"))


# -- index.json ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {"auths": {"registry.example": {"auth": "c2VjcmV0"}}},
        {"schemaVersion": 2, "config": {}, "layers": []},
        {"credHelpers": {}, "annotations": {}},
    ],
    ids=["docker config", "manifest", "unknown member"],
)
def test_a_file_that_is_not_an_index_is_neither_used_nor_rewritten(
    home: Path, document: dict[str, object]
) -> None:
    IndexFile(home).create()
    (home / "index.json").write_text(json.dumps(document))
    entry = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1}
    with pytest.raises(ContentError, match="is not an index"):
        IndexFile(home).update(lambda entries: set_tag(entries, entry, "v1"))
    assert json.loads((home / "index.json").read_text()) == document


@pytest.mark.parametrize(
    "document", [{}, {"schemaVersion": 2}, {"schemaVersion": 2, "manifests": None, "extra": 1}]
)
def test_an_index_without_entries_is_one(home: Path, document: dict[str, object]) -> None:
    IndexFile(home).create()
    (home / "index.json").write_text(json.dumps(document))
    assert IndexFile(home).entries() == []


def test_an_update_never_writes_what_could_not_be_read_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexfile, "INDEX_LIMIT", 1000)
    index = IndexFile(home)
    index.create()
    entry = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"x")), "size": 1}
    index.update(lambda entries: set_tag(entries, entry, "v1"))
    before = (home / "index.json").read_bytes()
    with pytest.raises(StoreError, match="over the limit of 1000") as caught:
        index.update(lambda entries: set_tag(entries, {**entry, "x": "y" * 1000}, "v2"))
    assert caught.value.errno == errno.EFBIG
    assert (home / "index.json").read_bytes() == before
    assert IndexFile(home).entries()[0]["digest"] == Digest.of(b"x")
    index.update(lambda entries: entries.clear())
    assert IndexFile(home).entries() == []


async def test_a_long_artifact_type_does_not_get_into_the_index(home: Path) -> None:
    config = {"mediaType": OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
    for tag, length in (("short", TYPE_LIMIT), ("long", TYPE_LIMIT + 1)):
        document = {"schemaVersion": 2, "artifactType": "x" * length, "config": config, "layers": []}
        data = json.dumps(document).encode()
        descriptor = Descriptor(OCI_MANIFEST, Digest.of(data), len(data))
        await LayoutStore(home, create=True).push_manifest(descriptor, data, tag)
    short, long = IndexFile(home).entries()
    assert short["artifactType"] == "x" * TYPE_LIMIT
    assert "artifactType" not in long


async def test_a_long_platform_does_not_get_into_the_index(home: Path) -> None:
    config = {"mediaType": OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
    for tag, version in (("short", "10.0"), ("long", "1" * (1 << 20))):
        document = {"schemaVersion": 2, "config": config, "layers": [], "annotations": {"n": tag}}
        data = json.dumps(document).encode()
        platform = Platform("windows", "amd64", os_version=version)
        descriptor = Descriptor(OCI_MANIFEST, Digest.of(data), len(data), platform=platform)
        await LayoutStore(home, create=True).push_manifest(descriptor, data, tag)
    short, long = IndexFile(home).entries()
    assert short["platform"]["os.version"] == "10.0"
    assert "platform" not in long


@pytest.mark.parametrize("member", ["mediaType", "artifactType"])
def test_types_of_descriptors_have_a_length(member: str) -> None:
    for length, is_taken in ((TYPE_LIMIT, True), (TYPE_LIMIT + 1, False)):
        child = {"mediaType": "a/b", "digest": str(Digest.of(b"x")), "size": 1} | {member: "x" * length}
        data = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
        if is_taken:
            parse_manifest(data)
        else:
            with pytest.raises(ContentError, match=r"1025 characters, over the limit of 1024"):
                parse_manifest(data)


def test_an_index_that_is_too_large_already_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    IndexFile(home).create()
    monkeypatch.setattr(indexfile, "INDEX_LIMIT", 10)
    with pytest.raises(LimitExceeded):
        IndexFile(home).entries()
