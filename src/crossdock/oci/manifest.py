"""Manifests: documents that refer to other content, read from untrusted bytes.

Understood are the OCI image manifest and index, Docker's schema 2 manifest and list, and the deprecated OCI
artifact manifest. A manifest is read only to learn what else must be copied; its bytes travel unchanged.

Which kind a document is decides what is copied, so a document that two clients could read as two kinds is
refused (the OCI advisory on manifest confusion, GHSA-77vh-xpmg-72qh): one with the lists of both, one whose
``mediaType`` is of another kind than the Content-Type, one with a key twice. Two types of one kind may differ
(a registry that labels an OCI manifest as Docker's): then the document's own word counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal, NoReturn

import msgspec

from crossdock.errors import (
    Advice,
    InvalidManifest,
    LimitExceeded,
)
from crossdock.oci import mediatype
from crossdock.oci.descriptor import (
    Descriptor,
    DescriptorJson,
    decode_hook,
    to_annotations,
    to_descriptor,
)
from crossdock.oci.digest import Digest
from crossdock.oci.text import quote, without_half_pairs

_ORAS = (
    f"an ORAS artifact manifest ({mediatype.ORAS_ARTIFACT}), which cannot be copied: "
    "registries no longer take this type"
)
_ORAS_HINT = "ask its publisher to push it again with oras 1.0 or newer, which writes OCI manifests"
_SCHEMA1 = "Docker's old image format, schema 1, cannot be copied: registries no longer take it"

Kind = Literal["image", "index", "artifact"]

LARGE = 100_000  # bytes from which a document is parsed in a thread, and what came of it is kept
SMALL = 16_000  # bytes of an image's manifest, usually; each is read before its blobs and at its push
SMALL_KEPT = 64
LARGE_KEPT = 4  # an image's own index, for some copies at once; each is read at several steps of a copy

_KINDS: dict[str, Kind] = {
    mediatype.OCI_MANIFEST: "image",
    mediatype.DOCKER_MANIFEST: "image",
    mediatype.OCI_INDEX: "index",
    mediatype.DOCKER_LIST: "index",
    mediatype.OCI_ARTIFACT: "artifact",
}
_OCI_TYPES = {
    mediatype.DOCKER_MANIFEST: mediatype.OCI_MANIFEST,
    mediatype.DOCKER_LIST: mediatype.OCI_INDEX,
}
_OWN_FIELDS: dict[Kind, frozenset[str]] = {
    "image": frozenset({"config", "layers"}),
    "index": frozenset({"manifests"}),
    "artifact": frozenset({"blobs"}),
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on one document, so that a hostile one costs little."""

    size: int = 4 << 20  # bytes; what registries accept at least (distribution-spec, "Pushing Manifests")
    values: int = 200_000  # JSON values; the entries below with all their fields are not as many
    depth: int = 32  # JSON nesting; an index with platforms and features needs 5
    entries: int = 10_000  # descriptors in all lists together; Docker's layers end at 127


class Manifest(msgspec.Struct, frozen=True):
    """The references of a manifest. Lists are in the document's order; absent and null lists are empty."""

    media_type: str  # one of the five types understood
    config: Descriptor | None = None  # of an image manifest, where it is always set
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()  # of an index
    blobs: tuple[Descriptor, ...] = ()  # of an artifact manifest
    subject: Descriptor | None = None  # the manifest that this one is about
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return mediatype.is_index(self.media_type)

    def successors(self) -> tuple[Descriptor, ...]:
        """The content that the target needs before this manifest, each digest once, in document order.

        ``subject`` is not among them: it is a weak association (image-spec manifest.md) and may be missing.
        """
        first: dict[Digest, Descriptor] = {}
        for descriptor in self._all():
            first.setdefault(descriptor.digest, descriptor)
        return tuple(first.values())

    def _all(self) -> Iterator[Descriptor]:
        if self.config is not None:
            yield self.config
        yield from self.layers
        yield from self.blobs
        yield from self.manifests


