"""The content that an ``index.json`` lists, as a `content.Source`: of a layout's folder, or of an archive.

Names: a tag is looked for as the annotation ``org.opencontainers.image.ref.name`` exactly; then as a whole
image name, as containerd and BuildKit write it in ``io.containerd.image.name``; then as the tag at the end of
such names, when that means one manifest. What is not found so is looked for in the indexes that
``index.json`` lists, whose manifests may have names of their own. A digest is looked for in the index and
then among the blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

from crossdock.content import BlobSource, ManifestRow
from crossdock.errors import Advice, ContentError, NotFound
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Limits, parse_manifest
from crossdock.store.attached import Attached
from crossdock.store.indexfile import Entry, entries_by_tag, name_of, names_of, tag_in, tags_of
from crossdock.store.several import index_document, join_platforms, listed, platforms_of, several_named
from crossdock.tasks import in_thread
from crossdock.verify import verify_bytes, verify_manifest

DEPTH = 4  # of indexes in indexes whose names are looked for
MOST_INDEXES = 1000  # that are read for it
PLATFORM_LIMIT = 4096  # characters of the platform that an entry of the index states


class Blobs(Protocol):
    """Blobs by digest. Blocking."""

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when it is not there. Raises `StoreError`."""

    def read(self, digest: Digest, limit: int) -> bytes:
        """A small blob, unverified. Raises `NotFound`, `LimitExceeded`, `StoreError`."""


