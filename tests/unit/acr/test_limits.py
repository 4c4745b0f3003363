"""The service's own limits, before anything is copied."""

from __future__ import annotations

import pytest

from crossdock.acr.limits import DOCUMENTED, ImageLimits, check_limits
from crossdock.errors import CopyError, LimitExceeded
from crossdock.imagebuilder import Content, ImageBuilder
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference

LARGEST_LAYER = 2 << 30
REFERENCE = Reference("registry.example", "app", "v1")


class BuiltSource:
    """A source of built manifests; nothing else is requested."""

    name = "registry.example/app"

    def __init__(self, builder: ImageBuilder) -> None:
        self._builder = builder
        self.fetched: list[str] = []

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self.fetched.append(str(descriptor.digest))
        return self._builder.read(str(descriptor.digest))


async def check(builder: ImageBuilder, content: Content, limits: ImageLimits = DOCUMENTED) -> list[str]:
    source = BuiltSource(builder)
    root = Descriptor(media_type=content.media_type, digest=Digest(content.digest), size=content.size)
    await check_limits(REFERENCE, source, root, builder.read(content), limits)  # type: ignore[arg-type]
    return source.fetched


@pytest.mark.parametrize(("more", "works"), [(0, True), (1, False)])
async def test_fifty_manifests_and_one_more(more: int, works: bool) -> None:
    builder = ImageBuilder()
    layer = builder.random_layer(10)
    count = 50 + more
    images = [builder.image([layer], "linux/amd64", os_version=str(number)) for number in range(count)]
    index = builder.index([*images, *images])
    if works:
        assert len(await check(builder, index)) == count
        return
    with pytest.raises(CopyError, match="more than 50 manifests"):
        await check(builder, index)


@pytest.mark.parametrize(("more", "works"), [(0, True), (1, False)])
async def test_a_layer_of_two_gibibytes_and_a_byte_more(more: int, works: bool) -> None:
    builder = ImageBuilder()
    layer = builder.random_layer(10)
    config = builder.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    listed = {"mediaType": layer.media_type, "digest": layer.digest, "size": LARGEST_LAYER + more}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.size},
        "layers": [listed],
    }
    image = builder.manifest(document)
    if works:
        assert await check(builder, image) == []
        return
    with pytest.raises(CopyError) as raised:
        await check(builder, image)
    assert isinstance(raised.value.cause, LimitExceeded)
    assert str(LARGEST_LAYER + 1) in str(raised.value)


async def test_a_limit_on_manifests_reads_indexes_alone() -> None:
    builder = ImageBuilder()
    layer = builder.random_layer(10)
    images = [builder.image([layer], "linux/amd64", os_version=str(number)) for number in range(3)]
    inner = builder.index(images)
    outer = builder.index([inner, images[0]])
    assert await check(builder, outer, ImageLimits(manifests=4)) == [inner.digest]
    with pytest.raises(CopyError, match="more than 3 manifests"):
        await check(builder, outer, ImageLimits(manifests=3))


def test_which_manifests_have_to_be_read() -> None:
    index, image = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
    assert [ImageLimits(manifests=50).concern(each) for each in (index, image)] == [True, False]
    assert [ImageLimits(layer=1).concern(each) for each in (index, image)] == [True, True]
    assert not ImageLimits().concern(index)
