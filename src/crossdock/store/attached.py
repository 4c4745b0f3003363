"""Referrers of a manifest of a layout: listed manifests whose subject it is, and tags of its digest.

Clients that write layouts list a referrer in ``index.json`` without a name; some keep the list that the
distribution specification has for registries without its API, under the name ``sha256-<hex>``. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable

from crossdock.errors import ContentError, InvalidDigest, NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.store.indexfile import Entry, name_of


class Attached:
    """Reads each listed manifest once: under its digest it never changes."""

    def __init__(self, read: Callable[[Descriptor], bytes]) -> None:
        """`read` gives a manifest's verified bytes, or raises `NotFound` or `ContentError`."""
        self._read = read
        self._subjects: dict[str, tuple[Digest | None, Descriptor]] = {}

    def has_subject(self, entry: Entry) -> bool:
        """Whether the entry's manifest is about another one."""
        return self._subject_of(entry)[0] is not None

    def referrers(self, entries: list[Entry], digest: Digest) -> list[Descriptor]:
        """The manifests whose subject is `digest`, each once."""
        found: dict[Digest, Descriptor] = {}
        for entry in entries:
            subject, descriptor = self._subject_of(entry)
            if descriptor is None:
                continue
            if subject == digest:
                found[descriptor.digest] = descriptor
            if name_of(entry) == _stem(digest) and (listed := self._parsed(descriptor)) is not None:
                found |= {each.digest: each for each in listed.manifests}
        return list(found.values())

    def tags(self, entries: list[Entry], digest: Digest) -> list[str]:
        """Names that begin with the digest's, as ``sha256-<hex>.sig``."""
        names = {name_of(entry) or "" for entry in entries}
        return sorted(name for name in names if name.startswith(f"{_stem(digest)}."))

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
