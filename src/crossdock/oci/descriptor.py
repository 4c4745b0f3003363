"""Descriptors: type, digest and size of content, and what else an index or manifest says about it.

image-spec descriptor.md. Parsing checks what crossdock acts on; unknown fields are left alone, since
documents are copied as bytes and never written back from these values.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec

from crossdock.errors import InvalidManifest
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.oci.text import quote

MAX_SIZE = (1 << 63) - 1  # descriptor.md: "size int64"


class Descriptor(msgspec.Struct, frozen=True):
    """Content by digest. Equal when all fields are; hashed by its digest."""

    media_type: str  # empty when the document leaves it out, which only matters for manifests
    digest: Digest
    size: int  # bytes
    urls: tuple[str, ...] = ()  # other places of a foreign layer
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None
    data: str | None = None  # the content itself in base64, unchecked

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Descriptor({self.media_type!r}, {self.digest!r}, {self.size})"  # the rest may be long

    @property
    def is_index(self) -> bool:
        """Whether the content lists manifests, by the type that this descriptor states."""
        return mediatype.is_index(self.media_type)

    @property
    def short(self) -> str:
        """``sha256:ab12cd34ef56…``, for messages."""
        return self.digest.short

    @classmethod
    def from_json(cls, value: object) -> Descriptor:
        """The descriptor in a decoded JSON value. Raises `InvalidManifest`."""
        try:
            return to_descriptor(msgspec.convert(value, DescriptorJson, dec_hook=decode_hook))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidManifest(f"invalid descriptor: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The JSON object, fields in the specification's order, those not set left out."""
        document: dict[str, Any] = {"mediaType": self.media_type}
        document |= {"digest": str(self.digest), "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations is not None:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = _platform_json(self.platform)
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        return document


class PlatformJson(msgspec.Struct):
    """``platform`` on the wire. Go writes null for an empty list, so null is the same as absent."""

    architecture: str | None = None
    os: str | None = None
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: list[str | None] | None = msgspec.field(name="os.features", default=None)
    variant: str | None = None


class DescriptorJson(msgspec.Struct, rename="camel"):
    """A descriptor on the wire."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
    media_type: str | None = None
    urls: list[str | None] | None = None
    annotations: dict[str, str | None] | None = None
    platform: PlatformJson | None = None
    artifact_type: str | None = None
    data: Any = None  # optional, so anything but text is left alone

    def __post_init__(self) -> None:
        # Media types travel in HTTP headers, where a line break would start another header.
        for each in (self.media_type, self.artifact_type):
            if each and not (each.isascii() and each.isprintable()):
                raise ValueError(f"{quote(each)} is not a media type")
            if each and len(each) > mediatype.TYPE_LIMIT:
                raise ValueError(
                    f"a media type has {len(each)} characters, over the limit of {mediatype.TYPE_LIMIT}"
                )


def decode_hook(wanted: type, value: object) -> object:
    """msgspec's way to the one type that is ours. Its errors come out with the place in the document."""
    if wanted is Digest and isinstance(value, str):
        return Digest(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def to_platform(wire: PlatformJson | None) -> Platform | None:
    """The value of a ``platform`` field; None when it is absent or says nothing."""
    if wire is None or not (wire.os or wire.architecture):
        return None
    return Platform(
        os=wire.os or "",
        architecture=wire.architecture or "",
        variant=wire.variant or "",
        os_version=wire.os_version or "",
        os_features=tuple(filter(None, wire.os_features or ())),
    )


def to_annotations(wire: dict[str, str | None] | None) -> dict[str, str] | None:
    """The annotations that have a value: some tools write null for none, which Go reads as an empty text."""
    if not wire or None not in wire.values():
        return cast("dict[str, str] | None", wire)
    return {key: value for key, value in wire.items() if value is not None}


def to_descriptor(wire: DescriptorJson) -> Descriptor:
    """The value of a checked descriptor."""
    return Descriptor(
        wire.media_type or "",
        wire.digest,
        wire.size,
        tuple(filter(None, wire.urls or ())),
        to_annotations(wire.annotations),
        to_platform(wire.platform),
        wire.artifact_type,
        wire.data if isinstance(wire.data, str) else None,
    )


def _platform_json(platform: Platform) -> dict[str, Any]:
    document: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        document["os.version"] = platform.os_version
    if platform.os_features:
        document["os.features"] = list(platform.os_features)
    if platform.variant:
        document["variant"] = platform.variant
    return document
