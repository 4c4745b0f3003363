"""One blob's bytes in a spool: kept as they come from the source, for a target that cannot resume an upload.

Such a target needs the bytes again, but the source need not send them again: `spoolreader` reads them here.
The digest of the whole decides in the end. If it is wrong, the spool forgets the blob before the retry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from crossdock.events import BlobSpooled
from crossdock.oci.descriptor import Descriptor
from crossdock.tally import Tally
from crossdock.tasks import ended, in_thread
from crossdock.transfer.damage import is_wrong_content
from crossdock.transfer.workshop import Resuming

if TYPE_CHECKING:
    from crossdock.kept.spool import SpooledBlob
    from crossdock.transfer.supply import Piece


class Spooling:
    """One blob's use of the spool, in an ``async with`` block. Without a spool it does nothing."""

    def __init__(self, blob: Descriptor, resuming: Resuming, tally: Tally) -> None:
        self._blob = blob
        self._spool = resuming.spool if blob.size > resuming.above else None
        self._resuming = resuming
        self.chunk_size = resuming.chunk_size
        self._tally = tally
        self.kept: SpooledBlob | None = None
        """The blob in the spool; None: the spool keeps nothing of it."""
        self.brought: Callable[[int], Awaitable[None]] | None = None
        """Waits for a byte that another copy is about to bring; None: there is no other copy."""

    async def __aenter__(self) -> Spooling:
        spool = self._spool
        if spool is not None:
            claim = partial(spool.claim, str(self._blob.digest), self._blob.size)
            claiming = asyncio.ensure_future(asyncio.to_thread(claim))
            try:
                self.kept = await ended(claiming)
            except asyncio.CancelledError:
                if (kept := claiming.result()) is not None:
                    kept.close()
                raise
            self._resuming.warn_of_trouble(self._tally)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.kept is not None:
            self.kept.close()

    def keep(self, pieces: Sequence[Piece]) -> asyncio.Future[None] | None:
        """Keep the pieces, in a thread; they are in use until the returned future is done."""
        return keep(self.kept, pieces)

    async def committed(self) -> None:
        """The target has the blob."""
        if self.kept is not None:
            await in_thread(self.kept.forget)
            self._resuming.warn_of_trouble(self._tally)

    async def failed(self, error: BaseException) -> None:
        """The blob has failed by `error`: forget wrong bytes, keep others for the retry or the next run."""
        if self.kept is None:
            return
        if is_wrong_content(error):
            await in_thread(self.kept.clear)
        elif count := self.kept.kept:
            self._tally.emit(BlobSpooled(self._blob.digest, count, self._blob.size))
        self._resuming.warn_of_trouble(self._tally)


def keep(kept: SpooledBlob | None, pieces: Sequence[Piece]) -> asyncio.Future[None] | None:
    """As `Spooling.keep`."""
    if kept is None:
        return None

    def write() -> None:
        for piece in pieces:
            kept.write(piece.offset, piece.view)

    return asyncio.ensure_future(asyncio.to_thread(write))
