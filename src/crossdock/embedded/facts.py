"""A repository's cache of facts about its manifests, whose bytes never change.

A manifest has up to 4 MiB and may take tenths of a second to parse, so it is parsed once. The cached facts
are small: type, digest and size of each child, shared by all indexes that list it, and short annotations.
Longer ones are read again when a list of referrers needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from crossdock.errors import ContentError, NotFound
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest, parse_manifest
from crossdock.protocol.metadata import image_size
from crossdock.store.indexfile import Entry

ANNOTATIONS_KEPT = 16 << 10  # characters of one manifest's annotations


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one manifest."""

    media_type: str = ""  # as in the document; empty if it cannot be parsed
    children: tuple[Descriptor, ...] = ()  # of an index; only type, digest and size
    subject: Digest | None = None
    referrer: Entry | None = None  # its descriptor in a list of referrers, if it has a subject
    is_whole: bool = True  # whether `referrer` has all its annotations
    image_size: int = 0  # bytes of config, layers and blobs


UNKNOWN = Facts()  # such a manifest is served unchanged


class FactBook:
    """The facts of one repository. Safe to share between threads."""

    def __init__(self, read: Callable[[Descriptor], bytes]) -> None:
        """`read` returns a manifest's bytes, or raises `NotFound` or `ContentError`."""
        self._read = read
        self._facts: dict[Digest, Facts] = {}
        self._shared: dict[Descriptor, Descriptor] = {}
        self._mutex = threading.Lock()  # threads that need the same facts wait for the first to parse them

    def of(self, descriptor: Descriptor) -> Facts:
        """The facts of a manifest, which is read if needed."""
        known = self._facts.get(descriptor.digest)
        if known is not None:
            return known
        with self._mutex:
            known = self._facts.get(descriptor.digest)
            if known is not None:
                return known
            manifest = self._parsed(descriptor)
            return self._keep(descriptor, manifest) if manifest is not None else UNKNOWN

    def learn(self, descriptor: Descriptor, manifest: Manifest) -> None:
        """Keep the facts of a manifest that was just parsed."""
        with self._mutex:
            self._keep(descriptor, manifest)

    def referrer(self, descriptor: Descriptor) -> Entry | None:
        """The manifest's descriptor in a list of referrers, with all its annotations."""
        facts = self.of(descriptor)
        if facts.is_whole:
            return facts.referrer
        manifest = self._parsed(descriptor)
        return facts.referrer if manifest is None else _referrer(descriptor, manifest)

    def forget_all_but(self, digests: Container[Digest]) -> None:
        """Drop the facts of manifests that no longer exist."""
        with self._mutex:
            self._facts = {digest: facts for digest, facts in self._facts.items() if digest in digests}
            children = (child for facts in self._facts.values() for child in facts.children)
            self._shared = {child: child for child in children}

    def _parsed(self, descriptor: Descriptor) -> Manifest | None:
        try:
            return parse_manifest(self._read(descriptor), descriptor.media_type)
        except (ContentError, NotFound):
            return None

    def _keep(self, descriptor: Descriptor, manifest: Manifest) -> Facts:
        is_whole = sum(map(_length, (manifest.annotations or {}).items())) <= ANNOTATIONS_KEPT
        referrer = None
        if manifest.subject is not None:
            referrer = _referrer(descriptor, manifest if is_whole else replace(manifest, annotations=None))
        facts = Facts(
            media_type=manifest.media_type,
            children=tuple(map(self._share, manifest.manifests)),
            subject=manifest.subject.digest if manifest.subject is not None else None,
            referrer=referrer,
            is_whole=is_whole or referrer is None,
            image_size=image_size(manifest),
        )
        self._facts[descriptor.digest] = facts
        return facts

    def _share(self, child: Descriptor) -> Descriptor:
        small = Descriptor(child.media_type, child.digest, child.size)
        return self._shared.setdefault(small, small)


def _length(annotation: tuple[str, str]) -> int:
    return len(annotation[0]) + len(annotation[1])


def _referrer(descriptor: Descriptor, manifest: Manifest) -> Entry:
    # distribution-spec, "Listing Referrers": artifactType, else the config's media type; an index without
    # artifactType gets none. "The descriptors MUST include annotations from the image manifest or index."
    artifact_type = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if mediatype.listed(artifact_type):
        entry["artifactType"] = artifact_type
    if manifest.annotations:
        entry["annotations"] = manifest.annotations
    return entry
