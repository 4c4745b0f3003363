"""Slots are granted whole, in order of asking, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from crossdock._kernels import Slot
from crossdock.errors import InvalidOption
from crossdock.tasks import run_together, stop
from crossdock.transfer.budget import Budget


@pytest.fixture
def budget() -> Budget:
    return Budget(4 << 20)


async def hold(budget: Budget, count: int) -> list[Slot]:
    await budget.reserve(count)
    return [budget.draw() for _ in range(count)]


async def test_a_reservation_waits_until_it_fits_whole(budget: Budget) -> None:
    held = await hold(budget, budget.slots - 1)
    waiting = asyncio.ensure_future(budget.reserve(3))
    await asyncio.sleep(0)
    budget.release(held.pop())
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.release(held.pop())
    await waiting
    assert budget.free == 0


async def test_a_small_reservation_does_not_overtake_a_large_one(budget: Budget) -> None:
    held = await hold(budget, budget.slots)
    large = asyncio.ensure_future(budget.reserve(4))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(budget.reserve(1))
    await asyncio.sleep(0)
    for _ in range(3):
        budget.release(held.pop())
    await asyncio.sleep(0)
    assert not small.done()
    assert not budget.reserve_now(1)
    for _ in range(2):
        budget.release(held.pop())
    await large
    await small


async def test_a_reservation_that_is_not_used_goes_to_the_next(budget: Budget) -> None:
    await budget.reserve(budget.slots)
    waiting = asyncio.ensure_future(budget.reserve(2))
    await asyncio.sleep(0)
    budget.cancel(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.cancel(1)
    await waiting


async def test_the_slot_freed_last_is_drawn_next_whoever_reserved_it(budget: Budget) -> None:
    await budget.reserve(8)
    seen = set()
    for _ in range(8):
        slot = budget.draw()
        seen.add(slot.index)
        budget.release(slot)
    assert len(seen) == 1


async def test_a_cancelled_reservation_lets_the_next_one_in(budget: Budget) -> None:
    held = await hold(budget, budget.slots)
    large = asyncio.ensure_future(budget.reserve(budget.slots))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(budget.reserve(1))
    await asyncio.sleep(0)
    budget.release(held.pop())
    large.cancel()
    await small
    assert budget.free == 0


@pytest.mark.parametrize("granted_first", [True, False])
async def test_slots_of_a_reservation_cancelled_while_granted_come_back(
    budget: Budget, granted_first: bool
) -> None:
    held = await hold(budget, budget.slots)
    waiting = asyncio.ensure_future(budget.reserve(1))
    await asyncio.sleep(0)
    steps = [lambda: budget.release(held.pop()), waiting.cancel]
    for step in steps if granted_first else reversed(steps):
        step()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert budget.free == 1


async def test_a_withdrawn_request_is_never_granted(budget: Budget) -> None:
    held = await hold(budget, budget.slots)
    granted: list[None] = []
    request = budget.ask(1, lambda: granted.append(None))
    budget.withdraw(request)
    budget.release(held.pop())
    assert granted == []
    assert budget.free == 1


async def test_more_than_there_is_is_refused_at_once(budget: Budget) -> None:
    with pytest.raises(ValueError, match="arena"):
        await budget.reserve(budget.slots + 1)


def test_more_memory_than_the_system_has_is_the_fault_of_the_option() -> None:
    with pytest.raises(InvalidOption, match="memory"):
        Budget(1 << 60)


async def test_the_first_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("forever")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        await run_together([forever(), fails(), forever()])
    assert ended == ["forever", "forever"]


async def test_stop_waits_for_clean_up_even_when_cancelled_meanwhile() -> None:
    cleaned = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    task = asyncio.ensure_future(slow_to_end())
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(stop(task))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert cleaned.is_set()
