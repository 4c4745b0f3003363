"""The one memory budget: slots of the arena, granted in order of asking.

Two rules keep it free of deadlock. A reservation is granted whole or not at all. Whoever holds slots that
are not yet full also holds a connection permit (`ranges.py`), so every holder can finish without asking for
more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from crossdock._kernels import Arena, Slot

SLOT_SIZE = 1 << 20  # hashed and sent in one call each: 1,000 calls a second at 1 GiB/s, still warm in cache


class Request:
    """A place in the queue for `count` slots. ``deliver`` is called once with them, unless withdrawn."""

    __slots__ = ("count", "deliver")

    def __init__(self, count: int, deliver: Callable[[list[Slot]], None]) -> None:
        self.count = count
        self.deliver = deliver


class Budget:
    """Slots for content, at most `memory` bytes of them, granted first come, first served."""

    def __init__(self, memory: int, *, debug: bool = False) -> None:
        self.slot_size = min(SLOT_SIZE, max(1 << 16, memory // 32))
        self._arena = Arena(memory // self.slot_size * self.slot_size, self.slot_size, debug=debug)
        self._queue: deque[Request] = deque()
        self._blocked = 0.0  # seconds that someone waited, up to `_blocked_since`
        self._blocked_since: float | None = None

    @property
    def slots(self) -> int:
        """How many slots there are in all."""
        return self._arena.slots

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self._arena.free

    async def reserve(self, count: int) -> list[Slot]:
        """`count` slots at once, after everyone who asked before. `count` must not exceed ``slots``."""
        if count > self._arena.slots:
            raise ValueError(f"{count} slots asked of an arena of {self._arena.slots}")
        if not self._queue and self._arena.free >= count:
            return self._take(count)
        granted: asyncio.Future[list[Slot]] = asyncio.get_running_loop().create_future()

        def deliver(slots: list[Slot]) -> None:
            if granted.done():  # cancelled, and its task has not run yet
                for slot in slots:
                    slot.release()
            else:
                granted.set_result(slots)

        request = self.ask(count, deliver)
        try:
            return await granted
        except asyncio.CancelledError:
            self.withdraw(request)
            if granted.done() and not granted.cancelled():
                for slot in granted.result():
                    self.release(slot)
            raise

    async def one(self) -> Slot:
        """One slot, after everyone who asked before."""
        return self.take_one() or (await self.reserve(1))[0]

    def take_one(self) -> Slot | None:
        """One slot if there is one and nobody waits before; None: use `ask`."""
        return self._take(1)[0] if not self._queue and self._arena.free else None

    def ask(self, count: int, deliver: Callable[[list[Slot]], None]) -> Request:
        """Queue for `count` slots; `deliver` is called with them, from `release`, and must not block."""
        request = Request(count, deliver)
        self._queue.append(request)
        if self._blocked_since is None:
            self._blocked_since = time.monotonic()
        return request

    def blocked_s(self) -> float:
        """Seconds in all that someone has waited for slots."""
        since = self._blocked_since
        return self._blocked + (0.0 if since is None else time.monotonic() - since)

    def withdraw(self, request: Request) -> None:
        """Leave the queue; nothing if the slots were delivered."""
        if request in self._queue:
            self._queue.remove(request)
            self._grant()  # those behind may fit where this one did not

    def release(self, slot: Slot) -> None:
        """Give a slot back and serve those who wait."""
        slot.release()
        self._grant()

    def close(self) -> None:
        """Unmap the arena. Every slot must have been released."""
        self._arena.close()

    def _take(self, count: int) -> list[Slot]:
        slots = []
        for _ in range(count):
            slot = self._arena.acquire()
            assert slot is not None, "free slots were counted"
            slots.append(slot)
        return slots

    def _grant(self) -> None:
        while self._queue and self._arena.free >= self._queue[0].count:
            request = self._queue.popleft()
            request.deliver(self._take(request.count))
        if not self._queue and self._blocked_since is not None:
            self._blocked = self.blocked_s()
            self._blocked_since = None
