"""Media types of the documents that crossdock understands. All other types are copied as they are.

Sources: image-spec media-types.md; Docker's "Image Manifest Version 2, Schema 2" and "Schema 1".
"""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"  # in image-spec 1.1 until its last candidate
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"  # of oras before 0.15

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

TYPE_LIMIT = 1024
"""Characters of a media type or artifact type. RFC 6838, 4.2, allows 127 on each side of the slash, and
parameters may follow. A type is copied into lists and headers, so one without a limit would fill them."""

_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
_MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT}) | _INDEXES
_SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
_FOREIGN_LAYERS = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
)

MANIFEST_ACCEPT: tuple[str, ...] = (
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    DOCKER_LIST,
    OCI_ARTIFACT,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
)
"""The complete Accept of a manifest request: a registry may answer 404, or the default platform's image,
when a type is missing (M2). Schema 1 comes last, to be recognised and refused in words."""


def bare(media_type: str | None) -> str:
    """The type without parameters, in lower case: ``Text/Plain; charset=utf-8`` → ``text/plain``."""
    if media_type in _MANIFESTS:
        return media_type
    return (media_type or "").partition(";")[0].strip().lower()


def listed(artifact_type: str | None) -> str | None:
    """The artifact type as a list of manifests states it: none for one that is empty or over `TYPE_LIMIT`.

    The manifest keeps its own. Here an entry would be as large as its manifest.
    """
    return artifact_type if artifact_type and len(artifact_type) <= TYPE_LIMIT else None


def is_index(media_type: str | None) -> bool:
    """Whether a document of this type lists manifests: an OCI index or a Docker manifest list."""
    return media_type in _INDEXES or bare(media_type) in _INDEXES


def is_manifest(media_type: str | None) -> bool:
    """Whether content of this type is a manifest of any kind, an index included, and not a blob."""
    return media_type in _MANIFESTS or bare(media_type) in _MANIFESTS


def is_schema1(media_type: str | None) -> bool:
    """Whether the type is Docker's schema 1, signed or not, which cannot be copied."""
    return bare(media_type) in _SCHEMA1


def is_foreign_layer(media_type: str | None) -> bool:
    """Whether a layer of this type may be missing from its registry and lie at its ``urls`` instead."""
    return bare(media_type).startswith(_FOREIGN_LAYERS)
