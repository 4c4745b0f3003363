"""Seeded images and artifacts, in memory or as an OCI image layout on disk, for tests and the demo.

The documents are written with `json` and dictionaries, not with `crossdock.oci`, so that the parsers under
test do not check themselves. The same seed and the same calls in the same order give the same digests.

    >>> builder = ImageBuilder(Path("layout"), seed=7)
    >>> amd64 = builder.image([builder.random_layer(1 << 20)], "linux/amd64")
    >>> builder.tag(builder.index([amd64, builder.attestation(amd64)]), "v1")
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, cast

Flavour = Literal["oci", "docker"]
Compression = Literal["gzip", "none"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
IN_TOTO = "application/vnd.in-toto+json"

_TO_DOCKER = {
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
    OCI_FOREIGN_LAYER: DOCKER_FOREIGN_LAYER,
}
_ANNOTATION = "org.opencontainers.image"
_PIECE = 1 << 20
_CREATED = "2024-01-01T00:00:00Z"  # of every image; the real time would change digests from run to run


@dataclass(frozen=True, slots=True)
class Content:
    """A descriptor of content that the builder made. ``extra`` holds its optional members, as JSON values."""

    media_type: str
    digest: str
    size: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The descriptor as it appears in manifests."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **self.extra}

    def having(self, **members: Any) -> Content:
        """This descriptor with more members, such as ``annotations`` or ``artifactType``."""
        return replace(self, extra={**self.extra, **members})


class ImageBuilder:
    """Makes blobs, manifests and indexes, and keeps them in memory or in a layout.

    `root` None keeps every blob in memory; a path makes a valid OCI image layout there (created when
    missing) whose blobs are streamed to disk, so layers of any size fit. `seed` decides all random content.
    """

    def __init__(self, root: Path | None = None, *, seed: int = 0) -> None:
        self.root = root
        self.tags: dict[str, Content] = {}
        self._untagged: list[Content] = []
        self._random = random.Random(seed)
        self._memory: dict[str, bytes] = {}
        self._diff_ids: dict[str, str] = {}  # layer digest → digest of its uncompressed tar
        if root is not None:
            (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            self._write_index()

    # -- blobs ---------------------------------------------------------------------------------------

    def blob(self, data: bytes, media_type: str) -> Content:
        """Keep these bytes."""
        with self._writer(media_type) as writer:
            writer.write(data)
        return writer.content

    def random_layer(self, size: int, media_type: str = OCI_LAYER_GZIP) -> Content:
        """A blob of exactly `size` seeded, incompressible bytes. It is not a tar file."""
        source = random.Random(self._random.getrandbits(64))
        with self._writer(media_type) as writer:
            for start in range(0, size, _PIECE):
                writer.write(source.randbytes(min(_PIECE, size - start)))
        return writer.content

    def tar_layer(
        self,
        files: Mapping[str, bytes | Path] | Iterable[tuple[str, bytes | Path]],
        *,
        compression: Compression = "gzip",
        until: int | None = None,
    ) -> Content:
        """A real layer: a tar file of `files` (name → bytes, or a file to read), all owned by root.

        Entries keep the order given, and parent directories come before their files. With `until`, files
        are added only until the blob holds about that many bytes (compression buffers some).
        """
        pairs = files.items() if isinstance(files, Mapping) else files
        media_type = OCI_LAYER_GZIP if compression == "gzip" else OCI_LAYER
        with self._writer(media_type) as writer:
            raw = cast("IO[bytes]", writer)
            packed = None if compression == "none" else gzip.GzipFile("", "wb", 1, raw, mtime=0)
            plain = _Hashing((packed or writer).write)
            with tarfile.open(mode="w|", fileobj=cast("IO[bytes]", plain), format=tarfile.PAX_FORMAT) as tar:
                directories: set[str] = set()
                for name, value in pairs:
                    _add_file(tar, name, value, directories)
                    if until is not None and writer.size >= until:
                        break
            if packed is not None:
                packed.close()
        self._diff_ids[writer.content.digest] = plain.digest
        return writer.content

    def foreign_layer(self, size: int = 4096, url: str = "https://layers.invalid/base.tar.gz") -> Content:
        """A non-distributable layer that is only referred to: its bytes do not exist."""
        digest = _digest_of(self._random.randbytes(32))
        return Content(OCI_FOREIGN_LAYER, digest, size, {"urls": [url]})

    # -- manifests -----------------------------------------------------------------------------------

    def image(
        self,
        layers: Sequence[Content],
        platform: str = "linux/amd64",
        *,
        flavour: Flavour = "oci",
        annotations: Mapping[str, str] | None = None,
        os_version: str = "",
    ) -> Content:
        """An image manifest and its config for `platform` (``os/arch[/variant]``)."""
        described = _platform(platform, os_version)
        config = self.config(layers, described, flavour=flavour)
        if flavour == "docker":
            layers = [_as_docker(each) for each in layers]
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if flavour == "docker" else OCI_MANIFEST,
            "config": config.document(),
            "layers": [each.document() for each in layers],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return self.manifest(document).having(platform=described)

    def config(
        self, layers: Sequence[Content], platform: Mapping[str, str], *, flavour: Flavour = "oci"
    ) -> Content:
        """An image config whose ``rootfs`` names `layers`."""
        diff_ids = [self._diff_ids.get(each.digest, each.digest) for each in layers]
        document = {
            "created": _CREATED,
            **platform,
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": _CREATED, "created_by": "crossdock.imagebuilder"} for _ in layers],
        }
        return self.blob(_json(document), DOCKER_CONFIG if flavour == "docker" else OCI_CONFIG)

    def index(
        self,
        manifests: Sequence[Content],
        *,
        flavour: Flavour = "oci",
        annotations: Mapping[str, str] | None = None,
    ) -> Content:
        """An index (Docker: a manifest list) of manifests or of further indexes."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_LIST if flavour == "docker" else OCI_INDEX,
            "manifests": [each.document() for each in manifests],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return self.manifest(document)

    def attestation(self, manifest: Content) -> Content:
        """An attestation as BuildKit adds it: an ``unknown/unknown`` entry about the image."""
        statement = {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "image", "digest": {"sha256": manifest.digest.partition(":")[2]}}],
            "predicate": {"buildType": "https://crossdock.invalid/testing"},
        }
        layer = self.blob(_json(statement), IN_TOTO).having(
            annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
        )
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": manifest.digest,
        }
        return self.image([layer], "unknown/unknown").having(annotations=annotations)

    def artifact(
        self,
        artifact_type: str,
        payloads: Sequence[Content] = (),
        *,
        subject: Content | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Content:
        """An OCI 1.1 artifact: empty config, any payloads, a `subject` when it refers to a manifest."""
        empty = self.blob(b"{}", OCI_EMPTY)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": empty.document(),
            "layers": [each.document() for each in payloads or [empty]],
        }
        if subject is not None:
            document["subject"] = replace(subject, extra={}).document()
        if annotations:
            document["annotations"] = dict(annotations)
        return self.manifest(document).having(artifactType=artifact_type)

    def helm_chart(self, name: str = "demo", version: str = "0.1.0") -> Content:
        """A Helm chart as ``helm push`` writes it: its metadata is the config, the chart the only layer."""
        chart = f"apiVersion: v2\nname: {name}\nversion: {version}\n"
        files = {f"{name}/Chart.yaml": chart.encode(), f"{name}/templates/NOTES.txt": b"Installed.\n"}
        layer = replace(self.tar_layer(files), media_type=HELM_CHART)
        config = self.blob(_json({"name": name, "version": version, "apiVersion": "v2"}), HELM_CONFIG)
        return self.manifest(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config.document(),
                "layers": [layer.document()],
                "annotations": {f"{_ANNOTATION}.title": name, f"{_ANNOTATION}.version": version},
            }
        )

    def manifest(self, document: Mapping[str, Any]) -> Content:
        """Keep a manifest exactly as given; its ``mediaType`` (default OCI) becomes the descriptor's."""
        return self.blob(_json(document), str(document.get("mediaType", OCI_MANIFEST)))

    # -- names and reading ---------------------------------------------------------------------------

    def tag(self, content: Content, name: str) -> Content:
        """Name `content` in the layout's index."""
        self.tags[name] = content
        self._write_index()
        return content

    def list_untagged(self, content: Content) -> Content:
        """List `content` in the layout's index without a name, as referrers are."""
        self._untagged.append(content)
        self._write_index()
        return content

    def read(self, content: Content | str) -> bytes:
        """The bytes behind a descriptor or digest. Raises KeyError or FileNotFoundError when never made."""
        digest = content if isinstance(content, str) else content.digest
        return self._memory[digest] if self.root is None else self.path(digest).read_bytes()

    def path(self, content: Content | str) -> Path:
        """The blob's file in the layout. Raises ValueError for a builder that keeps to memory."""
        if self.root is None:
            raise ValueError("this builder keeps its blobs in memory")
        digest = content if isinstance(content, str) else content.digest
        return self.root / "blobs" / digest.replace(":", "/")

    def digests(self) -> list[str]:
        """The digest of every blob and manifest made so far, sorted."""
        if self.root is None:
            return sorted(self._memory)
        return sorted(f"sha256:{each.name}" for each in (self.root / "blobs" / "sha256").iterdir())

    # -- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _writer(self, media_type: str) -> Iterator[_BlobWriter]:
        if self.root is None:
            memory = io.BytesIO()
            writer = _BlobWriter(memory.write, media_type)
            yield writer
            self._memory[writer.content.digest] = memory.getvalue()
            return
        folder = self.root / "blobs" / "sha256"
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".new-", delete=False) as file:
            try:
                writer = _BlobWriter(file.write, media_type)
                yield writer
                file.flush()
                os.chmod(file.name, 0o644)
                os.replace(file.name, folder / writer.content.digest.partition(":")[2])
            except BaseException:
                os.unlink(file.name)
                raise

    def _write_index(self) -> None:
        if self.root is None:
            return
        entries = [_named(each, name) for name, each in self.tags.items()]
        documents = [each.document() for each in (*entries, *self._untagged)]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": documents}
        (self.root / "index.json").write_bytes(_json(index))


