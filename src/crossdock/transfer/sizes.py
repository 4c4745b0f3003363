"""Sizes that a target does not take are found before anything is sent.

The manifests below an index are read anyway, each by its own task. Where the target is known to take no blob
over a size, blobs wait until the last of these manifests was compared with it: one image that is too large
must not show after the bytes of the others. That needs no further request, and the time of one manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest


class SizeCheck:
    """The manifests of one copy whose blobs were compared with the target's limits, and those to come."""

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
        """Some of these were not copied, and none is awaited any longer."""
        self._awaited -= {each.digest for each in manifests}
        if not self._awaited:
            self._nothing_awaited.set()

    async def wait(self) -> None:
        """Until no manifest is awaited."""
        await self._nothing_awaited.wait()
