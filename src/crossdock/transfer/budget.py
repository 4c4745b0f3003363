"""The one memory budget: slots of the arena, reserved in order of asking, drawn when bytes come.

Two rules keep it free of deadlock. A reservation is granted whole or not at all. Whoever holds slots that
are not yet full also holds a connection permit (`ranges.py`), so every holder can finish without asking for
more.

A reservation is a number: which slots it becomes is decided when bytes are there to be put into them. So the
slot freed last is used next, and as much memory is touched as bytes really wait in.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from crossdock._kernels import Arena, Slot
from crossdock.errors import InvalidOption

SLOT_SIZE = 1 << 20  # hashed and sent in one call each: 1,000 calls a second at 1 GiB/s, still warm in cache


class Request:
    """A place in the queue for `count` slots. ``granted`` is called once, unless withdrawn."""

    __slots__ = ("count", "granted")

    def __init__(self, count: int, granted: Callable[[], None]) -> None:
        self.count = count
        self.granted = granted


class Budget:
    """Slots for content, at most `memory` bytes of them, reserved first come, first served."""

    def __init__(self, memory: int, *, debug: bool = False) -> None:
        """Raises `InvalidOption` when the system does not have `memory` bytes of address space."""
        self.slot_size = min(SLOT_SIZE, max(1 << 16, memory // 32))
        try:
            self._arena = Arena(memory // self.slot_size * self.slot_size, self.slot_size, debug=debug)
        except MemoryError as error:
            raise InvalidOption(f"memory: {error}", hint="give less with --memory") from error
        self._reserved = 0  # slots promised and not drawn yet; never more than the arena has free
        self._queue: deque[Request] = deque()
        self._blocked = 0.0  # seconds that someone waited, up to `_blocked_since`
        self._blocked_since: float | None = None

    @property
    def slots(self) -> int:
        """How many slots there are in all."""
        return self._arena.slots

    @property
    def free(self) -> int:
        """How many slots nobody holds or has reserved."""
        return self._arena.free - self._reserved

    async def reserve(self, count: int) -> None:
        """Reserve `count` slots at once, after everyone who asked before; each is then drawn or cancelled.

        Raises ValueError when `count` exceeds ``slots``.
        """
        if count > self._arena.slots:
            raise ValueError(f"{count} slots asked of an arena of {self._arena.slots}")
        if self.reserve_now(count):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if granted.done():  # cancelled, and its task has not run yet
                self._reserved -= count
            else:
                granted.set_result(None)

        request = self.ask(count, grant)
        try:
            await granted
        except asyncio.CancelledError:
            self.withdraw(request)
            if granted.done() and not granted.cancelled():
                self.cancel(count)
            raise

    async def one(self) -> Slot:
        """One slot, after everyone who asked before."""
        await self.reserve(1)
        return self.draw()

    def reserve_now(self, count: int) -> bool:
        """Reserve `count` slots if they are there and nobody waits before; False: use `ask`."""
        if self._queue or self.free < count:
            return False
        self._reserved += count
        return True

    def ask(self, count: int, granted: Callable[[], None]) -> Request:
        """Queue for `count` slots; `granted` is called when they are reserved, and must not block."""
        request = Request(count, granted)
        self._queue.append(request)
        if self._blocked_since is None:
            self._blocked_since = time.monotonic()
        return request

    def blocked_s(self) -> float:
        """Seconds in all that someone has waited for slots."""
        since = self._blocked_since
        return self._blocked + (0.0 if since is None else time.monotonic() - since)

    def withdraw(self, request: Request) -> None:
        """Leave the queue; nothing if the slots were granted."""
        if request in self._queue:
            self._queue.remove(request)
            self._grant()  # those behind may fit where this one did not

    def draw(self) -> Slot:
        """One of the slots that the caller has reserved."""
        slot = self._arena.acquire()
        assert slot is not None, "a slot is reserved before it is drawn"
        self._reserved -= 1
        return slot

    def cancel(self, count: int) -> None:
        """Give up `count` reserved slots that were not drawn, and serve those who wait."""
        self._reserved -= count
        self._grant()

    def release(self, slot: Slot) -> None:
        """Give a slot back and serve those who wait."""
        slot.release()
        self._grant()

    def close(self) -> None:
        """Unmap the arena. Every slot must have been released."""
        self._arena.close()

    def _grant(self) -> None:
        while self._queue and self.free >= self._queue[0].count:
            request = self._queue.popleft()
            self._reserved += request.count
            request.granted()
        if not self._queue and self._blocked_since is not None:
            self._blocked = self.blocked_s()
            self._blocked_since = None
