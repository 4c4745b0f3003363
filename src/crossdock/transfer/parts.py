"""A part: one byte range on its way, and the slots its bytes land in.

A part is a `content.ByteSink`. A ranged part owns all its slots before it is asked for. A part that turned
into a stream (the source ignores ranges) takes slots one by one and makes the source wait when there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from crossdock._kernels import Slot
from crossdock.content import Body
from crossdock.transfer.budget import Budget, Request

DISCARD_SIZE = 1 << 18


class Part:
    """Bytes ``start``..``stop`` of a blob. ``position`` is the first offset that has not arrived."""

    __slots__ = (
        "_asked",
        "_budget",
        "_discard",
        "_on_bytes",
        "_scratch",
        "body",
        "index",
        "is_stream",
        "next_body",
        "position",
        "rescued",
        "slots",
        "start",
        "stop",
    )

    def __init__(
        self,
        index: int,
        start: int,
        stop: int,
        budget: Budget,
        slots: list[Slot],
        on_bytes: Callable[[Part, int], None],
    ) -> None:
        self.index = index
        self.start = start
        self.stop = stop
        self.position = start
        self.slots: dict[int, Slot] = dict(enumerate(slots))
        self.is_stream = False
        self.body: Body | None = None
        self.next_body: Body | None = None  # goes on where `body` is, once that was closed
        self.rescued = False
        self._budget = budget
        self._on_bytes = on_bytes
        self._discard = 0
        self._scratch: bytearray | None = None
        self._asked: Request | None = None

    # -- as a sink ---------------------------------------------------------------------------------------

    def get_buffer(self) -> memoryview | None:
        """Memory up to the end of the current slot, or of the part."""
        if self._discard:
            if self._scratch is None:
                self._scratch = bytearray(DISCARD_SIZE)
            return memoryview(self._scratch)[: min(self._discard, DISCARD_SIZE)]
        size = self._budget.slot_size
        number, offset = divmod(self.position - self.start, size)
        slot = self.slots.get(number)
        if slot is None:
            slot = self._next_slot(number)
            if slot is None:
                return None
        return slot.view[offset : min(size, offset + self.stop - self.position)]

    def received(self, count: int) -> None:
        """`count` more bytes have landed."""
        if self._discard:
            self._discard -= count
            if not self._discard:
                self._scratch = None
            return
        self.position += count
        self._on_bytes(self, count)

    # -- for the reader ----------------------------------------------------------------------------------

    def expect(self, body: Body) -> None:
        """Bytes will come from `body`; those before ``position`` are read and thrown away."""
        self.body = body
        self._discard = self.position - body.start

    def go_on_with(self, body: Body) -> None:
        """Give up the body that is too slow; its reader takes `body` instead, at the first missing byte."""
        self.next_body = body
        if self.body is not None:
            self.body.close()

    def become_stream(self, stop: int) -> None:
        """Take everything up to `stop`; slots beyond the reserved ones are taken as they are needed."""
        self.is_stream = True
        self.stop = stop

    def slot_at(self, offset: int) -> tuple[Slot, int, int]:
        """The slot that holds `offset`, where in it, and the offset in the blob at which the slot ends."""
        size = self._budget.slot_size
        number, within = divmod(offset - self.start, size)
        return self.slots[number], within, min(self.stop, self.start + (number + 1) * size)

    def take_slot(self, offset: int) -> None:
        """The consumer has the slot that ends before or at `offset`; the part forgets it."""
        del self.slots[(offset - 1 - self.start) // self._budget.slot_size]

    def drop(self) -> None:
        """Give back whatever is still held."""
        if self.body is not None:
            self.body.close()
            self.body = None
        if self._asked is not None:
            self._budget.withdraw(self._asked)
            self._asked = None
        slots, self.slots = self.slots, {}
        for slot in slots.values():
            self._budget.release(slot)

    def _next_slot(self, number: int) -> Slot | None:
        assert self.is_stream, "a ranged part has reserved every slot it needs"
        if self._asked is not None:
            return None
        slot = self._budget.take_one()
        if slot is not None:
            self.slots[number] = slot
            return slot

        def deliver(slots: list[Slot]) -> None:
            self._asked = None
            self.slots[number] = slots[0]
            if self.body is not None:
                self.body.resume()

        self._asked = self._budget.ask(1, deliver)
        return None
