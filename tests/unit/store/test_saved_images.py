"""Archives in the shapes of docker and podman: every image by every name, plain and gzip."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from crossdock import CopyError, Session, copy, list_tags
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.runs.fromarchive import FromArchive
from support.images import layout_tags
from support.savedimages import IMAGES, SHAPES, Saved, hex_of

GZIPPED = ("docker 24", "docker 25")


@pytest.fixture(
    params=[*((shape, False) for shape in SHAPES), *((shape, True) for shape in GZIPPED)], ids=str
)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The reference to an archive without a name, and its file."""
    shape, packed = request.param
    kind, write = SHAPES[shape]
    path = write(tmp_path / "saved.tar")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return f"{kind}:{path}", path


def image_in(layout: Path, digest: str) -> tuple[bytes, list[bytes]]:
    """The config of a copied image, and its layers, unpacked."""

    def read(name: str) -> bytes:
        return (layout / "blobs" / name.replace(":", "/")).read_bytes()

    document: dict[str, Any] = json.loads(read(digest))
    while "manifests" in document:
        document = json.loads(read(document["manifests"][0]["digest"]))
    layers = [read(each["digest"]) for each in document["layers"]]
    plain = [gzip.decompress(each) if each.startswith(b"\x1f\x8b") else each for each in layers]
    return read(document["config"]["digest"]), plain


def assert_is(layout: Path, digest: str, image: Saved) -> None:
    assert image_in(layout, digest) == (image.config, list(image.layers))


async def test_every_image_is_found_by_every_name(saved: tuple[str, Path], tmp_path: Path) -> None:
    archive, _ = saved
    layout = tmp_path / "layout"
    for image in IMAGES:
        for name in image.names:
            shown = name if archive.startswith("docker") or "/" in name else f"docker.io/library/{name}"
            assert_is(layout, (await copy(f"{archive}:{shown}", f"oci:{layout}")).digest, image)
    if archive.startswith("docker"):
        for at, image in enumerate(IMAGES):
            assert_is(layout, (await copy(f"{archive}:@{at}", f"oci:{layout}")).digest, image)
        with pytest.raises(CopyError, match="no image @2"):
            await copy(f"{archive}:@2", f"oci:{layout}")


async def test_names_are_listed_and_one_has_to_be_chosen(saved: tuple[str, Path], tmp_path: Path) -> None:
    archive, _ = saved
    names = [name for image in IMAGES for name in image.names]
    tags = await list_tags(archive)
    assert [tag.removeprefix("docker.io/library/") for tag in tags] == names
    with pytest.raises(CopyError, match="none was named") as caught:
        await copy(archive, f"oci:{tmp_path / 'layout'}")
    assert all(tag in str(caught.value) for tag in tags)


async def test_all_images_are_brought_by_their_names(saved: tuple[str, Path], tmp_path: Path) -> None:
    layout = tmp_path / "layout"

    def place(name: Reference) -> Any:  # a layout in place of a registry, for speed
        return LayoutReference(str(layout), f"{name.repository}:{name.tag}")

    work = FromArchive(str(saved[1]), place)
    async with Session() as session:
        result = await session.start(work)
    assert {each.status for each in result.copies} == {"copied"}
    assert layout_tags(layout) == ["library/app:1", "library/app:latest", "tools/cli:2"]
    digests = {each.target.rpartition("/")[2]: each.result for each in result.copies}
    for image, name in zip(IMAGES, ("app:1", "cli:2"), strict=True):
        found = digests[name]
        assert found is not None
        assert_is(layout, found.digest, image)
        assert hex_of(image_in(layout, found.digest)[0]) == hex_of(image.config)
