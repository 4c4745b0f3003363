"""Archives as sources: found by position, whatever wrote them, and errors for hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from crossdock import CopyError, copy, inspect, list_tags
from crossdock.errors import LimitExceeded, StoreError
from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from crossdock.store import tarbytes
from crossdock.store.tarbytes import GzipBytes, open_bytes
from crossdock.store.tarindex import TarIndex
from support.images import assert_layout_holds, layout_entries, walk

Pack = Callable[[Path, Path], Path]


def pack(layout: Path, file: Path) -> Path:
    """A layout as ``tar -C layout .`` packs it."""
    with tarfile.open(file, "w") as tar:
        tar.add(layout, ".")
    return file


def pack_gzip(layout: Path, file: Path) -> Path:
    file.write_bytes(gzip.compress(pack(layout, file).read_bytes(), 1))
    return file


def pack_two_gzip_members(layout: Path, file: Path) -> Path:
    data = pack(layout, file).read_bytes()
    file.write_bytes(gzip.compress(data[:70_001]) + gzip.compress(data[70_001:]) + bytes(100))
    return file


def members(file: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(file, "w") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def file(name: str, data: bytes | object) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data if isinstance(data, bytes) else json.dumps(data).encode()


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, ImageBuilder, Content]:
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    index = sample_index(builder, layer_size=3_000_000)
    builder.tag(index, "v1")
    return tmp_path / "layout", builder, index


@pytest.mark.parametrize("packed", [pack, pack_gzip, pack_two_gzip_members])
async def test_an_oci_archive_is_copied_byte_exact(
    layout: tuple[Path, ImageBuilder, Content], packed: Pack, tmp_path: Path
) -> None:
    folder, builder, index = layout
    archive = packed(folder, tmp_path / "image.tar")
    result = await copy(f"oci-archive:{archive}:v1", f"oci:{tmp_path / 'copy'}:v1")
    assert result.digest == index.digest
    assert result.blobs_moved > 0
    assert_layout_holds(tmp_path / "copy", walk(builder.read, index.digest), "v1")
    assert await list_tags(f"oci-archive:{archive}") == ["v1"]
    assert (await inspect(f"oci-archive:{archive}")).digest == index.digest
    assert (await inspect(f"oci-archive:{archive}@{index.digest}")).media_type == index.media_type


def test_a_gzip_file_is_read_at_any_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarbytes, "FIRST_SPACING", 10_000)
    monkeypatch.setattr(tarbytes, "MOST_STATES", 8)
    monkeypatch.setattr(tarbytes, "PIECE", 3_000)
    data = b"".join(hashlib.sha256(bytes([at % 251, at // 251])).digest() for at in range(20_000))
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(data[:300_000]) + gzip.compress(data[300_000:]))
    found = open_bytes(str(path))
    assert isinstance(found, GzipBytes)
    assert found.pread(1, len(data) - 1) == data[-1:]
    for at in (500_000, 10, 299_990, 300_000, 639_000, 0):
        assert found.pread(5_000, at) == data[at : at + 5_000]
        piece = found.cursor(at).read(100)
        assert piece
        assert piece == data[at : at + len(piece)]
    assert found.pread(10, len(data) + 5) == b""
    assert 1 <= len(found._states) <= 8
    found.close()


def docker_archive(target: Path, *names: str | None, gzipped: bool = False) -> tuple[list[bytes], Path]:
    """An archive of docker before 25: each image has one own layer and one that all share, by a link."""
    shared = b"shared" * 1000
    entries, images, layers = [], [], [shared]
    for at, name in enumerate(names):
        layer = f"layer {at}".encode() * 500
        layers.append(layer)
        ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in (shared, layer)]
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": ids}}).encode()
        hexed = hashlib.sha256(config).hexdigest()
        stored = gzip.compress(layer, mtime=0) if gzipped else layer
        entries += [file(f"{hexed}.json", config), file(f"{at}/layer.tar", stored)]
        entries.append(
            file("shared/layer.tar", shared) if at == 0 else link(f"s{at}/layer.tar", "../shared/layer.tar")
        )
        paths = ["shared/layer.tar" if at == 0 else f"s{at}/layer.tar", f"{at}/layer.tar"]
        images.append({"Config": f"{hexed}.json", "RepoTags": name and [name], "Layers": paths})
    entries.append(file("manifest.json", images))
    return layers, members(target, entries)


async def test_images_of_docker_are_chosen_by_name_and_position(tmp_path: Path) -> None:
    layers, archive = docker_archive(tmp_path / "d.tar", "docker.io/library/app:1", "team/b:2", None)
    assert await list_tags(f"docker-archive:{archive}") == ["docker.io/library/app:1", "team/b:2", "@2"]
    digests = {
        name: (await inspect(f"docker-archive:{archive}:{name}")).digest
        for name in ("app:1", "team/b:2", "@0", "@1", "@2")
    }
    assert digests["app:1"] == digests["@0"]
    assert digests["team/b:2"] == digests["@1"]
    assert len(set(digests.values())) == 3
    result = await copy(f"docker-archive:{archive}:@2", f"oci:{tmp_path / 'copy'}:v1")
    assert result.blobs_moved == 3
    for layer in (layers[0], layers[3]):
        path = tmp_path / "copy" / "blobs" / "sha256" / hashlib.sha256(layer).hexdigest()
        assert path.read_bytes() == layer


async def test_a_gzip_layer_of_docker_keeps_its_bytes(tmp_path: Path) -> None:
    layers, archive = docker_archive(tmp_path / "d.tar", "app:1", gzipped=True)
    await copy(f"docker-archive:{archive}", f"oci:{tmp_path / 'copy'}:v1")
    packed = gzip.compress(layers[1], mtime=0)
    digest = hashlib.sha256(packed).hexdigest()
    assert (tmp_path / "copy" / "blobs" / "sha256" / digest).read_bytes() == packed
    entry = layout_entries(tmp_path / "copy")[0]["digest"].replace(":", "/")
    manifest = json.loads((tmp_path / "copy" / "blobs" / entry).read_bytes())
    assert [each["mediaType"].rpartition(".")[2] for each in manifest["layers"]] == ["tar", "tar+gzip"]


async def test_an_archive_of_docker_with_a_layout_keeps_its_manifest(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    image = builder.image([builder.tar_layer({"a": b"a"})])
    builder.tag(image, "1")
    config = json.loads(builder.read(image))["config"]["digest"].replace(":", "/")
    listed = [{"Config": f"blobs/{config}", "RepoTags": ["app:1"], "Layers": []}]
    (tmp_path / "layout" / "manifest.json").write_text(json.dumps(listed))
    archive = pack(tmp_path / "layout", tmp_path / "d.tar")
    assert (await inspect(f"docker-archive:{archive}:app:1")).digest == image.digest


@pytest.mark.parametrize("name", ["", ":other"])
async def test_images_are_listed_when_none_is_chosen(tmp_path: Path, name: str) -> None:
    _, archive = docker_archive(tmp_path / "d.tar", "app:1", "team/b:2", None)
    with pytest.raises(CopyError, match="its images are @0 app:1, @1 team/b:2, @2 without a name"):
        await copy(f"docker-archive:{archive}{name}", f"oci:{tmp_path / 'copy'}:v1")
    assert not (tmp_path / "copy").exists()


def layout_members() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [file("oci-layout", {"imageLayoutVersion": "1.0.0"}), file("index.json", {"manifests": []})]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (file("../out", b"x"), "'../out' leads out of the archive"),
        (file("/etc/passwd", b"x"), "'/etc/passwd' leads out of the archive"),
        (file("a/../../b", b"x"), "leads out of the archive"),
        (link("blobs/sha256/ab", "../../../etc/passwd"), "leads out of the archive"),
        (link("blobs/sha256/ab", "/etc/passwd"), "'/etc/passwd' leads out of the archive"),
        (link("hard", "../x", tarfile.LNKTYPE), "leads out of the archive"),
    ],
)
async def test_paths_and_links_that_lead_out_are_refused(
    tmp_path: Path, entry: tuple[tarfile.TarInfo, bytes], words: str
) -> None:
    archive = members(tmp_path / "bad.tar", [*layout_members(), entry])
    with pytest.raises(CopyError, match=words):
        await copy(f"oci-archive:{archive}", f"oci:{tmp_path / 'copy'}:v1")
    assert not (tmp_path / "copy").exists()


async def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    archive = members(
        tmp_path / "bad.tar", [link("oci-layout", "index.json"), link("index.json", "oci-layout")]
    )
    with pytest.raises(CopyError, match="in a circle"):
        await inspect(f"oci-archive:{archive}")


@pytest.mark.parametrize("packed", [pack, pack_gzip])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.97])
async def test_a_cut_archive_is_an_error_and_no_tag(
    layout: tuple[Path, ImageBuilder, Content], packed: Pack, share: float, tmp_path: Path
) -> None:
    archive = packed(layout[0], tmp_path / "image.tar")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CopyError, match=r"is cut|ends early|probably cut|was cut"):
        await copy(f"oci-archive:{archive}:v1", f"oci:{tmp_path / 'copy'}:v1")
    assert not (tmp_path / "copy").exists()


async def test_a_wrong_byte_is_an_error_and_no_tag(
    layout: tuple[Path, ImageBuilder, Content], tmp_path: Path
) -> None:
    archive = pack(layout[0], tmp_path / "image.tar")
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        largest = max(tar.getmembers(), key=lambda each: each.size)
    data[largest.offset_data + 1000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(CopyError, match="digest"):
        await copy(f"oci-archive:{archive}:v1", f"oci:{tmp_path / 'copy'}:v1")
    assert "annotations" not in json.dumps(layout_entries(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no oci-layout file"),
        (b"hello" * 200, "is not a tar file"),
        (b"x", "was cut at byte 1"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd"),
        (gzip.compress(b"hello" * 200, mtime=0), "is not a tar file"),
        (gzip.compress(tarfile.TarInfo("x").tobuf(), mtime=0)[:-7] + b"oh wait", "gzip data is wrong"),
    ],
)
async def test_a_file_that_is_no_archive_is_reported(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CopyError, match=words):
        await inspect(f"oci-archive:{tmp_path / 'x'}")


async def test_the_other_kind_of_archive_is_named(
    layout: tuple[Path, ImageBuilder, Content], tmp_path: Path
) -> None:
    archive = pack(layout[0], tmp_path / "image.tar")
    with pytest.raises(CopyError, match=r"no manifest\.json") as caught:
        await inspect(f"docker-archive:{archive}")
    assert f"oci-archive:{archive}" in str(caught.value.advice)
    _, archive = docker_archive(tmp_path / "d.tar", "app:1")
    with pytest.raises(CopyError, match="no oci-layout") as caught:
        await inspect(f"oci-archive:{archive}")
    assert f"docker-archive:{archive}" in str(caught.value.advice)


def test_long_names_sizes_and_links_are_understood(tmp_path: Path) -> None:
    long = "d/" * 120 + "name"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{kind}.tar"
        with tarfile.open(path, "w", format=kind) as tar:
            for info, data in (file(long, b"abc"), link("short", long)):
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        index = TarIndex(open_bytes(str(path)))
        assert index.read(long, 10) == index.read("short", 10) == b"abc"
        assert index.has_end


def test_a_device_is_no_archive() -> None:
    with pytest.raises(StoreError, match="/dev/zero is a device"):
        open_bytes("/dev/zero")


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    (tmp_path / "x.tar").write_bytes(info.tobuf())
    with pytest.raises(LimitExceeded, match=r"a header in .* has 4294967296 bytes"):
        TarIndex(open_bytes(str(tmp_path / "x.tar")))
