"""Choosing platforms of an index: the entry of a platform, and an index with other entries."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from crossdock.errors import InvalidManifest
from crossdock.oci.descriptor import PlatformJson, to_platform
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.platform import Platform, matches
from crossdock.oci.text import without_half_pairs

_ATTESTS = "vnd.docker.reference.digest"  # BuildKit's annotation: the manifest that an attestation is about


def matching(offered: Sequence[Platform | None], wanted: Platform) -> int | None:
    """Where in `offered` a platform is: the first match of exactly its variant, else the first match.

    image-spec image-index.md: "If multiple manifests match a client or runtime's requirements, the first
    matching entry SHOULD be used." None and attestations (``unknown/unknown``) never match.
    """
    found = [at for at, each in enumerate(offered) if each is not None and matches(wanted, each)]
    exact = (at for at in found if _has_variant(offered[at], wanted))
    return next(exact, found[0] if found else None)


def offers_exactly(offered: Sequence[Platform | None], wanted: Platform) -> bool:
    """Whether nothing behind `offered` could be a better match for `wanted`."""
    at = matching(offered, wanted)
    return at is not None and _has_variant(offered[at], wanted)


def _has_variant(offered: Platform | None, wanted: Platform) -> bool:
    return offered is not None and offered.normalised().variant == wanted.normalised().variant


def attestations(index: Manifest, subjects: Collection[Digest]) -> list[int]:
    """Where the index lists BuildKit's attestations of `subjects`: entries of no platform that name one."""
    return [
        at
        for at, entry in enumerate(index.manifests)
        if (entry.annotations or {}).get(_ATTESTS) in subjects
        and (entry.platform is None or entry.platform.is_unknown)
    ]


def raw_entries(data: bytes) -> list[msgspec.Raw]:
    """The entries of the index in `data`, each in its own spelling. Raises `InvalidManifest`."""
    try:
        return msgspec.json.decode(_fields(data)["manifests"], type=list[msgspec.Raw])
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"invalid index: {error}") from None


def with_entries(data: bytes, entries: Sequence[msgspec.Raw]) -> bytes:
    """The index in `data` with its entries replaced by these.

    Every other field and the order of all fields stay, each value in its own spelling; white space goes. The
    same input gives the same bytes, and so the same digest. Raises `InvalidManifest`.
    """
    try:
        document = {**_fields(data), "manifests": list(entries)}
        return msgspec.json.format(msgspec.json.encode(document), indent=-1)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"invalid index: {error}") from None


def _fields(data: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(without_half_pairs(data).decode("utf-8"), type=dict[str, msgspec.Raw])


def platform_of_config(config: bytes) -> Platform | None:
    """The platform that an image's config states; None when it states none or is not an image's config."""
    try:
        return to_platform(msgspec.json.decode(without_half_pairs(config), type=PlatformJson))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
