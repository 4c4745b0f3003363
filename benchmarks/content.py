"""Seeded content for a workload, as an OCI image layout that nginx can serve as a registry."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scenarios import MiB, Workload
from crossdock.imagebuilder import OCI_LAYER_GZIP, Content, ImageBuilder

SEED = 20261


@dataclass(frozen=True)
class Image:
    """One image: its name at both ends, and the blobs that a copy must transfer."""

    repository: str
    tag: str
    manifest: Content
    blobs: tuple[Content, ...]


@dataclass(frozen=True)
class Images:
    """A workload's images below `root`, an image layout."""

    root: Path
    images: tuple[Image, ...]

    @property
    def blob_bytes(self) -> int:
        """The size of all distinct blobs."""
        return sum({blob.digest: blob.size for image in self.images for blob in image.blobs}.values())


def build(root: Path, workload: Workload) -> Images:
    """Write the images of `workload`; equal workloads give equal digests."""
    builder = ImageBuilder(root, seed=SEED)
    images = []
    for number in range(workload.images):
        layers = [_layer(builder, number, place, workload) for place in range(workload.layers)]
        manifest = builder.image(layers)
        config = builder.config(layers, {"os": "linux", "architecture": "amd64"})
        images.append(Image(f"bench/image-{number:04}", "v1", manifest, (config, *layers)))
    return Images(root, tuple(images))


def build_registry(root: Path, groups: int, repositories: int, tags: int, layer_size: int) -> Images:
    """Write a registry's worth of small images: so many groups of repositories, and tags in each repository.

    Every image has a layer of its own, and one that all of its repository share.
    """
    builder = ImageBuilder(root, seed=SEED)
    images = []
    for number in range(groups * repositories):
        name = f"group{number // repositories:02}/app{number:04}"
        base = builder.random_layer(layer_size)
        for tag in range(tags):
            layers = [base, builder.random_layer(layer_size)]
            config = builder.config(layers, {"os": "linux", "architecture": "amd64"})
            manifest = builder.image(layers)
            images.append(Image(name, f"v{tag}", manifest, (config, *layers)))
    return Images(root, tuple(images))


def _layer(builder: ImageBuilder, image: int, place: int, workload: Workload) -> Content:
    """A blob of `layer_size` bytes that can be neither compressed nor shared with another image.

    It starts with a gzip header: skopeo would compress the layer otherwise instead of copying it as it is.
    Generating random bytes would take longer than the race, so one random piece is repeated with a counter.
    """
    piece = bytearray(random.Random(SEED).randbytes(MiB))
    piece[:10] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    zeros = bytes(MiB)
    hash_, size = hashlib.sha256(), workload.layer_size
    assert builder.root is not None
    partial = builder.root / "layer"
    with partial.open("wb") as file:
        for at in range(0, size, MiB):
            struct.pack_into("<HHQ", piece, 10, image, place, at)
            data = memoryview(zeros if workload.sparse and at else piece)[: size - at]
            hash_.update(data)
            if workload.sparse and at:
                file.seek(len(data), os.SEEK_CUR)
            else:
                file.write(data)
        file.truncate(size)
    content = Content(OCI_LAYER_GZIP, f"sha256:{hash_.hexdigest()}", size)
    partial.rename(builder.path(content))
    return content
