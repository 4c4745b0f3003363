"""Referrers of a manifest of a layout: listed manifests whose subject it is, and tags of its digest.

Clients that write layouts list a referrer in ``index.json`` without a name; some keep the list that the
distribution specification has for registries without its API, under the name ``sha256-<hex>``. In archives of
many repositories such a tag stands at the end of ``host/repository:sha256-<hex>.sig``. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable

from crossdock.errors import ContentError, InvalidDigest, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.store.indexfile import Entry, name_of, tag_in


class Attached:
    """Reads each listed manifest once: under its digest it never changes."""

    def __init__(self, read: Callable[[Descriptor], bytes]) -> None:
        """`read` gives a manifest's verified bytes, or raises `NotFound` or `ContentError`."""
        self._read = read
        self._subjects: dict[str, tuple[Digest | None, Descriptor | None]] = {}
        self._sorted: list[Entry] | None = None  # the entries that the two below were made of
        self._referrers: dict[Digest, dict[Digest, Descriptor]] = {}
        self._named: dict[str, list[tuple[str, Descriptor | None]]] = {}  # by the tag up to its dot

    def has_subject(self, entry: Entry) -> bool:
        """Whether the entry's manifest is about another one."""
        return self._subject_of(entry)[0] is not None

    def referrers(self, entries: list[Entry], digest: Digest) -> list[Descriptor]:
        """The manifests whose subject is `digest`, each once."""
        self._sort(entries)
        found = dict(self._referrers.get(digest, {}))
        stem = _stem(digest)
        for name, descriptor in self._named.get(stem, []):
            if tag_in(name) == stem and descriptor is not None and (listed := self._parsed(descriptor)):
                found |= {each.digest: each for each in listed.manifests}
        return list(found.values())

    def names(self, entries: list[Entry], digest: Digest) -> list[str]:
        """Names whose tag begins with the digest's, as ``sha256-<hex>.sig``."""
        self._sort(entries)
        stem = _stem(digest)
        return sorted({name for name, _ in self._named.get(stem, []) if tag_in(name).startswith(f"{stem}.")})

    def _sort(self, entries: list[Entry]) -> None:
        if self._sorted is entries:
            return
        self._referrers, self._named = {}, {}
        for entry in entries:
            subject, descriptor = self._subject_of(entry)
            if subject is not None and descriptor is not None:
                self._referrers.setdefault(subject, {})[descriptor.digest] = descriptor
            name = name_of(entry)
            if name is not None and (tag := tag_in(name)).startswith("sha"):
                self._named.setdefault(tag.partition(".")[0], []).append((name, descriptor))
        self._sorted = entries

    def _subject_of(self, entry: Entry) -> tuple[Digest | None, Descriptor | None]:
        """The entry's subject, if it has one, and the entry as a value, if it is one."""
        key = entry["digest"]
        if key not in self._subjects:
            try:
                found = Descriptor(str(entry.get("mediaType") or ""), Digest(key), entry["size"])
            except InvalidDigest:
                return None, None
            manifest = self._parsed(found)
            subject = manifest.subject.digest if manifest is not None and manifest.subject else None
            self._subjects[key] = subject, found
        return self._subjects[key]

    def _parsed(self, descriptor: Descriptor) -> Manifest | None:
        try:
            return parse_manifest(self._read(descriptor), descriptor.media_type)
        except (NotFound, ContentError):
            return None


def _stem(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.encoded}"
