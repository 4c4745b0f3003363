"""The spool of blobs that are read for several targets: one file of a blob for all of them.

Whoever reads the source fills the file: the shared read, or a target that reads for itself. So a target that
was left behind, or has to send bytes again, finds here what was read for others, and the source sends them
once. That serves blobs of any size that does not fit a slot; a spool of a single copy only keeps those over
`Resuming.above`. The file is removed when every target has the blob, and stays if one failed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.descriptors import affordable
from crossdock.kept.spoolfile import BLOCK
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.tasks import ended, in_thread
from crossdock.transfer.damage import is_wrong_content
from crossdock.transfer.spooling import Spooling
from crossdock.transfer.workshop import Resuming

if TYPE_CHECKING:
    from crossdock.kept.spool import SpooledBlob
    from crossdock.transfer.fanout import TargetReads
    from crossdock.transfer.sharedread import SharedBlob

MOST_FILES = 64  # that wait for a target that lags; each has two descriptors open


class SharedFile:
    """One blob's file, from its first use until every target has the blob."""

    def __init__(self, shared: SharedBlob, resuming: Resuming, lacking: set[TargetReads]) -> None:
        """`lacking` are the targets that may need the blob."""
        self.shared = shared
        self.blob = shared.blob
        self.resuming = resuming
        self.lacking = lacking
        self.failed: set[TargetReads] = set()
        """Targets that failed to get the blob; a later run may bring it to them."""
        self.is_told = False
        """Whether it was reported that bytes are kept for a later run."""
        self._claiming: asyncio.Future[SpooledBlob | None] | None = None

    async def claim(self, tally: Tally) -> SpooledBlob | None:
        """The bytes on disk, the same for all; None: the spool keeps nothing of this blob."""
        if self._claiming is None:
            spool = self.resuming.spool
            assert spool is not None
            claim = asyncio.to_thread(spool.claim, str(self.blob.digest), self.blob.size)
            self._claiming = asyncio.ensure_future(claim)
        kept = await asyncio.shield(self._claiming)
        self.resuming.warn_of_trouble(tally)
        return kept

    def use(self, target: TargetReads, tally: Tally) -> Spooling:
        """The target's use of it."""
        return SharedSpooling(self, target, tally)

    async def close(self) -> None:
        """End the last use: remove the file if every target has the blob. Safe to call twice."""
        if self._claiming is None:
            return
        kept = await ended(self._claiming)
        if kept is None:
            return
        if not (self.failed or self.lacking):
            await in_thread(kept.forget)
        kept.close()


class SharedSpooling(Spooling):
    """A target's use of the file of one blob."""

    def __init__(self, file: SharedFile, target: TargetReads, tally: Tally) -> None:
        super().__init__(file.blob, file.resuming, tally)
        self._file = file
        self._target = target
        self.brought = self._await_others

    async def __aenter__(self) -> SharedSpooling:
        self.kept = await self._file.claim(self._tally)
        return self

    async def __aexit__(self, *_: object) -> None:
        """The file stays open for the others."""

    async def _await_others(self, offset: int) -> None:
        """Return when the byte at `offset` is kept, or no other target is about to bring it."""
        kept = self.kept
        while kept is not None and offset < kept.room and not kept.has(offset):
            if not await self._file.shared.goes_on((offset // BLOCK + 1) * BLOCK):
                return

    async def committed(self) -> None:
        """This target has the blob."""
        self._file.failed.discard(self._target)
        self._resuming.warn_of_trouble(self._tally)

    async def failed(self, error: BaseException) -> None:
        """As `Spooling.failed`; the kept bytes are reported once for all targets."""
        self._file.failed.add(self._target)
        if not self._file.is_told or is_wrong_content(error):
            self._file.is_told = not is_wrong_content(error)
            await super().failed(error)


class SharedSpool:
    """The files of the blobs that are read for several targets."""

    def __init__(self, resuming: Resuming) -> None:
        self._resuming = resuming
        self._files: dict[Digest, SharedFile] = {}
        self._ended: list[SharedFile] = []  # to be closed
        self._most = affordable(MOST_FILES, per=8)

    def file(self, shared: SharedBlob, lacking: set[TargetReads]) -> SharedFile | None:
        """The file of a blob; None when too many are open. `lacking` is as for `SharedFile`, if it is new."""
        digest = shared.blob.digest
        found = self._files.get(digest)
        if found is None and len(self._files) + len(self._ended) < self._most:
            found = self._files[digest] = SharedFile(shared, self._resuming, lacking)
        return found

    def settled(self, target: TargetReads, digest: Digest | None) -> bool:
        """The target has the blob (None: all), or will not have it. Returns whether there is any to close."""
        for each in (digest,) if digest is not None else tuple(self._files):
            file = self._files.get(each)
            if file is not None:
                file.lacking.discard(target)
                if not file.lacking:
                    self._ended.append(self._files.pop(each))
        return bool(self._ended)

    async def close_ended(self) -> None:
        """Close the files that no target needs any more."""
        for file in tuple(self._ended):
            await file.close()
            if file in self._ended:
                self._ended.remove(file)

    async def close(self) -> None:
        """Close every file."""
        self._ended += self._files.values()
        self._files.clear()
        await self.close_ended()
