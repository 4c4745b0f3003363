"""Everything that the tags of a repository lead to, for a registry that lists only tags.

A tag leads to its manifest, an index to its children, a manifest to its subject and, where the registry has
the referrers API, to what refers to it. Where it has not, referrers are listed under tags of their own
(distribution-spec, "Referrers Tag Schema"), which are walked like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from crossdock.content import ListsTags
from crossdock.errors import InvalidManifest, LimitExceeded, NotFound, ReferrersIncomplete
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.protocol.metadata import CONFIG_LIMIT, ImageConfig, has_platform, read_config
from crossdock.reading import read_manifest
from crossdock.tasks import run_each

IN_FLIGHT = 16  # questions at once
MOST_MANIFESTS = 200_000  # a registry that lists more makes them up; each takes some KiB here


class Walked(ListsTags, Protocol):
    """A repository of a registry, as a walk asks it."""

    @property
    def name(self) -> str:
        """As people write it."""

    async def describe(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest, even of a document that is not understood."""

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """The manifest's bytes."""

    async def referrers(
        self, digest: Digest, artifact_type: str | None = None, *, may_have_tag: bool = True
    ) -> list[Descriptor]:
        """The referrers of a manifest; without `may_have_tag` only those from the referrers API."""

    async def read_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob as a whole."""


class Seen(Struct, frozen=True):
    """An existing manifest. ``manifest`` is None if it is not understood, such as Docker's schema 1."""

    descriptor: Descriptor
    manifest: Manifest | None


class Walk:
    """One repository. `tags` first, then `manifests`, then `configs` of those that matter."""

    def __init__(self, repository: Walked, on_warning: Callable[[str], None] | None = None) -> None:
        """`on_warning` is called for entries that are left out of lists."""
        self._repository = repository
        self._on_warning = on_warning

    async def tags(self) -> dict[str, Descriptor]:
        """The manifest of each tag. # network

        Raises `NotFound` for a repository that is not there, and what requests raise.
        """
        names = await self._repository.tags(self._on_warning)
        found = await run_each(names, self._resolve, IN_FLIGHT)
        return {name: descriptor for name, descriptor in found if descriptor is not None}

    async def root(self, reference: str) -> Descriptor:
        """The manifest of one tag or digest. Raises `NotFound`. # network"""
        return await self._repository.describe(reference)

    async def manifests(self, roots: Iterable[Descriptor], *, referrers: bool) -> dict[Digest, Seen]:
        """`roots` and the manifests that they lead to, if they exist; with `referrers` or without. # network

        Raises `LimitExceeded` over `MOST_MANIFESTS`, `ContentError` for wrong bytes, and what requests raise.
        """
        seen: dict[Digest, Seen] = {}
        met: set[Digest] = set()
        level = {each.digest: each for each in roots}
        while level:
            met |= level.keys()
            if len(met) > MOST_MANIFESTS:
                raise LimitExceeded(f"{self._repository.name} has over {MOST_MANIFESTS} manifests")
            found = await run_each(level.values(), partial(self._visit, referrers=referrers), IN_FLIGHT)
            level = {}
            for one, others in found:
                if one is not None:
                    seen[one.descriptor.digest] = one
                level |= {other.digest: other for other in others if other.digest not in met}
        return seen

    async def configs(self, images: Iterable[Seen]) -> dict[Digest, ImageConfig]:
        """The configs of images, by the digests of their manifests. # network"""
        wanted = [
            (each.descriptor.digest, each.manifest.config)
            for each in images
            if each.manifest is not None and each.manifest.config is not None
            if has_platform(each.manifest.config)
        ]
        return dict(await run_each(wanted, lambda each: self._config(*each), IN_FLIGHT))

    async def _resolve(self, tag: str) -> tuple[str, Descriptor | None]:
        """The tag and its descriptor; None if it was deleted since it was listed."""
        try:
            return tag, await self.root(tag)
        except NotFound:
            return tag, None

    async def _visit(self, descriptor: Descriptor, referrers: bool) -> tuple[Seen | None, list[Descriptor]]:
        """The manifest (None when it is not there) and the descriptors that it leads to."""
        if descriptor.media_type and not mediatype.is_manifest(descriptor.media_type):
            return Seen(descriptor, None), []  # not understood
        try:
            data = await self._repository.fetch_manifest(descriptor)
            manifest = await read_manifest(data, descriptor.media_type)
        except NotFound:  # a child or subject that was never brought here
            return None, []
        except (InvalidManifest, LimitExceeded):
            return Seen(descriptor, None), []
        others = [
            each
            for each in manifest.manifests
            if not each.media_type or mediatype.is_manifest(each.media_type)
        ]
        if manifest.subject is not None:
            others.append(manifest.subject)
        if referrers:
            others += await self._referrers(descriptor.digest)
        own = replace(descriptor, media_type=manifest.media_type, size=len(data))
        return Seen(own, manifest), others

    async def _referrers(self, digest: Digest) -> Iterable[Descriptor]:
        try:
            return await self._repository.referrers(digest, may_have_tag=False)
        except ReferrersIncomplete as error:
            if self._on_warning is not None:
                self._on_warning(str(error))
            return error.referrers

    async def _config(self, digest: Digest, config: Descriptor) -> tuple[Digest, ImageConfig]:
        try:
            return digest, read_config(await self._repository.read_blob(config, CONFIG_LIMIT))
        except NotFound:
            return digest, ImageConfig()
