"""The meaning of a name that several entries of a layout's ``index.json`` have, or when none has a name.

Some tools list the platforms of an image in ``index.json`` itself, under one name or none. Such entries are
one index, of which platforms can be chosen. Others give one name to an image, its signatures and its
attestations: cosign and hauler tell them apart by the annotation ``kind``. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from crossdock.errors import (
    Advice,
    ContentError,
    NotFound,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.index import platform_of_config
from crossdock.oci.manifest import parse_manifest
from crossdock.oci.mediatype import OCI_INDEX
from crossdock.oci.platform import Platform
from crossdock.store.indexfile import IMAGE_NAME, REF_NAME, Entry, name_of, names_of

LISTED = 10  # tags and platforms that an error names
LISTED_DIGESTS = 4
MOST_PLATFORMS = 100  # entries of one image whose configs may have to be read
_KIND = "kind"

ReadBlob = Callable[[Digest], bytes]


def join_platforms(entries: list[Entry], read: ReadBlob) -> list[Entry] | None:
    """The entries of one image with platforms of its own, as an index lists them; None: they are not that.

    They are when no two have different names, and each has another platform: its entry's, else its config's.
    Attestations may be among them. `read` gives a blob's bytes, or raises `NotFound` or `ContentError`.
    """
    if len({name_of(entry) for entry in entries}) > 1 or len(entries) > MOST_PLATFORMS:
        return None
    joined: list[Entry] = []
    seen: dict[Platform, str] = {}
    for entry in entries:
        platform = _platform_of(entry, read)
        if platform is None:
            return None
        if (
            not platform.is_unknown
            and seen.setdefault(platform.normalised(), entry["digest"]) != entry["digest"]
        ):
            return None
        joined.append(_unnamed(entry, platform))
    return joined if seen else None


def platforms_of(joined: list[Entry]) -> list[str]:
    """How a person writes the platforms of joined entries, sorted."""
    found = {Descriptor.from_json(entry).platform for entry in joined}
    return sorted(str(each) for each in found if each is not None and not each.is_unknown)


def index_document(joined: list[Entry]) -> bytes:
    """The index that the entries would be."""
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": joined})


def several_named(place: str, tag: str, entries: list[Entry]) -> ContentError:
    """A tag of `place` means several manifests, for a person who has to name one of them."""
    names = sorted({str(names_of(entry)[-1]) for entry in entries})
    if len(names) > 1:
        return ContentError(
            f"tag {tag} in {place} means several manifests: {listed(names)}",
            advice=Advice("choose-tag", f"name one by its whole name or by digest ({place}@sha256:…)"),
        )
    words = [f"{entry['digest']}{_kind(entry)}" for entry in entries]
    return ContentError(
        f"tag {tag} in {place} means several manifests: {listed(words, LISTED_DIGESTS)}",
        advice=Advice("choose-tag", f"name one by digest: {place}@{entries[0]['digest']}"),
    )


def listed(names: list[str], most: int = LISTED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _kind(entry: Entry) -> str:
    """The kind or type that an entry states, in brackets."""
    kind = (entry.get("annotations") or {}).get(_KIND) or entry.get("mediaType")
    return f" ({kind})" if isinstance(kind, str) and kind.isprintable() else ""


def _platform_of(entry: Entry, read: ReadBlob) -> Platform | None:
    try:
        found = Descriptor.from_json(entry)
        if found.platform is not None:
            return found.platform
        config = parse_manifest(read(found.digest), found.media_type).config
        return platform_of_config(read(config.digest)) if config is not None else None
    except (ContentError, NotFound):
        return None


def _unnamed(entry: Entry, platform: Platform) -> Entry:
    """The entry as an index lists it: with its platform, without the layout's names."""
    names = (REF_NAME, IMAGE_NAME)
    kept = {key: value for key, value in (entry.get("annotations") or {}).items() if key not in names}
    stated = Descriptor("", Digest(entry["digest"]), 0, platform=platform).to_json()["platform"]
    plain = {key: value for key, value in entry.items() if key != "annotations"}
    return {**plain, **({"annotations": kept} if kept else {}), "platform": entry.get("platform") or stated}