def sample_index(builder: ImageBuilder, *, layer_size: int = 64 * 1024, flavour: Flavour = "oci") -> Content:
    """An image as registries hold them: Linux twice, Windows, attestations, one shared layer."""
    shared = builder.tar_layer({"etc/os-release": b"ID=crossdock\n", "usr/share/doc/notice": b"shared\n"})
    images = [
        builder.image([shared, builder.random_layer(layer_size)], "linux/amd64", flavour=flavour),
        builder.image([shared, builder.random_layer(layer_size)], "linux/arm64/v8", flavour=flavour),
        builder.image(
            [builder.random_layer(layer_size)], "windows/amd64", flavour=flavour, os_version="10.0.20348.2113"
        ),
    ]
    attestations = [builder.attestation(each) for each in images[:2]] if flavour == "oci" else []
    return builder.index([*images, *attestations], flavour=flavour)


class _Hashing:
    """A writer that keeps digest and size of the bytes that pass through."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self.size += len(data)
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Required by GzipFile; nothing is buffered here."""

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


class _BlobWriter(_Hashing):
    """A blob being written; `content` is its descriptor once it is complete."""

    def __init__(self, write: Callable[[bytes], object], media_type: str) -> None:
        super().__init__(write)
        self._media_type = media_type

    @property
    def content(self) -> Content:
        return Content(self._media_type, self.digest, self.size)


def _add_file(tar: tarfile.TarFile, name: str, value: bytes | Path, directories: set[str]) -> None:
    parents = [str(each) for each in reversed(Path(name).parents)][1:]
    for parent in parents:
        if parent not in directories:
            directories.add(parent)
            entry = _tar_entry(parent, 0o755)
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
    entry = _tar_entry(name, 0o644)
    if isinstance(value, bytes):
        entry.size = len(value)
        tar.addfile(entry, io.BytesIO(value))
        return
    with value.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        tar.addfile(entry, file)


def _tar_entry(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    entry.uname = entry.gname = "root"
    return entry


def _named(content: Content, tag: str) -> Content:
    annotations = content.extra.get("annotations", {})
    return content.having(annotations={**annotations, "org.opencontainers.image.ref.name": tag})


def _as_docker(layer: Content) -> Content:
    return replace(layer, media_type=_TO_DOCKER.get(layer.media_type, layer.media_type))


def _platform(text: str, os_version: str = "") -> dict[str, str]:
    names = ("os", "architecture", "variant")
    described = dict(zip(names, text.split("/"), strict=False))
    if os_version:
        described["os.version"] = os_version
    return described


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
