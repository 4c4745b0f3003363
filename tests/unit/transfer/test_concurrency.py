"""How many connections, who gets them, and how much each asks for."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import AGAIN_AFTER, LEAST_PART, Observation, Permits, Tuner
from crossdock.transfer.tasks import stop

MiB = 1 << 20


def seen(rate: float = 0.0, *, lacking: bool = True, full: float = 0.0, refused: bool = False) -> Observation:
    return Observation(bytes_per_s=rate, lacking=lacking, full=full, refused=refused)


def test_connections_double_while_throughput_follows() -> None:
    tuner = Tuner(4, 32)
    limits = []
    for rate in (100, 200, 400, 800, 800):
        tuner.observe(seen(rate))
        limits.append(tuner.limit)
    assert limits == [8, 16, 32, 32, 32]


@pytest.mark.parametrize(("rate", "limit"), [(119, 4), (121, 16)])
def test_a_step_is_kept_for_a_fifth_of_perfect_scaling(rate: float, limit: int) -> None:
    tuner = Tuner(4, 32)
    tuner.observe(seen(100))
    assert tuner.limit == 8
    tuner.observe(seen(rate))
    assert tuner.limit == limit


def test_nothing_is_learned_while_connections_are_not_what_lacks() -> None:
    tuner = Tuner(4, 32)
    for _ in range(50):
        assert not tuner.observe(seen(100, lacking=False))


def test_a_full_budget_takes_connections_away_down_to_two() -> None:
    tuner = Tuner(4, 32)
    assert not tuner.observe(seen(100, full=0.9)), "once is a hiccup"
    for _ in range(9):
        tuner.observe(seen(100, full=0.9))
    assert tuner.limit == 2


def test_a_refusal_takes_one_connection_at_a_time_down_to_one() -> None:
    tuner = Tuner(4, 32)
    limits = []
    for _ in range(5):
        tuner.observe(seen(100, refused=True))
        limits.append(tuner.limit)
    assert limits == [3, 2, 1, 1, 1]


def test_a_step_is_tried_again_later() -> None:
    tuner = Tuner(4, 32)
    tuner.observe(seen(100))
    tuner.observe(seen(100))
    assert tuner.limit == 4
    for _ in range(AGAIN_AFTER):
        tuner.observe(seen(100))
    assert tuner.limit == 8


async def test_leave_goes_to_whoever_is_nearest_to_starving() -> None:
    permits = Permits(Budget(64 * MiB), fixed=1)
    await permits.acquire(lambda: 0)
    order: list[str] = []

    async def ask(name: str, ahead: int) -> None:
        await permits.acquire(lambda: ahead)
        order.append(name)
        permits.release()

    asking = [asyncio.ensure_future(ask(*row)) for row in (("full", 9), ("starving", 0), ("half", 4))]
    await asyncio.sleep(0)
    permits.release()
    await asyncio.gather(*asking)
    assert order == ["starving", "half", "full"]
    assert permits.used == 0


@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_cancelled_wait_gives_its_leave_back(granted_first: bool) -> None:
    permits = Permits(Budget(64 * MiB), fixed=1)
    await permits.acquire(lambda: 0)
    waiting = asyncio.ensure_future(permits.acquire(lambda: 0))
    await asyncio.sleep(0)
    steps = [permits.release, waiting.cancel]
    for step in steps if granted_first else reversed(steps):
        step()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert permits.used == 0
    await permits.acquire(lambda: 0)


@pytest.mark.parametrize(
    ("memory", "fixed", "asked", "expected"),
    [
        (256 * MiB, 8, 16 * MiB, 16 * MiB),
        (256 * MiB, 32, 16 * MiB, 4 * MiB),  # two parts for each of 32 connections
        (256 * MiB, 4, None, LEAST_PART),  # nothing is known of the network yet
        (8 * MiB, 4, None, MiB),
        (4 * MiB, 8, 16 * MiB, MiB // 4),
        (256 * MiB, 8, 100_000, MiB),  # a whole slot at least
    ],
)
def test_a_part_fits_twice_for_every_connection(
    memory: int, fixed: int, asked: int | None, expected: int
) -> None:
    assert Permits(Budget(memory), fixed=fixed, part_size=asked).part_size == expected


def test_more_connections_than_the_budget_can_feed_are_not_used() -> None:
    budget = Budget(4 * MiB)
    assert Permits(budget, fixed=64).limit == budget.slots // 2


async def test_watchers_are_called_while_the_copy_runs() -> None:
    permits = Permits(Budget(64 * MiB))
    called = asyncio.Event()
    permits.watchers.add(lambda now: called.set())
    watching = asyncio.ensure_future(permits.watch())
    await called.wait()
    await stop(watching)
