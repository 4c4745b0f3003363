"""Several pieces of work at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from crossdock.tasks import both, run_each, run_each_of


class Broken(Exception):
    pass


async def fail(turns: int, name: str) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise Broken(name)


async def give(turns: int, value: str) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 1), (1, 3)])
async def test_both_results_are_given(first: int, second: int) -> None:
    assert await both(give(first, "a"), give(second, "b")) == ("a", "b")


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 1), (1, 3)])
async def test_the_first_ones_error_comes_before_the_second_ones(first: int, second: int) -> None:
    with pytest.raises(Broken, match="first"):
        await both(fail(first, "first"), fail(second, "second"))
    with pytest.raises(Broken, match="second"):
        await both(give(first, "a"), fail(second, "second"))


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_cancelled_pair_leaves_no_task(turns: int) -> None:
    task = asyncio.ensure_future(both(give(3, "a"), give(4, "b")))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_so_many_are_under_way_at_once_and_a_failure_ends_all() -> None:
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if item == 400:
                raise ValueError(item)
            return item
        finally:
            running -= 1

    assert sorted(await run_each(range(300), work, 16)) == list(range(300))
    assert most == 16
    with pytest.raises(ValueError):
        await run_each(range(1000), work, 16)
    assert running == 0


async def test_items_that_are_waited_for_are_taken_when_a_worker_is_free() -> None:
    free = asyncio.Semaphore(3)
    done: list[int] = []

    async def items() -> AsyncGenerator[int, None]:
        for number in range(20):
            assert not free.locked()
            yield number

    async def work(number: int) -> None:
        async with free:
            await asyncio.sleep(0)
            done.append(number)

    async with aclosing(items()) as found:
        await run_each_of(found, work, 3)
    assert sorted(done) == list(range(20))
