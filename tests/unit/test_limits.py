"""The limits of a session, by a clock that only sleeping turns."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.activity import CURRENT, Activity
from crossdock.errors import InvalidOption
from crossdock.limits import BURST_S, LEAST_PART, Limits, Pace, Throttle
from crossdock.options import CopyOptions, HostLimits


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


def throttle(per_second: float, clock: Clock) -> Throttle:
    return Throttle(per_second, clock, clock.sleep)


async def test_everybody_passes_in_the_order_of_coming_at_the_rate() -> None:
    clock = Clock()
    limit = throttle(10, clock)
    passed: list[tuple[int, float]] = []

    async def taker(number: int) -> None:
        await limit.take(1)
        passed.append((number, clock.now - 50.0))

    await asyncio.gather(*map(taker, range(40)))
    assert [number for number, _ in passed] == list(range(40))
    assert all(at >= (number - 1) / 10 - BURST_S for number, at in passed)
    assert passed[-1][1] == pytest.approx(38 / 10, abs=0.2)


async def test_one_that_is_cancelled_while_it_waits_has_taken_nothing() -> None:
    clock = Clock()
    limit = throttle(1, clock)
    await limit.take(1)
    gone = [asyncio.ensure_future(limit.take(1000)) for _ in range(3)]
    last = asyncio.ensure_future(limit.take(1))
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await last
    assert clock.now - 50.0 < 3


async def test_who_waits_is_counted_and_who_need_not_is_not() -> None:
    clock, activity = Clock(), Activity()
    limit = throttle(1, clock)
    CURRENT.set(activity)
    await limit.take(1)
    assert activity.limited == 0
    waiting = asyncio.ensure_future(limit.take(1))
    await asyncio.sleep(0)
    assert activity.limited == 1
    await waiting
    assert activity.limited == 0


async def test_a_pace_keeps_to_the_slowest_of_its_throttles() -> None:
    clock = Clock()
    pace = Pace(throttle(5, clock), throttle(50, clock))
    for _ in range(11):
        await pace.take(1)
    assert pace.per_second == 5
    assert clock.now - 50.0 == pytest.approx(2, abs=0.2)


def test_a_part_is_an_eighth_of_a_second_and_never_tiny() -> None:
    assert Pace(Throttle(80 << 20)).part_size == 10 << 20
    assert Pace(Throttle(1000)).part_size == LEAST_PART


async def test_both_sides_and_all_names_of_a_registry_share_its_throttle() -> None:
    limits = Limits(
        CopyOptions(
            limit_requests=200,
            limit_hosts={"docker.io": HostLimits(requests_per_second=5, bytes_per_second=1000)},
        )
    )
    hub, other = limits.of_requests("registry-1.docker.io"), limits.of_requests("other.example")
    again = limits.of_requests("index.docker.io:443")
    assert hub is not None
    assert other is not None
    assert again is not None
    assert (hub.per_second, other.per_second) == (5, 200)
    assert hub._throttles == again._throttles
    assert hub._throttles[1] is other._throttles[0]
    into, out, both = (
        limits.of_bytes(*each)
        for each in (("x.example", "docker.io"), ("docker.io", "y.example"), ("docker.io", "docker.io"))
    )
    assert into is not None
    assert out is not None
    assert both is not None
    assert into._throttles == out._throttles
    assert both._throttles == into._throttles
    assert limits.of_bytes("oci:", "x.example") is None


async def test_large_uploads_to_a_host_are_no_more_than_its_connections() -> None:
    limits = Limits(CopyOptions(limit_hosts={"x.example": HostLimits(connections=2)}))
    assert limits.connections("x.example:443") == 2
    assert limits.connections("y.example") is None
    most = under_way = 0

    async def upload() -> None:
        nonlocal most, under_way
        async with limits.upload_turn("x.example"), limits.upload_turn("y.example"):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(upload() for _ in range(9)))
    assert most == 2


@pytest.mark.parametrize("name", ["limit_rate", "limit_requests"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_more_than_nothing(name: str, value: float) -> None:
    with pytest.raises(InvalidOption, match="must be more than 0"):
        CopyOptions(**{name: value})


@pytest.mark.parametrize("name", ["requests_per_second", "bytes_per_second", "connections"])
def test_a_limit_of_a_host_is_more_than_nothing(name: str) -> None:
    with pytest.raises(InvalidOption, match=f"{name} must be more than 0"):
        HostLimits(**{name: 0})
