"""Archives in the shapes in which other programs save images, member by member.

From their sources: docker 24 (moby, image/tarexport/save.go, v24), docker 25 (the same, v25), docker with
containerd's image store (containerd, core/images/archive/exporter.go, and moby's daemon/containerd), podman
(containers/image, docker/internal/tarfile/writer.go; oci/archive for ``--format oci-archive``).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CREATED = "2024-01-01T00:00:00Z"
OCI = "application/vnd.oci.image"


def hex_of(data: bytes) -> str:
    """The SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def layer(name: str, size: int) -> bytes:
    """A plain layer: a tar file of one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = size
        tar.addfile(info, io.BytesIO(hashlib.sha256(name.encode()).digest() * (size // 32 + 1)))
    return data.getvalue()


@dataclass(frozen=True)
class Saved:
    """An image as it was saved: its names as a person wrote them, and its plain layers."""

    names: tuple[str, ...]
    layers: tuple[bytes, ...]

    @property
    def config(self) -> bytes:
        """The config's bytes."""
        return json.dumps(
            {
                "architecture": "amd64",
                "created": CREATED,
                "config": {"Cmd": [self.names[0]]},
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hex_of(each)}" for each in self.layers]},
            }
        ).encode()


BASE = layer("base", 200_000)
IMAGES = (
    Saved(
        ("app:1", "app:latest"), (BASE, layer("app", 30_000), BASE)
    ),  # the base twice, as copies of a file do
    Saved(("reg.example:5000/tools/cli:2",), (BASE, layer("cli", 40_000))),
)
PATHS = {"library/app": ["1", "latest"], "tools/cli": ["2"]}
"""The tags by repository that the images get elsewhere."""


@dataclass
class _Tar:
    path: Path
    format: int = tarfile.PAX_FORMAT
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tar = tarfile.open(self.path, "w", format=self.format)  # noqa: SIM115 - closed by its user

    def end(self) -> Path:
        """Close the file; its path."""
        self.tar.close()
        return self.path

    def folder(self, name: str) -> None:
        """A folder, once."""
        if name not in self.names:
            self._add(name, tarfile.DIRTYPE, mode=0o755)

    def file(self, name: str, data: bytes | Any) -> str:
        """A file, once; its name."""
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        if name not in self.names:
            self._add(name, tarfile.REGTYPE, data)
        return name

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add(name, tarfile.SYMTYPE, link=target)

    def _add(self, name: str, kind: bytes, data: bytes = b"", *, mode: int = 0o644, link: str = "") -> None:
        self.names.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.linkname = kind, len(data), mode, link
        info.mtime = 1_704_067_200
        if self.format == tarfile.PAX_FORMAT:
            info.pax_headers = {"mtime": "1704067200.25"}
        self.tar.addfile(info, io.BytesIO(data))


def _v1_id(at: int, number: int) -> str:
    """The id of a layer in the format before manifests."""
    return hex_of(f"{at} {number}".encode())


def _end_old(tar: _Tar, images: list[Any], tops: dict[str, str]) -> Path:
    """Write the lists of images; `tops` are the ids of their last layers, by name."""
    repositories: dict[str, dict[str, str]] = {}
    for name, top in tops.items():
        repository, _, tag = name.rpartition(":")
        repositories.setdefault(repository, {})[tag] = top
    tar.file("manifest.json", images)
    tar.file("repositories", repositories)
    return tar.end()


def docker_24(path: Path) -> Path:
    """``docker save`` up to 24: a folder for each layer of each image, links for layers that came before."""
    tar, images, places = _Tar(path), [], dict[bytes, str]()
    tops: dict[str, str] = {}
    for at, image in enumerate(IMAGES):
        layers = []
        for number, data in enumerate(image.layers):
            own = _v1_id(at, number)
            tar.folder(f"{own}/")
            tar.file(f"{own}/VERSION", b"1.0")
            tar.file(f"{own}/json", {"id": own, "created": CREATED})
            if data in places:
                tar.link(f"{own}/layer.tar", f"../{places[data]}/layer.tar")
            else:
                tar.file(f"{own}/layer.tar", data)
                places[data] = own
            layers.append(f"{own}/layer.tar")
        config = tar.file(f"{hex_of(image.config)}.json", image.config)
        images.append({"Config": config, "RepoTags": list(image.names), "Layers": layers})
        tops |= dict.fromkeys(image.names, own)
    return _end_old(tar, images, tops)


def _whole(name: str) -> str:
    return name if "/" in name else f"docker.io/library/{name}"


def _blob(tar: _Tar, data: bytes) -> str:
    tar.folder("blobs/")
    tar.folder("blobs/sha256/")
    return tar.file(f"blobs/sha256/{hex_of(data)}", data)


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{hex_of(data)}", "size": len(data)}


