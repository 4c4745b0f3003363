"""One task for many waiters, which is cancelled when none is left."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.registry.flight import SingleFlight


async def test_a_waiter_cancelled_twice_leaves_only_when_the_work_has_ended() -> None:
    begun, ending, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ending.set()
            await go.wait()
            ended = True

    flights: SingleFlight[None] = SingleFlight()
    waiter = asyncio.ensure_future(flights.run("key", work))
    await begun.wait()
    waiter.cancel()
    await ending.wait()
    waiter.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ended


async def test_who_comes_before_the_result_could_be_stored_does_not_begin_again() -> None:
    flights: SingleFlight[int] = SingleFlight()
    stored: list[int] = []
    begun = 0

    async def work() -> int:
        nonlocal begun
        begun += 1
        return begun

    async def ask() -> int:
        if not stored:
            stored.append(await flights.run("key", work))
        return stored[0]

    asking = []
    for _ in range(20):  # one more at each turn of the loop: before, at and after the end of the work
        asking.append(asyncio.ensure_future(ask()))
        await asyncio.sleep(0)
    assert await asyncio.gather(*asking) == [1] * 20
    assert begun == 1
