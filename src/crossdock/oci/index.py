"""What ``--platform`` needs of an index: the entry of a platform, and an index with some of its entries."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from crossdock.errors import InvalidManifest
from crossdock.oci.descriptor import Descriptor, PlatformJson, to_platform
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.platform import Platform, matches


def matching(index: Manifest, wanted: Platform) -> Descriptor | None:
    """The entry for a platform: of those that match, the first of exactly its variant, else the first.

    image-spec image-index.md: "If multiple manifests match a client or runtime's requirements, the first
    matching entry SHOULD be used." Entries without a platform and attestations (``unknown/unknown``) never
    match.
    """
    found = [entry for entry in index.manifests if entry.platform and matches(wanted, entry.platform)]
    variant = wanted.normalised().variant
    exact = (entry for entry in found if entry.platform and entry.platform.normalised().variant == variant)
    return next(exact, found[0] if found else None)


def filter_index(data: bytes, keep: Collection[Digest]) -> bytes:
    """The index in `data` with only the entries whose digest is in `keep`.

    Every other field, the order of all fields and the order of the entries stay, each value in its own
    spelling; white space goes. The same input gives the same bytes, and so the same digest. Raises
    `InvalidManifest`.
    """
    try:
        fields = msgspec.json.decode(data.decode("utf-8"), type=dict[str, msgspec.Raw])
        entries = msgspec.json.decode(fields["manifests"], type=list[msgspec.Raw])
        kept = [entry for entry in entries if msgspec.json.decode(entry, type=_Entry).digest in keep]
        document = {**fields, "manifests": kept}
        return msgspec.json.format(msgspec.json.encode(document), indent=-1)
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"invalid index: {error}") from None


class _Entry(msgspec.Struct):
    digest: str


def platform_of_config(config: bytes) -> Platform | None:
    """The platform that an image's config states; None when it states none or is not an image's config."""
    try:
        return to_platform(msgspec.json.decode(config, type=PlatformJson))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