class _ManifestJson(msgspec.Struct, rename="camel"):
    """The union of all kinds on the wire."""

    schema_version: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    config: DescriptorJson | None = None
    layers: list[DescriptorJson] | None = None
    manifests: list[DescriptorJson] | None = None
    blobs: list[DescriptorJson] | None = None
    subject: DescriptorJson | None = None
    annotations: dict[str, str | None] | None = None


_DECODER = msgspec.json.Decoder(_ManifestJson, dec_hook=decode_hook)


def parse_manifest(data: bytes, media_type: str | None = None, limits: Limits | None = None) -> Manifest:
    """The manifest in `data`. `media_type` is what the answer's Content-Type or the parent's descriptor says.

    A small one, and a large one, which a hostile peer can make slow to parse, are parsed once for several
    calls in a row.

    Raises `InvalidManifest` when it is no manifest, of an ambiguous kind, of Docker's schema 1 or breaks its
    specification, and `LimitExceeded` over `limits`.
    """
    parse = _parse_small if len(data) <= SMALL else _parse if len(data) <= LARGE else _parse_large
    return parse(data, media_type, limits or Limits())


def _parse(data: bytes, media_type: str | None, limits: Limits) -> Manifest:
    if len(data) > limits.size:
        _exceeded("manifest", len(data), limits.size, "bytes")
    # Each value but the first of a list or object has a comma before it. Those in strings are counted, too:
    # that is quick, and no real document has as many.
    if (count := sum(map(data.count, (b",", b"{", b"[")))) > limits.values:
        _exceeded("manifest", count, limits.values, "values")
    document = _load(data, limits.depth)
    _refuse_schema1(document, media_type)
    try:
        wire = _DECODER.decode(without_half_pairs(data))
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidManifest(f"invalid manifest: {error}") from None
    resolved = _media_type(document, wire, media_type)
    kind = _KINDS[resolved]
    if kind != "artifact" and wire.schema_version not in (None, 2):
        raise InvalidManifest(f"invalid manifest: schemaVersion is {wire.schema_version}, not 2")
    if kind == "image" and wire.config is None:
        raise InvalidManifest("invalid manifest: an image manifest needs a config, and this one has none")
    lists = (wire.layers, wire.manifests, wire.blobs)
    if (count := sum(len(entries or ()) for entries in lists)) > limits.entries:
        _exceeded("manifest's list", count, limits.entries, "entries")
    manifest = Manifest(
        media_type=resolved,
        config=_one(wire.config),
        layers=_many(wire.layers),
        manifests=_many(wire.manifests),
        blobs=_many(wire.blobs),
        subject=_one(wire.subject),
        artifact_type=wire.artifact_type or None,
        annotations=to_annotations(wire.annotations),
    )
    _refuse_two_sizes(manifest._all())
    return manifest


_parse_small = lru_cache(maxsize=SMALL_KEPT)(_parse)
_parse_large = lru_cache(maxsize=LARGE_KEPT)(_parse)


def _one(wire: DescriptorJson | None) -> Descriptor | None:
    return None if wire is None else to_descriptor(wire)


def _many(wires: Iterable[DescriptorJson] | None) -> tuple[Descriptor, ...]:
    return tuple(to_descriptor(wire) for wire in wires or ())


