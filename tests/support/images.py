"""Content in a registry: pushed and read back by `support.push`, walked from its raw bytes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossdock.imagebuilder import Content, ImageBuilder, sample_index
from support.docker_registry import DockerRegistry
from support.process import require
from support.push import Remote, sha256

SPARSE_STEP = 1 << 20


@dataclass
class Graph:
    """Everything that a copy of one reference must bring."""

    root: str
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # children first: media type, bytes
    blobs: dict[str, int] = field(default_factory=dict)  # digest → size, without foreign layers

    @property
    def media_type(self) -> str:
        """The root's media type."""
        return self.manifests[self.root][0]

    @property
    def blob_bytes(self) -> int:
        """Bytes of all blobs, each counted once."""
        return sum(self.blobs.values())


def walk(read: Callable[[str], bytes], root: str) -> Graph:
    """The graph under the manifest with digest `root`, every manifest's bytes checked against its digest."""
    graph = Graph(root)

    def visit(digest: str, media_type: str) -> None:
        if digest in graph.manifests:
            return
        data = read(digest)
        assert sha256(data) == digest, f"{digest} holds other bytes"
        document = json.loads(data)
        for child in document.get("manifests", []):
            visit(child["digest"], child["mediaType"])
        for blob in [*filter(None, [document.get("config")]), *document.get("layers", [])]:
            if not blob.get("urls"):
                graph.blobs[blob["digest"]] = blob["size"]
        graph.manifests[digest] = (document.get("mediaType", media_type), data)

    visit(root, "application/vnd.oci.image.manifest.v1+json")
    return graph


def push(
    remote: Remote, repository: str, builder: ImageBuilder, content: Content | str, tag: str = ""
) -> Graph:
    """Push `content` and everything under it; the root also under `tag` if given."""
    graph = walk(builder.read, content if isinstance(content, str) else content.digest)
    for digest in graph.blobs:
        if not remote.has_blob(repository, digest):
            remote.push_blob(repository, builder.read(digest))
    for digest, (media_type, data) in graph.manifests.items():
        remote.push_manifest(repository, data, media_type, tag if digest == graph.root else "")
    return graph


def assert_holds(remote: Remote, repository: str, reference: str, graph: Graph) -> None:
    """`repository` serves under `reference` exactly the graph: every manifest and blob, byte for byte."""
    top = remote.manifest(repository, reference)
    assert top.status == 200, f"{repository}:{reference}: {top.status} {top.body[:300]!r}"
    assert sha256(top.body) == graph.root
    for digest, (media_type, data) in graph.manifests.items():
        served = remote.manifest(repository, digest)
        assert (served.status, served.body) == (200, data)
        assert served.headers["content-type"] == media_type
    for digest, size in graph.blobs.items():
        data = remote.blob(repository, digest)
        assert (len(data), sha256(data)) == (size, digest)


def assert_layout_holds(layout: Path, graph: Graph, tag: str = "") -> None:
    """The layout on disk has every manifest and blob of the graph, and names its root."""
    for digest, (_, data) in graph.manifests.items():
        assert (layout / "blobs" / digest.replace(":", "/")).read_bytes() == data
    for digest, size in graph.blobs.items():
        data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert (len(data), sha256(data)) == (size, digest)
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    named = [entry for entry in layout_entries(layout) if entry["digest"] == graph.root]
    assert len(named) == 1, f"index.json names {graph.root} {len(named)} times"
    if tag:
        assert named[0]["annotations"]["org.opencontainers.image.ref.name"] == tag


def layout_entries(layout: Path) -> list[dict[str, Any]]:
    """The entries of a layout's index.json by name."""
    entries: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return entries


def layout_tags(layout: Path) -> list[str]:
    """The names in a layout's index.json; empty without a layout."""
    if not (layout / "index.json").exists():
        return []
    key = "org.opencontainers.image.ref.name"
    return sorted(e["annotations"][key] for e in layout_entries(layout) if key in e.get("annotations", {}))


def one_layer_image(builder: ImageBuilder, size: int) -> tuple[Content, Content]:
    """An image with one random layer: (manifest, layer)."""
    layer = builder.random_layer(size)
    return builder.image([layer]), layer


def real_image(directory: Path, name: str, platform: str, files: list[tuple[str, str]]) -> Path:
    """A layout with one image ``latest``, made by umoci from files of this machine, a layer for each."""
    umoci = require("umoci")
    layout = directory / name
    system, architecture = platform.split("/")

    def run(*args: str) -> None:
        done = subprocess.run([umoci, *args], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"umoci {' '.join(args)}: {done.stderr}"

    image = f"{layout}:latest"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("init", "--layout", str(layout))
    run("new", "--image", image)
    for source, inside in files:
        run("insert", *rootless, "--image", image, source, inside)
    run(
        "config",
        "--image",
        image,
        "--os",
        system,
        "--architecture",
        architecture,
        "--config.cmd",
        "/bin/busybox",
    )
    return layout


def add_layout(builder: ImageBuilder, layout: Path) -> Content:
    """Take the only image of a layout into the builder; its descriptor."""
    for path in (layout / "blobs" / "sha256").iterdir():
        builder.blob(path.read_bytes(), "application/octet-stream")
    entry = next(e for e in layout_entries(layout) if "annotations" in e)
    return Content(entry["mediaType"], entry["digest"], entry["size"])


def place_sparse_blob(registry: DockerRegistry, repository: str, size: int, digest: str) -> None:
    """Put a blob of `size` bytes in the registry's storage without sending it: holes and a mark per MiB.

    The marks are the offsets, so that bytes in a wrong place give another digest. `digest` is a constant of
    the caller: hashing gigabytes in every run would prove nothing new.
    """
    encoded = digest.partition(":")[2]
    data = registry.blob_file(digest)
    data.parent.mkdir(parents=True)
    with data.open("wb") as file:
        write_sparse(file.fileno(), size)
    link = registry.storage / "repositories" / repository / "_layers" / "sha256" / encoded / "link"
    link.parent.mkdir(parents=True)
    link.write_text(digest)


def write_sparse(fd: int, size: int) -> None:
    """Fill a file as described at `place_sparse_blob`."""
    os.ftruncate(fd, size)
    for offset in range(0, size, SPARSE_STEP):
        os.pwrite(fd, offset.to_bytes(8, "big"), offset)


def everything(builder: ImageBuilder) -> Content:
    """A nested index: a multi-platform index with attestations, a Docker image, a chart, an artifact."""
    inner = sample_index(builder)
    docker = builder.image([builder.random_layer(5000)], "linux/s390x", flavour="docker")
    signed = builder.artifact("application/vnd.example.signature", [builder.random_layer(700)], subject=inner)
    return builder.index([inner, docker, builder.helm_chart(), signed])
