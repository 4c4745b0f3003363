"""The one memory budget: slots of the arena, reserved first come, first served, drawn when bytes come.

Two rules keep it free of deadlock. A reservation is granted whole or not at all. A holder of
slots that are not yet full also holds a connection permit (`ranges.py`), so it can finish without requesting
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
from crossdock.errors import (
    Advice,
    InvalidOption,
)

SLOT_SIZE = 1 << 20  # hashed and sent in one call each: 1,000 calls a second at 1 GiB/s, still warm in cache
LOOSE = 256 << 10  # bytes; `lend` takes more from the arena
KEPT_FREE = 4  # one in this many slots is reserved for shares that hold none


class Loose:
    """Memory for a small blob, outside the arena; a slot is reserved for it all the same."""

    __slots__ = ("view",)

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))


Memory = Slot | Loose


class Request:
    """A place in the queue for `count` slots. ``granted`` is called once, unless withdrawn."""

    __slots__ = ("count", "granted", "share")

    def __init__(self, count: int, granted: Callable[[], None], share: BudgetShare | None = None) -> None:
        self.count = count
        self.granted = granted
        self.share = share

    def held(self) -> int:
        """How many slots its share holds."""
        return self.share.held if self.share is not None else 0


class Budget:
    """Slots for content, at most `memory` bytes of them, reserved first come, first served."""

    def __init__(self, memory: int, *, debug: bool = False) -> None:
        """Raises `InvalidOption` when the system does not have `memory` bytes of address space."""
        self.slot_size = min(SLOT_SIZE, max(1 << 16, memory // 32))
        try:
            self._arena = Arena(memory // self.slot_size * self.slot_size, self.slot_size, debug=debug)
        except MemoryError as error:
            raise InvalidOption(f"memory: {error}", advice=Advice("lower-memory")) from error
        self._reserved = 0  # slots promised and not drawn yet; never more than the arena has free
        self._queue: deque[Request] = deque()
        self._blocked = 0.0  # seconds that someone waited, up to `_blocked_since`
        self._blocked_since: float | None = None
        self.shares = 0  # that are open

    def share(self) -> BudgetShare:
        """A part for one user of several; to be closed."""
        return BudgetShare(self)

    @property
    def slots(self) -> int:
        """How many slots there are in all."""
        return self._arena.slots

    @property
    def free(self) -> int:
        """How many slots are neither held nor reserved."""
        return self._arena.free - self._reserved

    async def reserve(self, count: int) -> None:
        """Reserve `count` slots at once, after earlier requests; each is then drawn or cancelled.

        Raises ValueError when `count` exceeds ``slots``.
        """
        self._check(count)
        if self.reserve_now(count):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if granted.done():  # cancelled, and its task has not run yet
                self._unreserve(count)
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
        """One slot, after earlier requests."""
        await self.reserve(1)
        return self.draw()

    def reserve_now(self, count: int, share: BudgetShare | None = None) -> bool:
        """Reserve `count` slots if they are free and no request is before this one; False: use `ask`.

        A share that holds more slots is not before one that holds fewer.
        """
        if self._queue and (share is None or share.held >= min(each.held() for each in self._queue)):
            return False
        if not self._fits(count, share):
            return False
        self._reserve(count, share)
        return True

    def ask(self, count: int, granted: Callable[[], None], share: BudgetShare | None = None) -> Request:
        """Queue for `count` slots; `granted` is called when they are reserved, and must not block."""
        request = Request(count, granted, share)
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
        """Give up `count` reserved slots that were not drawn, and serve waiting requests."""
        self._unreserve(count)
        self._grant()

    def release(self, slot: Memory) -> None:
        """Give a slot back and serve waiting requests."""
        if isinstance(slot, Loose):
            self._unreserve(1)
        else:
            slot.release()
        self._grant()

    async def lend(self, size: int, *, marked: bool = False) -> Memory:
        """Memory for `size` bytes, at most a slot; to be released. A slot is reserved in any case.

        Up to `LOOSE` bytes are not taken from the arena, so that the slot's pages, which may be huge ones,
        stay untouched: 64 blobs of 64 KiB at once would make 64 MiB resident. `marked`: always a slot.
        """
        if size > LOOSE or marked:
            return await self.one()
        await self.reserve(1)
        return Loose(size)

    def close(self) -> None:
        """Unmap the arena. Every slot must have been released."""
        self._arena.close()

    def _check(self, count: int) -> None:
        if count > self._arena.slots:
            raise ValueError(f"{count} slots requested of an arena of {self._arena.slots}")

    def _fits(self, count: int, share: BudgetShare | None) -> bool:
        kept = self.slots // KEPT_FREE if share is not None and share.held else 0
        return self.free - kept >= count

    def _reserve(self, count: int, share: BudgetShare | None) -> None:
        self._reserved += count
        if share is not None:
            share.held += count

    def _unreserve(self, count: int) -> None:
        self._reserved -= count

    def _grant(self) -> None:
        while self._queue:
            # Of equals, the earliest.
            request = self._queue[0] if not self.shares else min(self._queue, key=Request.held)
            if not self._fits(request.count, request.share):
                break
            self._queue.remove(request)
            self._reserve(request.count, request.share)
            request.granted()
        if not self._queue and self._blocked_since is not None:
            self._blocked = self.blocked_s()
            self._blocked_since = None


class BudgetShare(Budget):
    """One user's part of a budget that several share.

    All of them draw on the same slots. Who holds fewer is served first, and a part of the slots
    (`KEPT_FREE`) is for those who hold none: so a user whose slots do not come back keeps no other out.
    """

    def __init__(self, whole: Budget) -> None:
        self._whole = whole
        self.slot_size = whole.slot_size
        self.held = 0  # slots reserved or drawn
        whole.shares += 1

    @property
    def slots(self) -> int:
        """How many slots this user should count on: fewer, the more users there are."""
        return max(1, self._whole.slots // max(1, self._whole.shares))

    @property
    def free(self) -> int:
        """How many slots of the whole are neither held nor reserved."""
        return self._whole.free

    def reserve_now(self, count: int, share: BudgetShare | None = None) -> bool:
        """As `Budget.reserve_now`."""
        return self._whole.reserve_now(count, share or self)

    def ask(self, count: int, granted: Callable[[], None], share: BudgetShare | None = None) -> Request:
        """As `Budget.ask`."""
        return self._whole.ask(count, granted, share or self)

    def blocked_s(self) -> float:
        """As `Budget.blocked_s`, of all users."""
        return self._whole.blocked_s()

    def withdraw(self, request: Request) -> None:
        """As `Budget.withdraw`."""
        self._whole.withdraw(request)

    def draw(self) -> Slot:
        """As `Budget.draw`."""
        return self._whole.draw()

    def cancel(self, count: int) -> None:
        """As `Budget.cancel`."""
        self.held -= count
        self._whole.cancel(count)

    def release(self, slot: Memory) -> None:
        """As `Budget.release`."""
        self.held -= 1
        self._whole.release(slot)

    def close(self) -> None:
        """Unregister a user. Every slot must have been released."""
        assert not self.held, f"{self.held} slots were not given back"
        self._whole.shares -= 1

    def _check(self, count: int) -> None:
        self._whole._check(count)

    def _unreserve(self, count: int) -> None:
        self.held -= count
        self._whole._unreserve(count)
