"""Pushes of manifests that touch the same content take turns.

Distribution 2 writes the link of a manifest anew at each push, and reads an empty one meanwhile. It then
refuses an index that lists the manifest with ``MANIFEST_BLOB_UNKNOWN``, and the manifest itself when it is
pushed under two tags at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

_Content = tuple[str, str]  # repository and digest


class Pushes:
    """The pushes of manifests under way at one registry."""

    def __init__(self) -> None:
        self._written: set[_Content] = set()
        self._read: dict[_Content, int] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def turn(self, repository: str, digest: str, below: Iterable[str] = ()) -> AsyncIterator[bool]:
        """The block that pushes the manifest `digest`, which lists the manifests `below`.

        Entered when no other block of the repository pushes the same manifest, one of those below, or one
        that lists it. Yields whether another push of the same manifest was waited for.
        """
        written = repository, digest
        read = [(repository, each) for each in below]
        has_waited = False
        while written in self._written or written in self._read or not self._written.isdisjoint(read):
            has_waited = has_waited or written in self._written
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._written.add(written)
        for each in read:
            self._read[each] = self._read.get(each, 0) + 1
        try:
            yield has_waited
        finally:
            self._written.discard(written)
            for each in read:
                self._read[each] -= 1
                if not self._read[each]:
                    del self._read[each]
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():
                    turn.set_result(None)
