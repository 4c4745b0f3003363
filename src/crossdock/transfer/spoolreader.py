"""Reading a blob of which a spool has parts: blocks, in any order and with holes.

A block that is there comes from the disk; one that is missing, or found damaged, from the source.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from crossdock._kernels import Slot
from crossdock.kept.spool import SpooledBlob
from crossdock.kept.spoolfile import BLOCK
from crossdock.tasks import in_thread
from crossdock.transfer.ranges import PIECES_AT_ONCE, RangedReader
from crossdock.transfer.resume import CHUNKS_AHEAD
from crossdock.transfer.supply import Piece, Supply

OpenSource = Callable[[int, int | None], RangedReader]
"""``(start, limit)`` → the source's bytes from there on."""


class SpooledReader:
    """As `RangedReader`: blocks in the spool are read there, each hole by a reader of the source."""

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
        brought: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Requests at most `CHUNKS_AHEAD` chunks ahead. `on_given` is called with counts of spooled bytes.

        `brought` waits for a byte that another reader is about to bring.
        """
        self._kept = kept
        self._open_source = open_source
        self._supply = supply
        self._size = size
        self._position = start
        self._boundary = boundary
        self._chunk_size = chunk_size
        self._on_given = on_given
        self._brought = brought
        self._limit = limit
        self._source: RangedReader | None = None
        self._hole_stop = size

    async def next_pieces(self) -> Sequence[Piece]:
        """As `RangedReader.next_pieces`."""
        while self._position < self._size:
            if self._source is None and self._brought is not None:
                await self._brought(self._position)
            if self._source is None and self._kept.has(self._position):
                pieces = await self._from_spool()
                if pieces:  # else the block was damaged, and is forgotten now
                    self._position = pieces[-1].stop
                    self._on_given(sum(len(piece.view) for piece in pieces))
                    return pieces
                continue
            if self._source is None:
                self._hole_stop = self._kept.next_kept(self._position)
                self._source = self._open_source(self._position, self._allowed())
            read = await self._source.next_pieces()
            self._position = read[-1].stop
            if self._position >= self._hole_stop or self._kept.has(self._position):  # by another reader
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
        """The spool's bytes from the position on, in slots; empty when they are damaged."""
        budget = self._supply.budget
        await self._supply.pay(min(PIECES_AT_ONCE * budget.slot_size, self._size - self._position))
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
