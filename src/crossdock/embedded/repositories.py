"""The repositories of a registry, as OCI layouts in folders. Blocking; call it in a thread.

Repository ``team/app`` is the layout in ``ROOT/team/app``, as in zot, so every repository is an ordinary
layout: `skopeo inspect oci:ROOT/team/app:v1` reads it, a layout copied to ROOT is served, and `cp -r`
extracts one. Path components that a layout itself uses (``blobs``, ``index.json``, ``oci-layout``) get an
underscore appended, with which no name can end. If ROOT itself is a layout, it is the repository named after
the folder.

A repository knows a manifest if ``index.json`` or a known index lists it; all other files under ``blobs`` are
blobs. So an untagged child needs no entry, and gets one when its last index is deleted.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from crossdock.embedded.acr.locks import FILE_NAME as LOCKS_FILE
from crossdock.embedded.acr.locks import is_listed
from crossdock.embedded.facts import FactBook
from crossdock.embedded.responses import Refused
from crossdock.errors import ContentError
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.reference import is_repository, is_tag
from crossdock.store.blobfiles import BlobFiles, remove_stale
from crossdock.store.files import explained
from crossdock.store.folder import Folder
from crossdock.store.indexfile import (
    Entry,
    IndexFile,
    add_untagged,
    drop_tag,
    entries_by_tag,
    name_of,
    set_tag,
)

UPLOADS_FOLDER = ".uploads"  # no repository name begins with a dot
MANIFEST_LIMIT = 4 << 20  # bytes; distribution-spec: "at least 4 megabytes"
KEPT = 1024  # repositories whose parsed index is cached

_RESERVED = ("blobs", "index.json", "oci-layout")


class Repositories:
    """All repositories under `root`, which is created if missing. Raises OSError if that fails."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._top = Folder(root)
        self._kept: dict[str, Repository] = {}
        self._mutex = threading.Lock()
        self._root_name = _name_for(root) if (root / "oci-layout").is_file() else None

    def at(self, name: str) -> Repository:
        """The repository named `name`, which need not exist yet."""
        with self._mutex:
            found = self._kept.pop(name, None) or Repository(name, self._folder(name))
            self._kept[name] = found
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return found

    def existing(self, name: str) -> Repository:
        """The repository named `name`. Raises `Refused` with NAME_UNKNOWN."""
        found = self.at(name)
        if not found.index.exists():
            raise Refused("NAME_UNKNOWN", "repository name not known to registry", detail={"name": name})
        return found

    def delete(self, name: str) -> None:
        """Delete the repository `name`, not those below its folder. Raises `Refused`, `StoreError`."""
        self.existing(name).remove()
        with self._mutex:
            self._kept.pop(name, None)

    def names(self) -> list[str]:
        """The names of all repositories, sorted, except those that locks hide from lists (`acr.locks`)."""
        is_root = self._root_name and (self.root / "index.json").is_file() and is_listed(self._top)
        names = {self._root_name} if self._root_name and is_root else set()
        for folder, folders, files, _ in os.fwalk(self.root):  # does not follow links
            folders[:] = [each for each in folders if not each.startswith(".")]
            if "oci-layout" in files and "index.json" in files:
                folders[:] = [each for each in folders if each != "blobs"]
                parts = Path(folder).relative_to(self.root).parts
                name = "/".join(part.removesuffix("_") for part in parts)
                if is_repository(name) and is_listed(self._top.below(*parts)):
                    names.add(name)
        return sorted(names)

    def _folder(self, name: str) -> Folder:
        if name == self._root_name:
            return self._top
        return self._top.below(*(f"{part}_" if part in _RESERVED else part for part in name.split("/")))


