"""The number of connections, their owners, and the size of their requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crossdock.tasks import stop
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import AGAIN_AFTER, LEAST_PART, Observation, Permits, Tuner

MiB = 1 << 20


def seen(
    rate: float = 0.0, *, lacking: bool = True, starving: float = 1.0, held: float = 0.0, refused: int = 0
) -> Observation:
    return Observation(bytes_per_s=rate, lacking=lacking, starving=starving, held=held, refused=refused)


def test_connections_double_while_throughput_follows() -> None:
    tuner = Tuner(4, 32)
    limits = []
    for rate in (100, 100, 170, 290, 290):
        tuner.observe(seen(rate))
        limits.append(tuner.limit)
    assert limits == [4, 8, 16, 32, 16]


def test_connections_are_four_times_as_many_after_a_step_that_scaled_as_it_should() -> None:
    tuner = Tuner(1, 32)
    limits = []
    for rate in (25, 50, 100, 400, 800):
        tuner.observe(seen(rate))
        limits.append(tuner.limit)
    assert limits == [2, 4, 16, 32, 32]


def test_throughput_that_rises_more_than_a_step_explains_proves_nothing() -> None:
    tuner = Tuner(1, 32)
    for rate in (25, 50, 400):
        tuner.observe(seen(rate))
        assert tuner.limit <= 4
    tuner.observe(seen(400))
    assert tuner.limit == 8


def test_a_moment_without_bytes_is_not_a_reason_for_another_connection() -> None:
    tuner = Tuner(1, 32)
    for starving in (0.4, 0.1, 0.4, 0.1):
        assert not tuner.observe(seen(100, starving=starving))
    tuner.observe(seen(100, starving=0.4))
    assert tuner.observe(seen(100, starving=0.4))


def test_throughput_that_rises_by_itself_is_no_basis_for_a_step() -> None:
    tuner = Tuner(4, 32)
    for rate in (100, 200, 300, 400):
        tuner.observe(seen(rate))
        assert tuner.limit == 4
    tuner.observe(seen(410))
    assert tuner.limit == 8


def test_the_first_four_connections_need_no_proof() -> None:
    tuner = Tuner(1, 32)
    limits = []
    for _ in range(4):
        tuner.observe(seen(100))
        limits.append(tuner.limit)
    assert limits == [2, 4, 4, 4]


def tuner_at_four() -> Tuner:
    """A tuner that has measured a rate of 100 with four connections."""
    tuner = Tuner(4, 32)
    tuner.observe(seen(100))
    return tuner


@pytest.mark.parametrize(
    ("rates", "limits"),
    [((119,), [4]), ((151,), [16]), ((130, 105), [8, 4]), ((130, 115), [8, 16])],
)
def test_a_step_is_kept_for_half_of_perfect_scaling_or_twice_for_a_fifth(
    rates: tuple[float, ...], limits: list[int]
) -> None:
    tuner = tuner_at_four()
    tuner.observe(seen(100))
    assert tuner.limit == 8
    for rate, limit in zip(rates, limits, strict=True):
        tuner.observe(seen(rate))
        assert tuner.limit == limit


@pytest.mark.parametrize("change", [{"lacking": False}, {"starving": 0.2}])
def test_nothing_is_learned_while_connections_are_not_what_lacks(change: dict[str, Any]) -> None:
    tuner = Tuner(4, 32)
    for _ in range(50):
        assert not tuner.observe(seen(100, **change))


def test_a_target_that_limits_takes_connections_away_down_to_one_a_blob() -> None:
    tuner = Tuner(8, 32)
    tuner.serve(3)
    assert not tuner.observe(seen(100, starving=0, held=0.9)), "once is a hiccup"
    for _ in range(9):
        tuner.observe(seen(100, starving=0, held=0.9))
    assert tuner.limit == 3


def test_bytes_that_wait_for_the_target_of_one_blob_do_not_hide_that_others_starve() -> None:
    tuner = Tuner(4, 32)
    for _ in range(9):
        tuner.observe(seen(100, starving=0.5, held=0.6, lacking=False))
    assert tuner.limit == 4


def test_refusals_take_away_as_many_connections_but_half_at_most() -> None:
    tuner = Tuner(32, 32)
    limits = []
    for refused in (1, 5, 30, 30, 30, 30, 30):
        tuner.observe(seen(100, refused=refused))
        limits.append(tuner.limit)
    assert limits == [31, 26, 13, 6, 3, 1, 1]


def test_a_refusal_stands_when_the_next_blob_begins() -> None:
    tuner = Tuner(4, 32)
    tuner.observe(seen(100, refused=9))
    tuner.serve(4)
    assert tuner.limit == 2


def test_each_blob_brings_a_connection() -> None:
    tuner = Tuner(1, 32)
    for blobs in (1, 2, 3, 2):
        tuner.serve(blobs)
    assert tuner.limit == 3


def test_a_step_is_retried_later() -> None:
    tuner = tuner_at_four()
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


async def test_refused_holders_continue_one_by_one_the_most_behind_first() -> None:
    permits = Permits(Budget(64 * MiB), fixed=1)
    permits._used = 4  # as many as were allowed before the source refused
    order: list[str] = []

    async def go_on(name: str, ahead: int) -> None:
        await permits.resume(lambda: ahead)
        order.append(name)

    going = [asyncio.ensure_future(go_on(*row)) for row in (("last", 9), ("front", 0), ("middle", 4))]
    await asyncio.sleep(0)
    assert order == []
    permits.release()
    for expected in (["front"], ["front", "middle"], ["front", "middle", "last"]):
        await asyncio.sleep(0)
        assert order == expected
        permits.release()
    await asyncio.gather(*going)


async def test_who_waits_for_slots_does_not_keep_a_refused_holder_from_going_on() -> None:
    permits = Permits(Budget(64 * MiB), fixed=1)
    permits._used = 2
    with permits.idle():
        await asyncio.wait_for(permits.resume(lambda: 0), 5)


async def test_a_refused_holder_that_is_cancelled_leaves_no_trace() -> None:
    permits = Permits(Budget(64 * MiB), fixed=1)
    permits._used = 3
    waiting = asyncio.ensure_future(permits.resume(lambda: 0))
    other = asyncio.ensure_future(permits.resume(lambda: 1))
    await asyncio.sleep(0)
    await stop(waiting, other)
    assert (permits._idle, permits._parked) == (0, [])


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
    permits.watch_blob(lambda now: called.set())
    watching = asyncio.ensure_future(permits.watch())
    await called.wait()
    await stop(watching)
