"""Entries of the metadata API of Azure's registries (``/acr/v1``), as JSON objects.

The fields are those of Azure.ContainerRegistry 2021-07-01, plus ``mediaType`` and ``configMediaType``, which
Azure's documents show as well. Unknown values are left out, as Azure leaves out ``tags`` of an untagged
manifest and ``architecture`` and ``os`` of anything but an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.text import without_half_pairs

Entry = dict[str, Any]
Order = Literal["timeasc", "timedesc"]

CONFIG_LIMIT = 1 << 20  # bytes of a config worth reading for its platform; real ones have a few KiB
_CREATED = "org.opencontainers.image.created"  # image-spec annotations.md
_EPOCH = datetime.fromtimestamp(0, UTC)


class ImageConfig(msgspec.Struct, frozen=True):
    """The fields of an image's config that a listing shows; None if absent."""

    architecture: str | None = None
    os: str | None = None
    created: str | None = None  # RFC 3339, as in the config


def changeable_attributes() -> Entry:
    """The attributes of an item without locks."""
    return {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}


def has_platform(config: Descriptor | None) -> bool:
    """Whether the config is an image's, and small enough to be read for a listing."""
    if config is None or config.size > CONFIG_LIMIT:
        return False
    return mediatype.bare(config.media_type) in (mediatype.OCI_CONFIG, mediatype.DOCKER_CONFIG)


def read_config(data: bytes) -> ImageConfig:
    """The config in `data`; an empty one for anything else. Raises nothing."""
    try:
        return msgspec.json.decode(without_half_pairs(data), type=ImageConfig)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ImageConfig()


def image_size(manifest: Manifest) -> int:
    """Bytes of config, layers and blobs, each once; 0 for an index, whose images have the bytes."""
    config = (manifest.config,) if manifest.config else ()
    return sum({each.digest: each.size for each in (*config, *manifest.layers, *manifest.blobs)}.values())


def timestamp(nanoseconds: int) -> str:
    """A time since the epoch in Azure's form: UTC, seven decimal places."""
    moment = _EPOCH + timedelta(seconds=nanoseconds // 1_000_000_000)
    return f"{moment.replace(tzinfo=None).isoformat()}.{nanoseconds % 1_000_000_000 // 100:07d}Z"


def created_time(manifest: Manifest, config: ImageConfig) -> int | None:
    """When config or annotations say the image was made, in ns since the epoch; None if absent."""
    for text in (config.created, (manifest.annotations or {}).get(_CREATED)):
        try:
            moment = datetime.fromisoformat(text or "")
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
        except (ValueError, OverflowError):
            continue
    return None


def manifest_entry(
    descriptor: Descriptor,
    manifest: Manifest | None,
    *,
    size: int,
    config: ImageConfig,
    tags: Sequence[str],
    time: int | None,
) -> Entry:
    """The entry of one manifest, None if it cannot be read; `time`, in ns, is both of its times."""
    entry: Entry = {"digest": str(descriptor.digest), "imageSize": size, **_times(time)}
    if config.architecture:
        entry["architecture"] = config.architecture
    if config.os:
        entry["os"] = config.os
    media_type = descriptor.media_type or (manifest.media_type if manifest else "")
    if media_type:
        entry["mediaType"] = media_type
    if manifest is not None and manifest.config is not None and manifest.config.media_type:
        entry["configMediaType"] = manifest.config.media_type
    if manifest is not None and manifest.manifests:
        entry["references"] = [_reference(child) for child in manifest.manifests]
    if tags:
        entry["tags"] = list(tags)
    return {**entry, "changeableAttributes": changeable_attributes()}


def tag_entry(name: str, digest: Digest, time: int | None) -> Entry:
    """The entry of one tag; `time` as in `manifest_entry`."""
    entry: Entry = {"name": name, "digest": str(digest), **_times(time)}
    return {**entry, "signed": False, "changeableAttributes": changeable_attributes()}


def tags_by_digest(tags: Iterable[tuple[str, Digest]]) -> dict[Digest, list[str]]:
    """The names of each manifest, sorted."""
    found: dict[Digest, list[str]] = {}
    for name, digest in sorted(tags):
        found.setdefault(digest, []).append(name)
    return found


def _times(time: int | None) -> Entry:
    if time is None:
        return {}
    return {"createdTime": timestamp(time), "lastUpdateTime": timestamp(time)}


def _reference(child: Descriptor) -> Entry:
    entry: Entry = {"digest": str(child.digest)}
    if child.platform is not None:
        entry |= {"architecture": child.platform.architecture, "os": child.platform.os}
    return entry