class IndexedSource:
    """The content at `path`. A subclass gives `name`, `blob` and the entries of the index.

    With `joins_platforms` the manifests of several platforms that ``index.json`` lists under one name, or all
    without one, are resolved to an index of them, which exists in memory only: for a choice of platforms.
    """

    def __init__(self, path: Path, blobs: Blobs, *, joins_platforms: bool) -> None:
        self.path = path
        self._blobs = blobs
        self._joins_platforms = joins_platforms
        self._joined: dict[Digest, bytes] = {}
        self._limits = Limits()
        self._indexes: dict[str, list[Entry]] = {}  # what indexes list that may have names
        self._attached = Attached(self.read_manifest)

    @property
    def name(self) -> str:
        """As `content.Source.name`."""
        raise NotImplementedError

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """As `content.Source.blob`."""
        raise NotImplementedError

    def _entries(self) -> list[Entry]:
        """The entries of the index. Blocking."""
        raise NotImplementedError

    async def tags(self, on_warning: Callable[[str], None] | None = None) -> list[str]:
        """Every tag, sorted; nothing is left out and warned of. Raises `StoreError`, `ContentError`.

        Whole image names are listed where there is no tag, or where it means several images.
        """
        entries = await in_thread(self.listed)
        return sorted({name for name, _ in tags_of(entries)})

    async def list_manifests(
        self,
        on_warning: Callable[[str], None] | None = None,
        *,
        untagged: bool = False,
        needed: bool = False,
    ) -> list[ManifestRow] | None:
        """Every manifest that has a name or that ``index.json`` lists, with its tags; it keeps no times.

        None when a tag has several manifests: what it means is for `resolve` to say. Raises as `tags`.
        """
        rows: dict[Digest, ManifestRow] = {}
        owners: dict[str, Digest] = {}
        entries = await in_thread(self.listed)
        names = {id(entry): name for name, entry in tags_of(entries)}
        for entry in entries:
            digest, tag = Digest.parse(entry["digest"]), names.get(id(entry))
            if tag and owners.setdefault(tag, digest) != digest:
                return None
            tags = rows[digest].tags if digest in rows else ()
            media_type = entry.get("mediaType")
            rows[digest] = ManifestRow(
                digest,
                tuple(dict.fromkeys((*tags, tag))) if tag else tags,
                media_type if isinstance(media_type, str) else "",
            )
        return list(rows.values())

    async def resolve(self, reference: str = "") -> Descriptor:
        """The descriptor behind a tag or digest; an empty reference means the only manifest there is.

        Raises `NotFound` (the tags that exist are named), `ContentError` (damaged, or the name means
        several manifests), `StoreError`.
        """
        return await in_thread(self._resolve, reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes, digest verified. Raises `NotFound`, `ContentError`, `StoreError`."""
        return await in_thread(self.read_manifest, descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """The listed manifests whose subject is `digest`, and the tags that are made of it."""
        referrers, names = await in_thread(self.attached_to, digest)
        return referrers, sorted({tag_in(name) for name in names})

    # -- in a thread ---------------------------------------------------------------------------------

    def attached_to(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """The listed manifests whose subject is `digest`, and the names whose tag is made of it."""
        return self._referrers(digest), self._attached.names(self._entries(), digest)

    def _referrers(self, digest: Digest) -> list[Descriptor]:
        return self._attached.referrers(self._entries(), digest)

    def _resolve(self, reference: str) -> Descriptor:
        entries = self._entries()
        if reference.startswith(("sha256:", "sha512:")):
            return self._by_digest(entries, Digest.parse(reference))
        if not reference:
            return self._only(entries)
        for candidates in chain(entries_by_tag(entries, reference), self._nested_by_tag(entries, reference)):
            if len({entry["digest"] for entry in candidates}) == 1:
                return self.descriptor_of(candidates[0])
            if candidates:
                if (joined := join_platforms(candidates, self._read_small)) is None:
                    raise several_named(self.name, reference, candidates)
                return self._join(joined, f"tag {reference} in {self.path} means")
        raise NotFound(f"no tag {reference} in {self.path}; {_tags_sentence(self.listed())}")

    def _nested_by_tag(self, entries: list[Entry], tag: str) -> Iterator[list[Entry]]:
        yield from entries_by_tag(self._nested(entries), tag)

    def listed(self) -> list[Entry]:
        """The entries of ``index.json``, and those with a name in the indexes that it lists."""
        entries = self._entries()
        return entries + self._nested(entries)

    def _nested(self, entries: list[Entry]) -> list[Entry]:
        """The entries with a name in the indexes below; an index that cannot be read has none."""
        named: list[Entry] = []
        seen: set[str] = set()
        level = entries
        for _ in range(DEPTH):
            below: list[Entry] = []
            for entry in level:
                if not mediatype.is_index(entry.get("mediaType")) or entry["digest"] in seen:
                    continue
                if len(seen) < MOST_INDEXES:
                    seen.add(entry["digest"])
                    below += self._listed_in(entry)
            named += [entry for entry in below if names_of(entry)]
            level = below
        return named

    def _listed_in(self, entry: Entry) -> list[Entry]:
        """The entries of a listed index."""
        if entry["digest"] not in self._indexes:
            found: list[Entry] = []
            with suppress(NotFound, ContentError):
                data = self.read_manifest(Descriptor.from_json(entry))
                found = [each.to_json() for each in parse_manifest(data, None, self._limits).manifests]
            self._indexes[entry["digest"]] = [each for each in found if _may_have_names(each)]
        return self._indexes[entry["digest"]]

    def _only(self, entries: list[Entry]) -> Descriptor:
        """The only manifest that has tags, or the only one: manifests that lost their tag do not count.

        Referrers and tags of digests do not count either.
        """
        named = [entry for entry in entries if not tag_in(name_of(entry) or "").startswith("sha256-")]
        candidates = [entry for entry in named if names_of(entry)] or named
        if len({entry["digest"] for entry in candidates}) > 1:
            candidates = [each for each in candidates if not self._attached.has_subject(each)] or candidates
        candidates = candidates or entries
        if len({entry["digest"] for entry in candidates}) == 1:
            return self.descriptor_of(candidates[0])
        if not entries:
            raise NotFound(
                f"{self.path} holds no manifest", advice=Advice("check-folder", "copy an image into it first")
            )
        if (joined := join_platforms(candidates, self._read_small)) is not None:
            return self._join(joined, f"{self.path} holds, and none was named,")
        raise ContentError(
            f"{self.path} holds {len(candidates)} manifests and none was named; {_tags_sentence(entries)}",
            advice=Advice("choose-tag", f"write {self.name}:TAG or {self.name}@DIGEST"),
        )

    def _join(self, joined: list[Entry], what: str) -> Descriptor:
        """An index of manifests of several platforms, if platforms will be chosen of it."""
        if not self._joins_platforms:
            raise ContentError(
                f"{what} manifests for these platforms: {listed(platforms_of(joined))}",
                advice=Advice("choose-platform-or-digest", file=self.name),
            )
        data = index_document(joined)
        digest = Digest.of(data)
        self._joined[digest] = data
        return Descriptor(mediatype.OCI_INDEX, digest, len(data))

    def _read_small(self, digest: Digest) -> bytes:
        """The bytes of a manifest or of a config."""
        data = self._blobs.read(digest, self._limits.size)
        verify_bytes(data, Descriptor("", digest, len(data)))
        return data

    def _by_digest(self, entries: list[Entry], digest: Digest) -> Descriptor:
        for entry in entries:
            if entry["digest"] == digest:
                return self.descriptor_of(entry)
        if self._blobs.size(digest) is None:
            raise NotFound(f"no manifest {digest} in {self.path}")
        data = self._blobs.read(digest, self._limits.size)
        return Descriptor(parse_manifest(data, None, self._limits).media_type, digest, len(data))

    def descriptor_of(self, entry: Entry) -> Descriptor:
        """The entry as a value, without its annotations: the tag is not copied with it."""
        try:
            found = Descriptor.from_json(entry)
        except ContentError as error:
            raise ContentError(
                f"{self.path}/index.json is damaged: {error}",
                advice=Advice("recreate-layout", "copy the content into a new folder"),
            ) from error
        media_type = found.media_type
        if not media_type:
            data = self.read_manifest(found)
            media_type = parse_manifest(data, None, self._limits).media_type
        return Descriptor(
            media_type, found.digest, found.size, platform=found.platform, artifact_type=found.artifact_type
        )

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """As `fetch_manifest`."""
        if (joined := self._joined.get(descriptor.digest)) is not None:
            return joined
        data = self._blobs.read(descriptor.digest, self._limits.size)
        verify_manifest(data, descriptor)
        return data


def index_entry(descriptor: Descriptor, data: bytes | None) -> Entry:
    """The entry of ``index.json`` for the manifest `data`, with platform and artifactType where known."""
    manifest = None if data is None else parse_manifest(data, descriptor.media_type)
    artifact_type = descriptor.artifact_type or (manifest.artifact_type if manifest else None)
    platform = descriptor.platform
    if platform is not None and len(repr(platform)) > PLATFORM_LIMIT:
        platform = None  # an entry would be as large as the index that states it
    return Descriptor(
        manifest.media_type if manifest else descriptor.media_type,
        descriptor.digest,
        descriptor.size,
        platform=platform,
        artifact_type=mediatype.listed(artifact_type),
    ).to_json()


def _may_have_names(entry: Entry) -> bool:
    return bool(names_of(entry)) or mediatype.is_index(entry.get("mediaType"))


def _tags_sentence(entries: list[Entry]) -> str:
    tags = sorted({name for name, _ in tags_of(entries)})
    return f"its tags are {listed(tags)}" if tags else "it has no tags"