def _manifest(image: Saved, layers: list[bytes], kind: str) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _descriptor("config.v1+json", image.config),
        "layers": [_descriptor(kind, each) for each in layers],
    }
    return json.dumps(document).encode()


def _entries(image: Saved, descriptor: dict[str, Any], **annotations: str) -> list[dict[str, Any]]:
    """The image in ``index.json``, once for each name, since docker 25."""
    names = [
        {
            "io.containerd.image.name": _whole(name),
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        }
        for name in image.names
    ]
    return [{**descriptor, "annotations": {**annotations, **each}} for each in names]


def _add_lists(tar: _Tar, entries: list[Any], images: list[Any]) -> None:
    """Mark the layout, and list the images there and in ``manifest.json``, since docker 25."""
    tar.file("index.json", {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})
    tar.file("manifest.json", images)
    tar.file("oci-layout", {"imageLayoutVersion": "1.0.0"})


def docker_25(path: Path) -> Path:
    """``docker save`` since 25: a layout with plain layers, and ``manifest.json``."""
    tar, images, entries = _Tar(path), [], []
    for image in IMAGES:
        manifest = _manifest(image, list(image.layers), "layer.v1.tar")
        _blob(tar, manifest)
        layers = [_blob(tar, each) for each in image.layers]
        sources = {f"sha256:{hex_of(each)}": _descriptor("layer.v1.tar", each) for each in image.layers}
        config = _blob(tar, image.config)
        images.append(
            {"Config": config, "RepoTags": list(image.names), "Layers": layers, "LayerSources": sources}
        )
        entries += _entries(image, _descriptor("manifest.v1+json", manifest))
    _add_lists(tar, entries, images)
    tar.file("repositories", {})
    return tar.end()


def docker_containerd(path: Path) -> Path:
    """``docker save`` with containerd's image store: gzip layers, below an index with an attestation."""
    tar, images, entries = _Tar(path, tarfile.USTAR_FORMAT), [], []
    tar.folder("blobs/")
    tar.folder("blobs/sha256/")
    for image in IMAGES:
        packed = [gzip.compress(each, mtime=0) for each in image.layers]
        layers = [_blob(tar, each) for each in packed]
        manifest = _manifest(image, packed, "layer.v1.tar+gzip")
        config = _blob(tar, image.config)
        _blob(tar, manifest)
        listed = {
            **_descriptor("manifest.v1+json", manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = json.dumps(
            {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [listed]}
        ).encode()
        _blob(tar, index)
        images.append({"Config": config, "RepoTags": list(image.names), "Layers": layers})
        origin = {"containerd.io/distribution.source.docker.io": "library/app"}
        entries += _entries(image, _descriptor("index.v1+json", index), **origin)
    _add_lists(tar, entries, images)
    return tar.end()


def podman(path: Path) -> Path:
    """``podman save --multi-image-archive``: plain layers by digest, and links for programs before them."""
    tar, images = _Tar(path, tarfile.USTAR_FORMAT), []
    tops: dict[str, str] = {}
    for at, image in enumerate(IMAGES):
        layers = [tar.file(f"{hex_of(each)}.tar", each) for each in image.layers]
        config = tar.file(f"{hex_of(image.config)}.json", image.config)
        for number, name in enumerate(layers):
            own = _v1_id(at, number)
            tar.file(f"{own}/VERSION", b"1.0")
            tar.link(f"{own}/layer.tar", f"../{name}")
            tar.file(f"{own}/json", {"id": own, "created": CREATED})
        names = [_whole(each) for each in image.names]
        images.append({"Config": config, "RepoTags": names, "Layers": layers})
        tops |= dict.fromkeys(names, own)
    return _end_old(tar, images, tops)


def podman_oci(path: Path) -> Path:
    """``podman save --format oci-archive`` of one name of each image: gzip layers, whole names as tags."""
    tar, entries = _Tar(path, tarfile.USTAR_FORMAT), []
    for image in IMAGES:
        packed = [gzip.compress(each, mtime=0) for each in image.layers]
        for each in packed:
            _blob(tar, each)
        manifest = _manifest(image, packed, "layer.v1.tar+gzip")
        _blob(tar, image.config)
        _blob(tar, manifest)
        for name in image.names:
            annotations = {"org.opencontainers.image.ref.name": _whole(name)}
            entries.append({**_descriptor("manifest.v1+json", manifest), "annotations": annotations})
    tar.file("index.json", {"schemaVersion": 2, "manifests": entries})
    tar.file("oci-layout", {"imageLayoutVersion": "1.0.0"})
    return tar.end()


SHAPES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "docker 24": ("docker-archive", docker_24),
    "docker 25": ("docker-archive", docker_25),
    "docker with containerd": ("docker-archive", docker_containerd),
    "podman": ("docker-archive", podman),
    "podman oci": ("oci-archive", podman_oci),
}
"""The kind of each archive, and what writes it."""