class Repository:
    """One layout with the verbs of the distribution specification. Safe to share between threads."""

    def __init__(self, name: str, folder: Folder) -> None:
        self.name = name
        self.files = BlobFiles(folder)
        self.index = IndexFile(folder)
        self._swept = False  # whether temporary files of a killed server have been removed
        self.facts = FactBook(self.read)
        self.reading = asyncio.Lock()  # held by the request that reads the index, while others wait
        self._listing = threading.Lock()  # threads that need the same list wait for the first to build it
        self._known: tuple[list[Entry], dict[Digest, Descriptor]] = ([], {})

    # -- reading -------------------------------------------------------------------------------------

    def tags(self) -> list[str]:
        """All tags in the index, in ASCII order."""
        return sorted({tag for entry in self.index.entries() if (tag := name_of(entry)) and is_tag(tag)})

    def manifest(self, reference: str) -> Descriptor:
        """The manifest of a tag or digest, with the type and size of its document.

        ``index.json``, or an index that lists it, may state others, but clients compare the Content-Type with
        the document. Raises `Refused` with MANIFEST_UNKNOWN.
        """
        if ":" in reference:
            found = self.known().get(parse_digest(reference))
        else:
            found = self._by_tag(reference)
        size = None if found is None else self.files.size(found.digest)
        if found is None or size is None:
            raise Refused("MANIFEST_UNKNOWN", "manifest unknown", detail={"reference": reference})
        media_type = self.facts.of(found).media_type
        if not media_type and mediatype.is_manifest(found.media_type):
            media_type = found.media_type
        return replace(found, media_type=media_type, size=size)

    def read(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest."""
        return self.files.read(descriptor.digest, MANIFEST_LIMIT)

    def known(self) -> dict[Digest, Descriptor]:
        """Every manifest of the repository."""
        entries = self.index.entries()
        held, known = self._known
        if held is not entries:
            with self._listing:
                held, known = self._known
                if held is not entries:
                    known = self._closure(entries)
                    self.facts.forget_all_but(known)
                    self._known = entries, known
        return known

    @property
    def is_unread(self) -> bool:
        """Whether the next look-up of a digest has to read the index and its manifests."""
        return not self._known[0]

    def referrers(
        self, subject: Digest, *, artifact_type: str = "", after: str = "", room: int
    ) -> tuple[list[Entry], bool]:
        """Descriptors of the manifests whose subject is `subject`, and whether there are more.

        They have artifactType and annotations, are sorted by digest, start after `after`, and take about
        `room` bytes of JSON.
        """
        page: list[Entry] = []
        for digest, descriptor in sorted(self.known().items()):
            facts = self.facts.of(descriptor)
            if digest <= after or facts.subject != subject or facts.referrer is None:
                continue
            if artifact_type and facts.referrer.get("artifactType") != artifact_type:
                continue
            entry = self.facts.referrer(descriptor)
            if entry is None:
                continue
            room -= len(msgspec.json.encode(entry, enc_hook=str))
            if page and room < 0:
                return page, True
            page.append(entry)
        return page, False

    # -- writing -------------------------------------------------------------------------------------

    def put_manifest(
        self, descriptor: Descriptor, manifest: Manifest, data: bytes, tags: Sequence[str]
    ) -> None:
        """Store a manifest whose bytes are verified, and point `tags` to it.

        Raises `Refused` if content that it references is missing, `StoreError`.
        """
        self.check_references(manifest)
        self.index.create()
        if not self._swept:
            remove_stale(self.files.folder)
            self._swept = True
        writer = self.files.writer()
        try:
            writer.write(memoryview(data))
            writer.commit(self.files, descriptor.digest)
        finally:
            writer.discard()
        self.facts.learn(descriptor, manifest)
        entry = Descriptor(
            descriptor.media_type,
            descriptor.digest,
            descriptor.size,
            artifact_type=mediatype.listed(manifest.artifact_type),
        ).to_json()

        def change(entries: list[Entry]) -> None:
            for tag in tags:
                set_tag(entries, entry, tag)
            if not tags and descriptor.digest not in self._closure(entries):
                add_untagged(entries, entry)
            inside = {child.digest for child in manifest.manifests}
            entries[:] = [old for old in entries if name_of(old) or old["digest"] not in inside]

        self.index.update(change)
        self._known = [], {}  # even if the index is unchanged, a missing child may have arrived

    def check_references(self, manifest: Manifest) -> None:
        """Check that all content the manifest references is present. Raises `Refused` for missing content.

        ``subject`` may be missing: "A registry MUST initially accept an otherwise valid manifest with a
        subject field that references a manifest that does not exist in the repository" (distribution-spec).
        """
        missing = []
        manifests = self.known() if manifest.is_index and self.index.exists() else {}
        for needed in manifest.successors():
            size = self.files.size(needed.digest)
            if manifest.is_index and (not needed.media_type or mediatype.is_manifest(needed.media_type)):
                if needed.digest not in manifests:  # the same bytes may be a blob, for example a layer
                    missing.append(needed)
            elif size is None and not (needed.urls and mediatype.is_foreign_layer(needed.media_type)):
                missing.append(needed)
            elif size is not None and size != needed.size and not manifest.is_index:
                # Sizes in lists of manifests may be wrong, and distribution does not compare them.
                raise Refused(
                    "MANIFEST_INVALID",
                    f"{needed.digest} has {size} bytes, but the manifest states {needed.size}",
                    detail={"digest": needed.digest, "size": size},
                )
        if missing:
            problems = [
                ("manifest references content unknown to registry", {"digest": each.digest})
                for each in missing
            ]
            raise Refused(
                "MANIFEST_BLOB_UNKNOWN", problems[0][0], detail=problems[0][1], also=tuple(problems[1:100])
            )

    def delete_tag(self, tag: str) -> None:
        """Delete the tag; its manifest stays. Raises `Refused` with MANIFEST_UNKNOWN."""
        found = []
        self.index.update(lambda entries: found.append(drop_tag(entries, tag)))
        if not any(found):
            raise Refused("MANIFEST_UNKNOWN", "tag unknown", detail={"tag": tag})

    def delete_manifest(self, digest: Digest) -> None:
        """Delete the manifest with all its tags; an index's children stay. Raises `Refused`, `StoreError`."""
        descriptor = self.manifest(digest)
        children = self.facts.of(descriptor).children

        def change(entries: list[Entry]) -> None:
            entries[:] = [entry for entry in entries if entry["digest"] != digest]
            known = self._closure(entries)
            for child in children:
                if child.digest not in known and self.files.size(child.digest) is not None:
                    add_untagged(entries, child.to_json())

        self.index.update(change)
        self.files.remove(digest)
        self._known = [], {}

    def delete_blob(self, digest: Digest) -> None:
        """Delete the blob. Raises `Refused`: BLOB_UNKNOWN, or UNSUPPORTED for a manifest."""
        if digest in self.known():
            raise Refused("UNSUPPORTED", "this is a manifest: delete it under /manifests/")
        if not self.files.remove(digest):
            raise Refused("BLOB_UNKNOWN", "blob unknown to registry", detail={"digest": digest})

    def remove(self) -> None:
        """Delete everything, ``index.json`` first, so that a crash leaves no repository.

        Raises `StoreError`.
        """
        self.index.remove()
        with (
            explained("cannot delete", self.files.root),
            suppress(FileNotFoundError),
            self.files.folder.entered() as folder,
        ):
            for name in (LOCKS_FILE, "oci-layout"):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            shutil.rmtree("blobs", dir_fd=folder)

    # -- inside --------------------------------------------------------------------------------------

    def _by_tag(self, tag: str) -> Descriptor | None:
        for candidates in entries_by_tag(self.index.entries(), tag):
            if len({entry["digest"] for entry in candidates}) == 1:
                return _descriptor(candidates[0])
            if candidates:
                return None
        return None

    def _closure(self, entries: Iterable[Entry]) -> dict[Digest, Descriptor]:
        known: dict[Digest, Descriptor] = {}
        pending = [found for entry in entries if (found := _descriptor(entry))]
        while pending:
            descriptor = pending.pop()
            if descriptor.digest in known or self.files.size(descriptor.digest) is None:
                continue
            known[descriptor.digest] = descriptor
            if not descriptor.media_type or mediatype.is_index(descriptor.media_type):
                pending += self.facts.of(descriptor).children
        return known


def parse_digest(text: str) -> Digest:
    """The digest in a path or query. Raises `Refused` with DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise Refused("DIGEST_INVALID", str(error), detail={"digest": text}) from None


def _descriptor(entry: Entry) -> Descriptor | None:
    """An entry as a descriptor; None for an unknown form, which is kept unchanged."""
    try:
        return Descriptor.from_json({**entry, "annotations": None})
    except ContentError:
        return None


def _name_for(folder: Path) -> str:
    """A repository name from a folder's name: lower case, other characters as dashes, else ``layout``."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return name or "layout"
