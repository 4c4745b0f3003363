"""Referrers of a manifest in a layout, and the meaning of a layout without a tag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossdock.errors import ContentError
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.oci.digest import Digest
from crossdock.store.layout import LayoutStore


@pytest.fixture
def builder(tmp_path: Path) -> ImageBuilder:
    return ImageBuilder(tmp_path / "layout", seed=3)


def stem(content: Content) -> str:
    return content.digest.replace(":", "-")


async def attached(builder: ImageBuilder, subject: Content) -> tuple[list[str], list[str]]:
    assert builder.root is not None
    referrers, tags = await LayoutStore(builder.root).attached(Digest(subject.digest))
    return [each.digest for each in referrers], tags


async def test_listed_manifests_with_the_subject_and_tags_of_its_digest_are_found(
    builder: ImageBuilder,
) -> None:
    image, other = builder.image([builder.random_layer(10)]), builder.image([builder.random_layer(11)])
    signature = builder.artifact("application/x", subject=image)
    for each in (image, signature, builder.artifact("application/x", subject=other)):
        builder.list_untagged(each)
    builder.tag(other, f"{stem(image)}.sig")
    assert await attached(builder, image) == ([signature.digest], [f"{stem(image)}.sig"])


async def test_a_fallback_list_in_a_layout_is_read(builder: ImageBuilder) -> None:
    image = builder.image([builder.random_layer(10)])
    signature = builder.artifact("application/x", subject=image)
    builder.tag(builder.index([signature]), stem(image))
    assert await attached(builder, image) == ([signature.digest], [])


async def test_damaged_entries_refer_to_nothing(builder: ImageBuilder) -> None:
    image = builder.image([builder.random_layer(10)])
    builder.tag(image, "v1")
    assert builder.root is not None
    path = builder.root / "index.json"
    document = json.loads(path.read_bytes())
    lost = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 3}
    document["manifests"] += [{**lost, "digest": "sha256:" + "0" * 64}, {**lost, "digest": "md5:00"}]
    path.write_text(json.dumps(document))
    assert await attached(builder, image) == ([], [])


async def test_without_a_tag_what_refers_to_the_image_is_not_meant(builder: ImageBuilder) -> None:
    image = builder.image([builder.random_layer(10)])
    builder.list_untagged(image)
    builder.list_untagged(builder.artifact("application/x", subject=image))
    builder.tag(builder.image([builder.random_layer(11)]), f"{stem(image)}.sig")
    assert builder.root is not None
    assert (await LayoutStore(builder.root).resolve("")).digest == image.digest
    builder.list_untagged(builder.image([builder.random_layer(12)]))
    with pytest.raises(ContentError, match="none was named"):
        await LayoutStore(builder.root).resolve("")
