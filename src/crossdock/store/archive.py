"""A whole archive of either kind: its images by their full names, and the blobs that are left out of it.

An archive that was written without the blobs of another one lists them (`archivetarget.LEFT_OUT`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from crossdock.content import BlobSource, Source
from crossdock.errors import InvalidDigest, InvalidReference
from crossdock.oci.archivereference import DockerArchiveReference, OciArchiveReference
from crossdock.oci.attachedtag import is_attached_tag, subject_of
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Limits, parse_manifest
from crossdock.oci.mediatype import is_manifest
from crossdock.oci.platform import Platform, matches
from crossdock.oci.reference import Location, Reference
from crossdock.store.archivetarget import LEFT_OUT, Held, LeftOut, digest_of_path
from crossdock.store.dockerarchive import DockerArchive
from crossdock.store.files import damaged
from crossdock.store.indexfile import INDEX_LIMIT, names_of
from crossdock.store.ociarchive import OciArchive, TarBlobs
from crossdock.store.tarindex import TarIndex
from crossdock.tasks import in_thread

DEPTH = 8  # of indexes in indexes and of referrers of referrers

Below = tuple[list[Descriptor], list[Descriptor]]
"""The manifests and the blobs that a manifest lists."""


class Named(msgspec.Struct, frozen=True):
    """An image of an archive: its name there, and the name as a reference."""

    name: str
    reference: Reference


class Archive:
    """The archive in `tar`, which is called `path`: with ``index.json`` a layout, else one of docker."""

    def __init__(self, path: str, tar: TarIndex) -> None:
        """Raises `StoreError`, `ContentError`, `LimitExceeded`, `NotFound`."""
        self._path = path
        self._tar = tar
        is_layout = tar.find("index.json") is not None or tar.find("manifest.json") is None
        self._layout = OciArchive(path, tar) if is_layout else None
        self._docker = DockerArchive(path, tar) if not is_layout else None
        self._blobs = TarBlobs(tar)
        self._limits = Limits()
        self._read: dict[Digest, Below] = {}
        self._by_name: dict[str, list[Descriptor]] = {}
        if self._layout is not None:
            for entry in self._layout.listed():
                for name in dict.fromkeys(names_of(entry)):
                    self._by_name.setdefault(name, []).append(self._layout.descriptor_of(entry))
        self.left_out = self._read_left_out()
        """The blobs that are left out."""

    @property
    def source(self) -> OciArchive | DockerArchive:
        """The archive as a source, in which names are looked up."""
        source = self._layout or self._docker
        assert source is not None
        return source

    def location(self, name: str) -> Location:
        """The reference to an image by its name here. Raises `InvalidReference`."""
        kind = OciArchiveReference if self._layout is not None else DockerArchiveReference
        return kind(self._path, name)

    def images(self) -> list[Named]:
        """The images with a whole name. Not among them is what is attached to another by a tag."""
        found: dict[str, Named] = {}
        for name in self._names():
            reference = _whole(name)
            if reference is not None and not self._is_attached(reference.tag):
                found[name] = Named(name, reference)
        return list(found.values())

    def nameless(self) -> list[str]:
        """The images without a whole name, as they can be chosen: a tag, ``@N`` or ``@DIGEST``."""
        if self._docker is not None:
            images = enumerate(self._docker.names())
            return [f"@{at}" for at, names in images if not names]
        found = [name for name in self._names() if _whole(name) is None and not self._is_attached(name)]
        without = [str(entry["digest"]) for entry in self._listed() if not names_of(entry)]
        if without:
            parts = {manifest.digest for image in self.images() for manifest, _ in self.walk(image)}
            found += [f"@{digest}" for digest in without if digest not in parts]
        return found

    def held(self) -> dict[Digest, Held]:
        """The blobs that are here, and those that are left out: the target had to have them before.

        Raises `ContentError`, `StoreError`.
        """
        repositories: dict[Digest, dict[str, None]] = {}
        for image in self.images():
            for _, blobs in self.walk(image):
                for blob in blobs:
                    repositories.setdefault(blob.digest, {})[image.reference.repository] = None
        found = dict(self.left_out)
        for name in self._tar.names():
            digest, member = digest_of_path(name), self._tar.find(name)
            if digest is not None and member is not None:
                found[digest] = Held(member.size, tuple(repositories.get(digest, ())))
        return found

    def walk(
        self, image: Named, platforms: Sequence[Platform] = (), *, referrers: bool = True
    ) -> Iterator[tuple[Descriptor, list[Descriptor]]]:
        """The manifests of an image, of `platforms` if there are any, each with its blobs.

        With `referrers` those that refer to them, too. Nothing in an archive of docker without a layout.
        Raises `ContentError`, `NotFound`, `StoreError`.
        """
        if self._layout is None:
            return
        level, seen = self._by_name[image.name], set[Digest]()
        for _ in range(DEPTH):
            below: list[Descriptor] = []
            for manifest in level:
                if manifest.digest not in seen:
                    seen.add(manifest.digest)
                    manifests, blobs = self._below(manifest)
                    yield manifest, blobs
                    below += [each for each in manifests if _is_chosen(each, platforms)]
                    if referrers:
                        attached, names = self._attached_to(manifest.digest, image.reference.locator)
                        below += attached
                        below += [each for name in names for each in self._by_name[name]]
            level = below

    def attached(self, digest: Digest, repository: str) -> tuple[list[Descriptor], list[str]]:
        """As `content.FindsAttached.attached`, in ``host/repository``."""
        referrers, names = self._attached_to(digest, repository)
        return referrers, sorted({name.rpartition(":")[2] for name in names})

    def find(self, name: str) -> Descriptor | None:
        """The image of this name exactly; None where there is none, or where it means several."""
        found = {each.digest: each for each in self._by_name.get(name, [])}
        return next(iter(found.values())) if len(found) == 1 else None

    def digests(self, image: Named) -> set[Digest]:
        """The manifests that the name means: one, unless it is ambiguous; none where that is not known."""
        return {each.digest for each in self._by_name.get(image.name, [])}

    def is_left_out(self, digest: Digest) -> bool:
        """Whether another archive has the blob, and this one does not."""
        return digest in self.left_out and self._blobs.size(digest) is None

    def close(self) -> None:
        """Close the file."""
        self._tar.data.close()

    def _names(self) -> list[str]:
        """The name of each image that has one, the whole one where there are two."""
        if self._docker is not None:
            return [name for names in self._docker.names() for name in names]
        return list(dict.fromkeys(names_of(entry)[-1] for entry in self._listed() if names_of(entry)))

    def _listed(self) -> list[dict[str, object]]:
        return self._layout.listed() if self._layout is not None else []

    def _is_attached(self, tag: str | None) -> bool:
        """Whether the tag is made of the digest of a manifest that is here."""
        if tag is None or not is_attached_tag(tag):
            return False
        subject = subject_of(tag)
        return subject is not None and self._blobs.size(subject) is not None

    def _attached_to(self, digest: Digest, repository: str) -> tuple[list[Descriptor], list[str]]:
        """The referrers of a manifest, and the names in the repository whose tag is made of its digest."""
        if self._layout is None:
            return [], []
        referrers, names = self._layout.attached_to(digest)
        return referrers, [name for name in names if _belongs(name, repository)]

    def _below(self, descriptor: Descriptor) -> Below:
        """The manifests and blobs that a manifest lists; none if it is not here: indexes may list such."""
        if self._layout is None or self._blobs.size(descriptor.digest) is None:
            return [], []
        if descriptor.digest not in self._read:
            data = self._layout.read_manifest(descriptor)
            listed = parse_manifest(data, descriptor.media_type or None, self._limits).successors()
            manifests = [each for each in listed if not each.media_type or is_manifest(each.media_type)]
            blobs = [each for each in listed if each not in manifests]
            self._read[descriptor.digest] = manifests, blobs
        return self._read[descriptor.digest]

    def _read_left_out(self) -> dict[Digest, Held]:
        if self._tar.find(LEFT_OUT) is None:
            return {}
        try:
            found = msgspec.json.decode(self._tar.read(LEFT_OUT, INDEX_LIMIT), type=LeftOut)
            return {Digest(text): held for text, held in found.blobs.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, InvalidDigest) as error:
            raise damaged(self._tar.data.path, f"{LEFT_OUT} is no list of blobs ({error})") from None


class ArchivedRepository:
    """The images of ``host/repository`` in an archive, and what is attached to them (`content.Source`)."""

    def __init__(self, archive: Archive, repository: str, elsewhere: Mapping[Digest, Source]) -> None:
        """`elsewhere`: repositories that have the blobs which are left out."""
        self._archive = archive
        self._repository = repository
        self._elsewhere = elsewhere

    @property
    def name(self) -> str:
        """As `content.Source.name`."""
        return self._archive.source.name

    async def resolve(self, reference: str) -> Descriptor:
        """As `Source.resolve`; a tag that is made of a digest is one of the repository."""
        name = f"{self._repository}:{reference}" if is_attached_tag(reference) else reference
        # A layout that somebody else packed has such a tag as it is.
        return self._archive.find(name) or await self._archive.source.resolve(reference)

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """As `Source.fetch_manifest`."""
        return await self._archive.source.fetch_manifest(descriptor)

    def blob(self, descriptor: Descriptor) -> BlobSource:
        """As `Source.blob`."""
        if self._archive.is_left_out(descriptor.digest) and descriptor.digest in self._elsewhere:
            return self._elsewhere[descriptor.digest].blob(descriptor)
        return self._archive.source.blob(descriptor)

    async def attached(self, digest: Digest) -> tuple[list[Descriptor], list[str]]:
        """As `content.FindsAttached.attached`."""
        return await in_thread(self._archive.attached, digest, self._repository)


def _whole(name: str) -> Reference | None:
    """The name as a reference, as docker reads it; None for a tag alone."""
    if not any(mark in name for mark in "/:@"):
        return None
    try:
        return Reference.parse(name)
    except InvalidReference:
        return None


def _is_chosen(manifest: Descriptor, platforms: Sequence[Platform]) -> bool:
    """Whether a manifest that an index lists may be of one of `platforms`."""
    offered = manifest.platform
    return not platforms or offered is None or any(matches(wanted, offered) for wanted in platforms)


def _belongs(name: str, repository: str) -> bool:
    """Whether a name with a tag that is made of a digest is one of the repository, or of none."""
    return ":" not in name or name.rpartition(":")[0] == repository
