"""What images consist of: every manifest is fetched once, however many ask for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from crossdock.errors import CopyError, NotFound, root_cause
from crossdock.imagebuilder import ImageBuilder
from crossdock.migration.images import Images, digest_of, key_of
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform


class Source:
    """The content of a builder; it counts."""

    name = "source.example/app"

    def __init__(self, builder: ImageBuilder) -> None:
        self.builder = builder
        self.fetched: list[str] = []

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        self.fetched.append(descriptor.digest)
        await asyncio.sleep(0)
        try:
            return self.builder.read(descriptor.digest)
        except (OSError, KeyError) as error:
            raise NotFound("no such manifest") from error


def blobs(images: Images, digest: str) -> dict[str, int]:
    """The blobs as text."""
    return {digest_of(key): size for key, size in images.blobs(Digest(digest))}


def learn(images: Images, source: Source, *digests: str) -> None:
    """Learn all at once."""

    async def run() -> None:
        await asyncio.gather(*(images.learn(source, Digest(each)) for each in digests))

    asyncio.run(run())


def test_a_manifest_is_fetched_once() -> None:
    builder = ImageBuilder()
    layer = builder.random_layer(1000)
    image = builder.image([layer])
    index = builder.index([image, builder.image([layer], "linux/arm64")])
    source, images = Source(builder), Images((), foreign_layers=False)
    learn(images, source, index.digest, image.digest, index.digest, image.digest)
    learn(images, source, index.digest)
    assert len(source.fetched) == len(set(source.fetched)) == 3
    config = json.loads(builder.read(image))["config"]
    assert blobs(images, image.digest) == {layer.digest: 1000, config["digest"]: config["size"]}
    assert len(blobs(images, index.digest)) == 3
    assert (images.manifests(Digest(image.digest)), images.manifests(Digest(index.digest))) == (1, 3)


@pytest.mark.parametrize("copied", [True, False])
def test_foreign_layers_count_where_they_are_copied(copied: bool) -> None:
    builder = ImageBuilder()
    image = builder.image([builder.foreign_layer(4096), builder.random_layer(10)])
    images = Images((), foreign_layers=copied)
    learn(images, Source(builder), image.digest)
    assert len(blobs(images, image.digest)) == 2 + copied


def test_a_chosen_platform_stands_for_the_index() -> None:
    builder = ImageBuilder()
    made = [
        builder.image([builder.random_layer(10)], f"linux/{each}") for each in ("amd64", "arm64", "s390x")
    ]
    index = builder.index(made)
    source = Source(builder)
    one = Images((Platform.parse("linux/arm64"),), foreign_layers=False)
    assert asyncio.run(one.chosen(source, Digest(index.digest))) == made[1].digest
    two = Images((Platform.parse("linux/arm64"), Platform.parse("linux/amd64")), foreign_layers=False)
    assert asyncio.run(two.chosen(source, Digest(index.digest))) not in {
        each.digest for each in (*made, index)
    }
    assert two.manifests(Digest(index.digest)) == 3


def test_a_manifest_that_is_gone_is_an_error_for_all_who_ask() -> None:
    source, images = Source(ImageBuilder()), Images((), foreign_layers=False)
    gone = Digest.of(b"gone")

    async def run() -> list[Any]:
        asked = (images.learn(source, gone) for _ in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(run())
    assert all(isinstance(each, CopyError) and isinstance(root_cause(each), NotFound) for each in found)
    assert len(source.fetched) == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_keys_are_digests(algorithm: str) -> None:
    digest = Digest.of(b"data", algorithm)
    assert digest_of(key_of(digest)) == digest