def _load(data: bytes, depth: int) -> dict[str, Any]:
    """The JSON object in `data`, checked for what a typed decoder lets pass: keys given twice, deep nesting.

    Numbers stay text: nothing here needs them, and a number of a million digits is slow to convert.
    """
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_of_unique_keys,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        _too_deep(depth)
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"invalid manifest: not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise InvalidManifest(f"invalid manifest: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidManifest("invalid manifest: not a JSON object")
    if data.count(b"{") + data.count(b"[") <= depth:
        return document  # too few to be nested deeper
    level: list[Any] = [document]
    for _ in range(depth):
        level = [child for value in level for child in _children(value) if isinstance(child, dict | list)]
        if not level:
            return document
    _too_deep(depth)


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key, count in times.items() if count > 1)
        raise ValueError(f"key {quote(twice)} is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def refuse_old_entries(index: Manifest) -> None:
    """Raise `InvalidManifest` for an index that lists an image of Docker's schema 1 or an ORAS artifact."""
    for entry in index.manifests:
        if mediatype.bare(entry.media_type) == mediatype.ORAS_ARTIFACT:
            raise InvalidManifest(
                f"the index lists {entry.digest}, {_ORAS}",
                advice=Advice("choose-newer-platforms"),
            )
        if mediatype.is_schema1(entry.media_type):
            whose = f" for {entry.platform}" if entry.platform else ""
            raise InvalidManifest(
                f"the index lists {entry.digest}{whose} in an old format: {_SCHEMA1}",
                advice=Advice("choose-newer-platforms"),
            )


def _refuse_schema1(document: dict[str, Any], media_type: str | None) -> None:
    """Raise for schema 1 (M4): layers are in ``fsLayers``, or in the payload of a JSON web signature."""
    declared = document.get("mediaType")
    known = isinstance(declared, str) and mediatype.is_manifest(declared)
    if (
        document.get("schemaVersion") == "1"
        or "fsLayers" in document
        or {"payload", "signatures"} <= document.keys()
        or (isinstance(declared, str) and mediatype.is_schema1(declared))
        or (mediatype.is_schema1(media_type) and not known)
    ):
        raise InvalidManifest(
            _SCHEMA1,
            advice=Advice(
                "convert-image",
                "pull the image with docker or skopeo and push it again, which converts it, "
                "or ask its publisher to rebuild it",
            ),
        )


def _media_type(document: dict[str, Any], wire: _ManifestJson, media_type: str | None) -> str:
    """The document's type: its ``mediaType``, else `media_type`, else by its fields. They must not disagree.

    Docker's documents always state their type, and registries refuse those that do not: one that states none
    is OCI's, whatever `media_type` says.
    """
    declared, given = mediatype.bare(wire.media_type), mediatype.bare(media_type)
    if mediatype.ORAS_ARTIFACT in (declared, None if declared else given):
        raise InvalidManifest(f"it is {_ORAS}", advice=Advice("convert-image", _ORAS_HINT))
    if declared and declared not in _KINDS:
        raise InvalidManifest(f"invalid manifest: {quote(declared)} is not the type of a manifest")
    if declared and given in _KINDS and _KINDS[declared] != _KINDS[given]:
        raise InvalidManifest(f"ambiguous manifest: served as {given}, but its mediaType is {declared}")
    resolved = declared or (_OCI_TYPES.get(given, given) if given in _KINDS else _deduced(document))
    kind = _KINDS[resolved]
    for other, fields in _OWN_FIELDS.items():
        if other != kind and (found := sorted(name for name in fields if document.get(name))):
            raise InvalidManifest(f"ambiguous manifest: it is {resolved} and has {' and '.join(found)}")
    return resolved


def _deduced(document: dict[str, Any]) -> str:
    """The OCI type that the fields show."""
    for media_type in (mediatype.OCI_INDEX, mediatype.OCI_MANIFEST, mediatype.OCI_ARTIFACT):
        if _OWN_FIELDS[_KINDS[media_type]] & document.keys():
            return media_type
    raise InvalidManifest("invalid manifest: it has neither config, layers nor manifests")


def _refuse_two_sizes(descriptors: Iterable[Descriptor]) -> None:
    sizes: dict[Digest, int] = {}
    for descriptor in descriptors:
        size = sizes.setdefault(descriptor.digest, descriptor.size)
        if size != descriptor.size:
            raise InvalidManifest(
                f"invalid manifest: {descriptor.short} is listed with {size} and with {descriptor.size} bytes"
            )


def _too_deep(depth: int) -> NoReturn:
    raise LimitExceeded(f"manifest is nested deeper than the limit of {depth} levels", limit=depth)


def _exceeded(what: str, actual: int, limit: int, unit: str) -> NoReturn:
    raise LimitExceeded(f"{what} has {actual} {unit}, over the limit of {limit}", limit=limit, actual=actual)
