"""Shares of places and of memory: a slow owner blocks no other, and a single one may use all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from crossdock.transfer.budget import KEPT_FREE, Budget
from crossdock.transfer.shares import Shares
from crossdock.transfer.workshop import LARGE_BLOBS_AT_ONCE, LEAST_SMALL_BLOBS, SMALL_BLOBS_AT_ONCE
from unit.transfer.shop import assert_nothing_left, make_workshop


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Owners:
    """Blocks that are held until they are let go, by owner."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.held: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def want(self, owner: str, count: int = 1) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._hold(owner)))

    async def _hold(self, owner: str) -> None:
        async with self._shares.place(owner):
            ends = asyncio.Event()
            self.held.setdefault(owner, []).append(ends)
            try:
                await ends.wait()
            finally:
                self.held[owner].remove(ends)

    def release(self, owner: str, count: int = 1) -> None:
        for ends in self.held[owner][:count]:
            ends.set()

    def count(self, owner: str) -> int:
        return len(self.held.get(owner, ()))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_one_owner_may_have_all_places_and_no_more() -> None:
    owners = Owners(Shares(8, 2))
    owners.want("a", 20)
    await settle()
    assert owners.count("a") == 8
    await owners.stop()


async def test_another_has_its_least_at_once_and_then_what_becomes_free() -> None:
    owners = Owners(Shares(8, 2))
    owners.want("slow", 5000)
    await settle()
    owners.want("other", 100)
    await settle()
    assert (owners.count("slow"), owners.count("other")) == (8, 2)
    for _ in range(6):
        owners.release("slow")
        await settle()
    # Of ten places, the two beyond the eight are not given again; the rest is shared.
    assert owners.count("slow") + owners.count("other") == 8
    assert owners.count("other") >= 4
    await owners.stop()


async def test_every_owner_has_its_least_however_many_there_are() -> None:
    owners = Owners(Shares(4, 1))
    for number in range(20):
        owners.want(f"hog{number}", 100)
        await settle()
    owners.want("late", 10)
    await settle()
    assert owners.count("late") == 1
    for _ in range(9):  # one after the other, while nobody else moves
        owners.release("late")
        await settle()
        assert owners.count("late") == 1
    await owners.stop()


async def test_who_is_cancelled_while_waiting_or_holding_leaves_nothing() -> None:
    shares = Shares(1, 1)
    owners = Owners(shares)
    owners.want("a", 3)
    await settle()
    for task in owners.tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    async with asyncio.timeout(5), shares.place("a"):
        pass
    # Let in and cancelled at the same moment.
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(shares.place("a"))
        waiting = asyncio.create_task(stack.enter_async_context(shares.place("a")))
        await settle()
        holding = stack.pop_all()
    await holding.aclose()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_the_shares_of_a_workshop_are_those_of_its_users() -> None:
    workshop = make_workshop()
    owners = Owners(workshop.small)
    owners.want("hostile", 5000)
    await settle()
    owners.want("other", 100)
    await settle()
    assert (owners.count("hostile"), owners.count("other")) == (SMALL_BLOBS_AT_ONCE, LEAST_SMALL_BLOBS)
    await owners.stop()
    large = Owners(workshop.large)
    large.want("hostile", 100)
    await settle()
    large.want("other", 100)
    await settle()
    assert (large.count("hostile"), large.count("other")) == (LARGE_BLOBS_AT_ONCE, 1)
    await large.stop()
    workshop.hashing.close()
    assert_nothing_left(workshop)
    workshop.supply.budget.close()


# -- memory ------------------------------------------------------------------------------------------------


@pytest.fixture
def whole() -> Budget:
    return Budget(32 << 16)  # 32 slots


async def test_a_budget_that_nobody_shares_is_as_it_was(whole: Budget) -> None:
    await whole.reserve(32)
    assert whole.free == 0
    whole.cancel(32)
    whole.close()


async def test_a_part_of_the_memory_is_for_those_who_hold_none(whole: Budget) -> None:
    hog, other = whole.share(), whole.share()
    while hog.reserve_now(1):
        pass
    assert hog.held == 32 - 32 // KEPT_FREE
    waiting = asyncio.create_task(hog.reserve(1))
    await settle()
    assert other.reserve_now(4)  # though somebody waits
    assert other.held == 4
    slots = [other.draw() for _ in range(4)]
    assert not waiting.done()
    for slot in slots:
        other.release(slot)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hog.cancel(hog.held)
    assert whole.free == 32
    hog.close()
    other.close()
    whole.close()


async def test_who_holds_fewer_is_served_first(whole: Budget) -> None:
    hog, other = whole.share(), whole.share()
    while hog.reserve_now(1):
        pass
    await other.reserve(8)
    order: list[str] = []

    async def reserve(share: Budget, name: str) -> None:
        await share.reserve(1)
        order.append(name)

    tasks = [asyncio.create_task(reserve(hog, "hog")) for _ in range(3)]
    await settle()
    tasks.append(asyncio.create_task(reserve(other, "other")))
    await settle()
    hog.cancel(12)
    await asyncio.gather(*tasks)
    assert order[0] == "other"
    hog.cancel(hog.held)
    other.cancel(other.held)
    assert whole.free == 32


async def test_a_cancelled_reservation_is_nobodys(whole: Budget) -> None:
    share, other = whole.share(), whole.share()
    await share.reserve(24)
    waiting = asyncio.create_task(share.reserve(8))
    await settle()
    share.cancel(24)  # grants it
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (share.held, whole.free) == (0, 32)
    share.close()
    other.close()
    whole.close()
