"""Foreign layers: their bytes are at the registry, or at the URLs that their descriptor lists.

image-spec descriptor.md ("urls") and layer.md ("Non-Distributable Layers"). The registry is tried first, as
docker does: if the layer itself was pushed, the URLs are not needed. Then each URL in the manifest's order,
as a redirect of the registry would be followed, but without credentials.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    ContentError,
    CrossdockError,
    RedirectRefused,
    RegistryError,
    TransportError,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.registry.blobs.blob import RegistryBlob, RegistryBody

if TYPE_CHECKING:
    from crossdock.registry.handle import Repository

MOST_URLS = 8  # real layers list one or two
_NEXT = (RegistryError, TransportError, RedirectRefused, ContentError)  # what another place may do better


class ForeignBlob:
    """`content.BlobSource` of a foreign layer. The first place that answers serves all of its ranges."""

    def __init__(self, repository: Repository, descriptor: Descriptor) -> None:
        urls = ("", *descriptor.urls[:MOST_URLS])
        self._places = [RegistryBlob(repository, descriptor, url=url) for url in urls]
        self._chosen: RegistryBlob | None = None
        self._choosing = asyncio.Lock()

    async def open(self, start: int, stop: int) -> RegistryBody:
        """As `RegistryBlob.open`, from the first place that has it. # network

        When none has, raises what may pass, if anything did that; else what the last one answered.
        """
        if self._chosen is None:
            async with self._choosing:
                if self._chosen is None:
                    return await self._choose(start, stop)
        return await self._chosen.open(start, stop)

    async def _choose(self, start: int, stop: int) -> RegistryBody:
        failed: list[CrossdockError] = []
        for place in self._places:
            try:
                body = await place.open(start, stop)
            except _NEXT as error:
                failed.append(error)
            else:
                self._chosen = place
                return body
        worst = next((each for each in failed if each.retryable), failed[-1])
        raise worst.replace(advice=Advice("keep-foreign-layers")) from worst.__cause__
