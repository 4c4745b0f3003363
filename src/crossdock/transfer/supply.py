"""Memory and connections that the readers of all blobs share, and the pieces of blobs that they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from crossdock._kernels import Slot
from crossdock.options import NetworkOptions
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits

if TYPE_CHECKING:
    from crossdock.limits import Limits, Pace


class Supply(Struct, frozen=True):
    """Memory and source connections, shared by all readers of a process."""

    budget: Budget
    permits: Permits  # source connections
    network: NetworkOptions
    limits: Limits | None = None
    pace: Pace | None = None  # of bytes; None: no limit

    def part_of(self, left: int) -> int:
        """As `Permits.part_of`, within the limit on bytes a second."""
        size = self.permits.part_of(left)
        if self.pace is None:
            return size
        most, slot = int(self.pace.part_size), self.budget.slot_size
        return min(size, most // slot * slot or most)

    async def pay(self, size: int) -> None:
        """Return when `size` bytes may be read."""
        if self.pace is not None:
            await self.pace.take(size)

    def between(self, source: str, target: str) -> Supply:
        """The supply for blobs from the registry `source` to `target`, which may have limits of their own."""
        return self if self.limits is None else replace(self, pace=self.limits.of_bytes(source, target))

    def release(self, piece: Piece) -> None:
        """The piece is not read any more."""
        if piece.ends_slot:
            self.budget.release(piece.slot)


class Piece(Struct, frozen=True):
    """Contiguous bytes inside one slot. Its last owner gives it to `Supply.release`."""

    offset: int
    view: memoryview
    slot: Slot
    slot_stop: int  # bytes of the slot that have landed, this piece's included
    ends_slot: bool

    @property
    def stop(self) -> int:
        """Offset after the piece's last byte."""
        return self.offset + len(self.view)
