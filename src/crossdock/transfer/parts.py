"""A part: one byte range on its way, and the slots its bytes land in.

A part is a `content.ByteSink`. A ranged part has all its slots reserved before it is requested, and draws
each when the first byte for it comes. A part that turned into a stream (the source ignores ranges) reserves
one by one beyond that, and makes the source wait when there is none. Any part makes it wait before a slot
that its reader has no use for yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossdock._kernels import Slot
from crossdock.content import Body
from crossdock.transfer.budget import Budget, Request

DISCARD_SIZE = 1 << 18


class Part:
    """Bytes ``start``..``stop`` of a blob. ``position`` is the first offset that has not arrived."""

    __slots__ = (
        "_began",
        "_budget",
        "_discard",
        "_is_wanted",
        "_on_bytes",
        "_pending",
        "_reserved",
        "_scratch",
        "body",
        "is_stream",
        "next_body",
        "opening",
        "position",
        "rescued",
        "slots",
        "start",
        "stop",
        "waited_s",
    )

    def __init__(
        self,
        start: int,
        stop: int,
        budget: Budget,
        reserved: int,
        on_bytes: Callable[[Part, int], None],
        is_wanted: Callable[[Part], bool],
    ) -> None:
        self.start = start
        self.stop = stop
        self.position = start
        self.slots: dict[int, Slot] = {}  # by number within the part; drawn, and not taken by the consumer
        self.is_stream = False
        self.opening: asyncio.Task[Body] | None = None
        self.body: Body | None = None
        self.next_body: Body | None = None  # continues where `body` is, once that was closed
        self.rescued = False
        self.waited_s = 0.0  # of the time that `body` has had, in which its next slot was not wanted
        self._began = (start, 0.0)  # position and time at which `body` began
        self._budget = budget
        self._reserved = reserved
        self._on_bytes = on_bytes
        self._is_wanted = is_wanted
        self._discard = 0
        self._scratch: bytearray | None = None
        self._pending: Request | None = None

    # -- as a sink ---------------------------------------------------------------------------------------

    def get_buffer(self) -> memoryview | None:
        """Memory up to the end of the current slot, or of the part."""
        if self._discard:
            if self._scratch is None:
                self._scratch = bytearray(DISCARD_SIZE)
            return memoryview(self._scratch)[: min(self._discard, DISCARD_SIZE)]
        if self.position == self.stop:  # cut: the rest of the body is not wanted
            return None
        size = self._budget.slot_size
        number, offset = divmod(self.position - self.start, size)
        slot = self.slots.get(number)
        if slot is None:
            if not self._is_wanted(self) or not (self._reserved or self._reserve_more()):
                return None
            self._reserved -= 1
            slot = self.slots[number] = self._budget.draw()
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
        self.waited_s = 0.0
        self._began = (self.position, asyncio.get_running_loop().time())

    def take_over(self, body: Body) -> None:
        """Drop the response that is too slow; the reader continues with `body`, at the first missing byte."""
        self.next_body = body
        if self.body is not None:
            self.body.close()
        elif self.opening is not None:
            self.opening.cancel()

    def pace(self, now: float) -> tuple[int, float]:
        """Bytes that `body` has brought so far, and in how many seconds, at loop time `now`."""
        position, began = self._began
        return self.position - position, now - began - self.waited_s

    def splits_at(self) -> int:
        """Where a second connection could take over: between two slots, at half of what is left or before.

        At `stop` when there is nothing to take over: the slot that bytes may be landing in stays whole.
        """
        size = self._budget.slot_size
        middle = (self.position + self.stop) // 2
        at = middle - (middle - self.start) % size
        return max(at, self.slot_end(self.position))

    def cut(self, at: int) -> int:
        """End at the slot boundary `at`; returns how many reserved slots are the caller's now."""
        size = self._budget.slot_size
        count = -(-(self.stop - self.start) // size) - (at - self.start) // size
        self.stop = at
        self._reserved -= count
        return count

    def become_stream(self, stop: int) -> None:
        """Take everything up to `stop`; slots beyond those are reserved as they are needed."""
        self.is_stream = True
        self.stop = stop

    def slot_end(self, offset: int) -> int:
        """The offset in the blob at which the slot for `offset` ends."""
        size = self._budget.slot_size
        return min(self.stop, offset + size - (offset - self.start) % size)

    def slot_at(self, offset: int) -> tuple[Slot, int]:
        """The slot that holds `offset`, whose byte is here, and where in it."""
        number, within = divmod(offset - self.start, self._budget.slot_size)
        return self.slots[number], within

    def take_slot(self, offset: int) -> None:
        """The consumer has the slot that ends before or at `offset`; the part forgets it."""
        del self.slots[(offset - 1 - self.start) // self._budget.slot_size]

    def drop(self) -> None:
        """Give back whatever is still held."""
        if self.body is not None:
            self.body.close()
            self.body = None
        if self._pending is not None:
            self._budget.withdraw(self._pending)
            self._pending = None
        slots, self.slots = self.slots, {}
        for slot in slots.values():
            self._budget.release(slot)
        reserved, self._reserved = self._reserved, 0
        self._budget.cancel(reserved)

    def _reserve_more(self) -> bool:
        """Whether the next slot is reserved now; if not, the body is resumed once it is."""
        assert self.is_stream, "a ranged part has reserved every slot it needs"
        if self._pending is not None:
            return False
        if self._budget.reserve_now(1):
            self._reserved += 1
            return True

        def granted() -> None:
            self._pending = None
            self._reserved += 1
            if self.body is not None:
                self.body.resume()

        self._pending = self._budget.ask(1, granted)
        return False
