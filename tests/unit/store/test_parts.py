"""Archives in parts: what is written, and which part is named when one is lost or damaged."""

from __future__ import annotations

import hashlib
import io
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock import CopyError, Session, copy, list_tags
from crossdock.errors import ContentError, CrossdockError, StoreError
from crossdock.imagebuilder import ImageBuilder
from crossdock.store.archivetarget import ArchiveTarget
from crossdock.store.outputs import Files
from crossdock.store.parts import PartsBytes, part_path
from crossdock.store.tarbytes import open_bytes
from crossdock.store.tarindex import TarIndex
from crossdock.store.tarwriter import TarWriter

SIZE = 64 << 10
CONTENT = {"first": 1_000, "large": 200_001, "empty": 0, "last": SIZE}


def data_of(name: str) -> bytes:
    return random.Random(name).randbytes(CONTENT[name])


def write(folder: Path, part_size: int = SIZE) -> list[Path]:
    """An archive in parts; its files."""
    writer = TarWriter(str(folder / "x.tar"), part_size)
    for name in CONTENT:
        writer.add(name, data_of(name))
    writer.finish()
    assert [hashlib.sha256(each.path.read_bytes()).hexdigest() for each in writer.written] == [
        each.sha256 for each in writer.written
    ]
    return [each.path for each in writer.written]


def opened(path: Path) -> PartsBytes:
    data = open_bytes(str(path))
    assert isinstance(data, PartsBytes)
    return data


def test_parts_are_the_archive_cut(tmp_path: Path) -> None:
    parts = write(tmp_path)
    assert parts == [part_path(tmp_path / "x.tar", number) for number in range(1, len(parts) + 1)]
    assert sorted(tmp_path.iterdir()) == parts
    assert {part.stat().st_size for part in parts[:-2]} == {SIZE}
    assert all(part.stat().st_size <= SIZE for part in parts)
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as tar:
        for name in CONTENT:
            found = tar.extractfile(name)
            assert found is not None
            assert found.read() == data_of(name)


@pytest.mark.parametrize("given", ["x.tar", "x.tar.001"])
def test_parts_are_read_as_one_file(tmp_path: Path, given: str) -> None:
    write(tmp_path)
    data = opened(tmp_path / given)
    data.check()
    index = TarIndex(data)
    for name in CONTENT:
        assert index.read(name, 1 << 20) == data_of(name)
    assert data.pread(10, data.end() + 5) == b""
    data.close()


def test_a_member_that_is_taken_back_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "again").mkdir()
    plain = write(tmp_path / "plain")
    writer = TarWriter(str(tmp_path / "again" / "x.tar"), SIZE)
    for name in CONTENT:
        writer.begin("broken", 300_000)
        writer.write(memoryview(bytes(290_000)))
        writer.take_back()
        writer.add(name, data_of(name))
    writer.finish()
    assert [each.path.read_bytes() for each in writer.written] == [part.read_bytes() for part in plain]
    assert len(list((tmp_path / "again").iterdir())) == len(plain)


