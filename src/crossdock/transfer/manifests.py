"""The manifests of one copy: fetched from the source, looked for at the target, and put there."""

from __future__ import annotations

import asyncio

from crossdock.content import Source
from crossdock.errors import CopyError, LimitExceeded, was_refused
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.transfer.inline import inline_bytes
from crossdock.transfer.sides import TargetSide

MANIFESTS_AT_ONCE = 16  # regsync's default parallelism; each is one or two small requests
MANIFEST_BYTES = 256 << 20  # of one graph: a manifest stays in memory until all below it is copied


class Manifests:
    """Requests for manifests at both sides, `MANIFESTS_AT_ONCE` at a time. All raise `CopyError`."""

    def __init__(self, source: Source, target: TargetSide, *, rereads: bool) -> None:
        """`rereads`: only what was read back counts as being at the target."""
        self.refused: CopyError | None = None
        """The first `look` that the target refused."""
        self._source = source
        self._target = target
        self._rereads = rereads
        self._places = asyncio.Semaphore(MANIFESTS_AT_ONCE)
        self._bytes = 0

    async def fetch(self, descriptor: Descriptor) -> bytes:
        """The source's bytes, or those in the descriptor. # network"""
        with during("fetch manifest from", "source", f"{self._source.name}@{descriptor.digest}"):
            data = inline_bytes(descriptor)
            if data is None:
                async with self._places:
                    data = await self._source.fetch_manifest(descriptor)  # network
            self._count(data)
            return data

    async def find(self, name: str, shown: str) -> bytes | None:
        """The target's manifest under a tag or digest; errors call it `shown`. # network"""
        with during("resolve", "target", shown):
            async with self._places:
                data = await self._target.target.find_manifest(name)  # network
            self._count(data or b"")
            return data

    async def look(self, name: str, shown: str, *, needed: bool = False) -> bytes | None:
        """As `find`, where it only saves work: None as well when the target refuses to say. # network

        Unless it is `needed`.
        """
        try:
            return await self.find(name, shown)
        except CopyError as error:
            if needed or not was_refused(error):
                raise
            self.refused = self.refused or error
            return None

    async def has(self, descriptor: Descriptor) -> bool:
        """Whether the target has it under its digest. # network"""
        shown = f"{self._target.name}@{descriptor.digest}"
        checking = self._target.checks_manifests
        if checking is None or self._rereads:
            return descriptor.digest.matches(await self.find(descriptor.digest, shown) or b"")
        with during("check manifest at", "target", shown):
            async with self._places:
                return await checking.has_manifest(descriptor)  # network

    async def is_pushed(self, descriptor: Descriptor) -> bool:
        """Whether what was found under the digest is certainly not a mere blob. # network"""
        checking = self._target.checks_manifests
        if checking is None:  # what is below it is looked for anyway
            return True
        with during("check manifest at", "target", f"{self._target.name}@{descriptor.digest}"):
            async with self._places:
                return await checking.is_pushed_manifest(descriptor)  # network

    async def put(self, descriptor: Descriptor, data: bytes, tag: str | None, *, refers: bool) -> None:
        """PUT the manifest; it is tagged, or listed at its subject, only after it was read back. # network"""
        if self._rereads:
            await self._target.target.push_manifest(descriptor, data, None)
            from crossdock.transfer.reread import reread_manifest  # only needed for verify="reread"

            await reread_manifest(descriptor, self._target)
            if tag is None and not refers:
                return
        async with self._places:
            if refers and self._target.lists_referrers is not None:
                await self._target.lists_referrers.push_referrer(descriptor, data)
            else:
                await self._target.target.push_manifest(descriptor, data, tag)

    def _count(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MANIFEST_BYTES:
            raise LimitExceeded(f"the manifests of one copy are over the limit of {MANIFEST_BYTES} bytes")
