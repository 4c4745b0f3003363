"""What the readers of all blobs share, memory and connections, and the pieces of blobs that they give."""

from __future__ import annotations

from msgspec import Struct

from crossdock._kernels import Slot
from crossdock.options import NetworkOptions
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits


class Supply(Struct, frozen=True):
    """Memory and source connections, shared by all readers of a process."""

    budget: Budget
    permits: Permits  # source connections
    network: NetworkOptions

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
