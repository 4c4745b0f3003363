"""Everything that the tags of a repository lead to, for a registry that lists only tags.

A tag leads to its manifest, an index to its children, a manifest to its subject and, where the registry has
the referrers API, to what refers to it. Where it has not, referrers are listed under tags of their own
(distribution-spec, "Referrers Tag Schema"), which are walked like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import InvalidManifest, LimitExceeded, NotFound, ReferrersIncomplete
from crossdock.oci import mediatype
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.protocol import endpoints
from crossdock.protocol.metadata import CONFIG_LIMIT, ImageConfig, has_platform, read_config
from crossdock.reading import read_manifest
from crossdock.registry.manifests import Manifests
from crossdock.registry.pages import OnWarning
from crossdock.registry.referrers import referrers_by_api
from crossdock.registry.tags import list_tags
from crossdock.verify import verify_bytes

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient

A = TypeVar("A")
B = TypeVar("B")

IN_FLIGHT = 16  # questions at once
MOST_MANIFESTS = 200_000  # a registry that lists more makes them up; each takes some KiB here


class Seen(Struct, frozen=True):
    """A manifest that is there. ``manifest`` None: it is not understood, such as Docker's schema 1."""

    descriptor: Descriptor
    manifest: Manifest | None


class Walk:
    """One repository. `tags` first, then `manifests`, then `configs` of those that matter."""

    def __init__(self, client: RegistryClient, repository: str, on_warning: OnWarning | None = None) -> None:
        """`on_warning` is called for entries that are left out of lists."""
        self._repository = Manifests.to_read(client, repository)
        self._has_referrers = True  # until the registry says no
        self._on_warning = on_warning

    async def tags(self) -> dict[str, Descriptor]:
        """The manifest of each tag. # network

        Raises `NotFound` for a repository that is not there, and what requests raise.
        """
        names = await list_tags(self._repository, self._on_warning)
        found = await in_flight(names, self._resolve)
        return {name: descriptor for name, descriptor in found if descriptor is not None}

    async def root(self, reference: str) -> Descriptor:
        """The manifest of one tag or digest. Raises `NotFound`. # network"""
        try:
            return await self._repository.resolve(reference)
        except InvalidManifest:
            return await self._as_stated(reference)

    async def manifests(self, roots: Iterable[Descriptor], *, referrers: bool) -> dict[Digest, Seen]:
        """`roots` and what they lead to, with `referrers` or without; what is not there is not. # network

        Raises `LimitExceeded` over `MOST_MANIFESTS`, `ContentError` for wrong bytes, and what requests raise.
        """
        seen: dict[Digest, Seen] = {}
        met: set[Digest] = set()
        level = {each.digest: each for each in roots}
        while level:
            met |= level.keys()
            if len(met) > MOST_MANIFESTS:
                raise LimitExceeded(f"{self._repository.path} has over {MOST_MANIFESTS} manifests")
            found = await in_flight(level.values(), lambda each: self._visit(each, referrers))
            level = {}
            for one, others in found:
                if one is not None:
                    seen[one.descriptor.digest] = one
                level |= {other.digest: other for other in others if other.digest not in met}
        return seen

    async def configs(self, images: Iterable[Seen]) -> dict[Digest, ImageConfig]:
        """What the configs of images say, by the digests of their manifests. # network"""
        wanted = [
            (each.descriptor.digest, each.manifest.config)
            for each in images
            if each.manifest is not None and each.manifest.config is not None
            if has_platform(each.manifest.config)
        ]
        return dict(await in_flight(wanted, lambda each: self._config(*each)))

    async def _resolve(self, tag: str) -> tuple[str, Descriptor | None]:
        """None for a tag that was deleted since it was listed."""
        try:
            return tag, await self.root(tag)
        except NotFound:
            return tag, None

    async def _as_stated(self, tag: str) -> Descriptor:
        """What the registry says of a document that is not understood. Raises `InvalidDigest` for nothing."""
        path = endpoints.manifest(self._repository.path, tag)
        headers = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
        reply = await self._repository.request("HEAD", path, headers=headers)
        size = reply.headers.get("Content-Length", "")
        digest = Digest(reply.headers.get("Docker-Content-Digest", "").strip())
        media_type = mediatype.bare(reply.headers.get("Content-Type"))
        return Descriptor(media_type, digest, int(size) if size.isdecimal() else 0)

    async def _visit(self, descriptor: Descriptor, referrers: bool) -> tuple[Seen | None, list[Descriptor]]:
        """The manifest, None when it is not there, and what it leads to."""
        if descriptor.media_type and not mediatype.is_manifest(descriptor.media_type):
            return Seen(descriptor, None), []  # by `_as_stated`
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
        if referrers and self._has_referrers:
            others += await self._referrers(descriptor.digest)
        own = replace(descriptor, media_type=manifest.media_type, size=len(data))
        return Seen(own, manifest), others

    async def _referrers(self, digest: Digest) -> Iterable[Descriptor]:
        try:
            listed = await referrers_by_api(self._repository, digest)
        except ReferrersIncomplete as error:
            if self._on_warning is not None:
                self._on_warning(str(error))
            return error.referrers
        self._has_referrers = listed is not None
        return listed or ()

    async def _config(self, digest: Digest, config: Descriptor) -> tuple[Digest, ImageConfig]:
        path = endpoints.blob(self._repository.path, config.digest)
        try:
            reply = await self._repository.request("GET", path, limit=CONFIG_LIMIT)
        except NotFound:
            return digest, ImageConfig()
        verify_bytes(reply.body, config)
        return digest, read_config(reply.body)


async def in_flight(items: Iterable[A], work: Callable[[A], Awaitable[B]]) -> list[B]:
    """`work` of every item, `IN_FLIGHT` at once, in no order. The first failure ends the others."""
    waiting, done = iter(items), list[B]()

    async def take() -> None:
        for item in waiting:
            done.append(await work(item))

    takers = [asyncio.ensure_future(take()) for _ in range(IN_FLIGHT)]
    try:
        await asyncio.gather(*takers)
    finally:
        for taker in takers:
            taker.cancel()
        await asyncio.gather(*takers, return_exceptions=True)
    return done