Spoil = Callable[[Path, bytes], object]
SPOILT: dict[str, Spoil] = {
    "a byte": lambda path, data: path.write_bytes(data[:700] + bytes([data[700] ^ 1]) + data[701:]),
    "the first byte": lambda path, data: path.write_bytes(bytes([data[0] ^ 1]) + data[1:]),
    "the last byte": lambda path, data: path.write_bytes(data[:-1] + bytes([data[-1] ^ 1])),
    "cut": lambda path, data: path.write_bytes(data[:-1]),
    "cut by a block": lambda path, data: path.write_bytes(data[:-512]),
    "longer": lambda path, data: path.write_bytes(data + bytes(512)),
    "empty": lambda path, data: path.write_bytes(b""),
    "lost": lambda path, data: path.unlink(),
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("at", [0, 1, -2, -1])
def test_the_part_that_is_lost_or_damaged_is_named(tmp_path: Path, what: str, at: int) -> None:
    part = write(tmp_path)[at]
    SPOILT[what](part, part.read_bytes())
    with pytest.raises(ContentError, match=re.escape(str(part))):
        opened(tmp_path / "x.tar").check()


def test_parts_in_the_wrong_order_and_of_another_archive_are_named(tmp_path: Path) -> None:
    parts = write(tmp_path)
    first, second = parts[1].read_bytes(), parts[2].read_bytes()
    parts[1].write_bytes(second)
    parts[2].write_bytes(first)
    data = opened(tmp_path / "x.tar")
    for number in (1, 2):
        with pytest.raises(ContentError, match=re.escape(str(parts[number]))):
            data.check_part(number)
    data.close()
    parts[1].write_bytes(first)
    parts[2].write_bytes(second)
    part_path(tmp_path / "x.tar", len(parts) + 1).write_bytes(parts[-1].read_bytes())
    with pytest.raises(ContentError, match=r"x\.tar\.00[0-9] is not one of the"):
        opened(tmp_path / "x.tar")


def test_fewer_parts_replace_more(tmp_path: Path) -> None:
    write(tmp_path)
    parts = write(tmp_path, 256 << 10)
    assert sorted(tmp_path.iterdir()) == parts
    opened(tmp_path / "x.tar").check()


def test_a_whole_archive_of_the_name_would_be_read_instead(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"what was there")
    with pytest.raises(StoreError, match="instead of its parts"):
        TarWriter(str(tmp_path / "x.tar"), SIZE)


def test_there_are_no_more_parts_than_their_list_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock.store.outputs.MOST_PARTS", 3)
    writer = TarWriter(str(tmp_path / "x.tar"), SIZE)
    with pytest.raises(StoreError, match="more than 3 parts"):
        writer.add("large", bytes(4 * SIZE))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_cannot_be_put_in_its_place_leaves_all_that_was_there(tmp_path: Path) -> None:
    old = write(tmp_path)
    before = [part.read_bytes() for part in old[:2]]
    old[2].unlink()
    old[2].mkdir()
    output = Files(tmp_path / "x.tar", SIZE)
    output.open()
    output.put(memoryview(bytes(4 * SIZE)))
    with pytest.raises(StoreError, match="no file"):
        output.finish()
    output.discard()
    assert [part.read_bytes() for part in old[:2]] == before
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


async def test_a_damaged_part_is_named_by_a_copy_of_one_image(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    layers = [builder.random_layer(300_000), builder.random_layer(200_000)]
    builder.tag(builder.image(layers), "v1")
    target = ArchiveTarget(str(tmp_path / "x.tar"), SIZE)
    async with Session() as session:
        await session.copy(f"oci:{builder.root}:v1", target, target_name="v1")
    await target.finish()
    parts = [each.path for each in target.written]
    assert await list_tags(f"oci-archive:{tmp_path / 'x.tar'}") == ["v1"]
    SPOILT["a byte"](parts[2], parts[2].read_bytes())
    with pytest.raises(CopyError, match=re.escape(str(parts[2]))):
        await copy(f"oci-archive:{tmp_path / 'x.tar'}", f"oci:{tmp_path / 'copy'}:v1")


async def test_an_image_in_parts_is_copied_and_a_damaged_blob_is_no_tag(tmp_path: Path) -> None:
    builder = ImageBuilder(tmp_path / "layout", seed=7)
    image = builder.image([builder.random_layer(3_000_000)])
    builder.tag(image, "v1")
    whole = tmp_path / "whole.tar"
    await copy(f"oci:{builder.root}:v1", f"oci-archive:{whole}:v1")
    data = whole.read_bytes()
    for number, at in enumerate(range(0, len(data), 1_000_448), 1):  # as split(1) cuts it, without a list
        part_path(tmp_path / "cut.tar", number).write_bytes(data[at : at + 1_000_448])
    archive = f"oci-archive:{tmp_path / 'cut.tar'}"
    assert await list_tags(archive) == ["v1"]
    assert (await copy(archive, f"oci:{tmp_path / 'copy'}:v1")).digest == image.digest
    part_path(tmp_path / "cut.tar", 4).unlink()
    with pytest.raises(CopyError, match=r"cut\.tar\.004 is missing"):
        await copy(archive, f"oci:{tmp_path / 'none'}:v1")
    part_path(tmp_path / "cut.tar", 2).unlink()
    with pytest.raises(CrossdockError, match=r"cut\.tar\.002 is missing"):
        await list_tags(archive)
    assert not (tmp_path / "none").exists()
