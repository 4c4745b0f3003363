"""One piece of work for many who wait: its end when nobody does any more."""

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
