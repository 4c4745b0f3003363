"""Blobs that are too large for a target are found before anything is sent.

The manifests below an index are read anyway, each by its own task. If the target is known to limit the size
of blobs, blobs wait until all of these manifests were compared with the limit: an image that is too large
must not be found after the blobs of the others were sent. That costs no request, only the time of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest


class SizeCheck:
    """The manifests of one copy whose blobs were compared with the target's limits, and those to be."""

    def __init__(self) -> None:
        self._done: set[Digest] = set()
        self._awaited: set[Digest] = set()
        self._nothing_awaited = asyncio.Event()
        self._nothing_awaited.set()

    def done(self, manifest: Descriptor, below: Iterable[Descriptor]) -> None:
        """The blobs of `manifest` are within the limits; those of the manifests `below` it come next."""
        self._done.add(manifest.digest)
        self._awaited |= {each.digest for each in below}
        self._awaited -= self._done
        if self._awaited:
            self._nothing_awaited.clear()
        else:
            self._nothing_awaited.set()

    def forget(self, manifests: Iterable[Descriptor]) -> None:
        """Await none of these any longer; some may not have been copied."""
        self._awaited -= {each.digest for each in manifests}
        if not self._awaited:
            self._nothing_awaited.set()

    async def wait(self) -> None:
        """Return when no manifest is awaited."""
        await self._nothing_awaited.wait()
