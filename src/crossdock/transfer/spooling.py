"""One blob's bytes in a spool: kept as they come from the source, given again where that must begin anew.

A target that cannot go on with an upload costs the whole way twice, but the source's part of it only once.
What is kept are blocks, in any order and with holes: what is there comes from the disk, what is not there,
or is found damaged, from the source. The digest of the whole decides in the end. If it is wrong, what was
kept is forgotten before the blob is tried once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from crossdock._kernels import Slot
from crossdock.events import BlobSpooled
from crossdock.oci.descriptor import Descriptor
from crossdock.transfer.damage import is_wrong_content
from crossdock.transfer.ranges import PIECES_AT_ONCE, Piece, RangedReader, Supply
from crossdock.transfer.resume import CHUNKS_AHEAD, Resuming
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import ended, in_thread

if TYPE_CHECKING:
    from crossdock.kept.spool import SpooledBlob

BLOCK = 64 * 1024  # what a spool keeps is here or not here in multiples of it; a slot has one or more


class Reader(Protocol):
    """As `ranges.RangedReader`."""

    async def next_pieces(self) -> Sequence[Piece]:
        """The next bytes."""

    def allow(self, limit: int | None) -> None:
        """Bytes before `limit` may be asked for."""

    async def close(self) -> None:
        """End every request and give back every slot."""


OpenSource = Callable[[int, int | None], RangedReader]
"""``(start, limit)`` → the source's bytes from there on."""


class Spooling:
    """One blob's part of the spool. Use it in an ``async with`` block. Without a spool it does nothing."""

    def __init__(self, blob: Descriptor, resuming: Resuming, tally: Tally) -> None:
        self._blob = blob
        self._spool = resuming.spool if blob.size > resuming.above else None
        self._resuming = resuming
        self.chunk_size = resuming.chunk_size
        self._tally = tally
        self.kept: SpooledBlob | None = None
        """What the spool has of the blob, and keeps; None: nothing is kept."""

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
        """Keep the pieces, in a thread; until what is returned is done, somebody reads them."""
        kept = self.kept
        if kept is None:
            return None

        def write() -> None:
            for piece in pieces:
                kept.write(piece.offset, piece.view)

        return asyncio.ensure_future(asyncio.to_thread(write))

    async def committed(self) -> None:
        """The target has the blob."""
        if self.kept is not None:
            await in_thread(self.kept.forget)
            self._resuming.warn_of_trouble(self._tally)

    async def failed(self, error: BaseException) -> None:
        """The blob has failed by `error`: keep what is here for the next try or process, or nothing."""
        if self.kept is None:
            return
        if is_wrong_content(error):
            await in_thread(self.kept.clear)
        elif count := self.kept.kept:
            self._tally.emit(BlobSpooled(self._blob.digest, count, self._blob.size))
        self._resuming.warn_of_trouble(self._tally)


class SpooledReader:
    """As `RangedReader`: what the spool has is read there, each hole between by a reader of the source."""

    def __init__(
        self,
        kept: SpooledBlob,
        open_source: OpenSource,
        supply: Supply,
        size: int,
        *,
        start: int,
        boundary: int | None,
        limit: int | None,
        chunk_size: int,
        on_given: Callable[[int], None],
    ) -> None:
        """At most `CHUNKS_AHEAD` chunks are asked for past what was given. `on_given` hears what was kept."""
        self._kept = kept
        self._open_source = open_source
        self._supply = supply
        self._size = size
        self._position = start
        self._boundary = boundary
        self._chunk_size = chunk_size
        self._on_given = on_given
        self._limit = limit
        self._source: RangedReader | None = None
        self._hole_stop = size

    async def next_pieces(self) -> Sequence[Piece]:
        """As `RangedReader.next_pieces`."""
        while self._position < self._size:
            if self._source is None and self._kept.has(self._position):
                pieces = await self._from_spool()
                if pieces:  # else it was damaged, and is not there any more
                    self._position = pieces[-1].stop
                    self._on_given(sum(len(piece.view) for piece in pieces))
                    return pieces
                continue
            if self._source is None:
                self._hole_stop = self._kept.next_kept(self._position)
                self._source = self._open_source(self._position, self._allowed())
            read = await self._source.next_pieces()
            self._position = read[-1].stop
            if self._position >= self._hole_stop:
                await self._close_source()
            else:
                self._source.allow(self._allowed())
            return read
        return []

    def allow(self, limit: int | None) -> None:
        """As `RangedReader.allow`."""
        self._limit = limit
        if self._source is not None:
            self._source.allow(self._allowed())

    async def close(self) -> None:
        """As `RangedReader.close`."""
        await self._close_source()

    def _allowed(self) -> int:
        chunk = self._chunk_size
        most = min(self._hole_stop, (self._position // chunk + CHUNKS_AHEAD) * chunk)
        return most if self._limit is None else min(most, self._limit)

    async def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            await source.close()

    async def _from_spool(self) -> list[Piece]:
        """What the spool has from the position on, in slots; empty when that is damaged."""
        budget = self._supply.budget
        await budget.reserve(PIECES_AT_ONCE)
        slots = [budget.draw() for _ in range(PIECES_AT_ONCE)]
        pieces: list[Piece] = []
        try:
            await in_thread(lambda: self._fill(slots, pieces))
        except BaseException:
            pieces.clear()
            raise
        finally:
            used = {id(piece.slot) for piece in pieces}
            for slot in slots:
                if id(slot) not in used:
                    budget.release(slot)
        return pieces

    def _fill(self, slots: Sequence[Slot], pieces: list[Piece]) -> None:
        position = self._position
        room = self._supply.budget.slot_size // BLOCK * BLOCK
        for slot in slots:
            base = position // BLOCK * BLOCK
            stop = min(base + room, self._size)
            if self._boundary is not None:
                stop = min(stop, (position // self._boundary + 1) * self._boundary)
            good = self._kept.read(base, slot.view[: min(-(-stop // BLOCK) * BLOCK, self._size) - base])
            stop = min(stop, base + good)
            if stop <= position:
                return
            view = slot.view[position - base : stop - base]
            pieces.append(Piece(position, view, slot, stop - base, True))
            position = stop
            if position == self._size or good < room or (self._boundary and position % self._boundary == 0):
                return
