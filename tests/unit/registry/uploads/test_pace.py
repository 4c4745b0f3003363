"""How much a request may carry, from how fast its bytes come."""

from __future__ import annotations

import asyncio

from crossdock.registry.uploads.pace import UNKNOWN, Idle, Pace

MiB = 1 << 20
OPEN_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def at_rate(bytes_per_s: float) -> int:
    return int(bytes_per_s * OPEN_S)


def test_the_first_piece_tells_of_the_first_request() -> None:
    clock = Clock()
    pace = Pace(OPEN_S, clock)
    clock.now += 2.0
    assert pace.most(0, MiB) == at_rate(MiB / 2)


def test_a_request_tells_of_the_next_one() -> None:
    clock = Clock()
    pace = Pace(OPEN_S, clock)
    clock.now += 0.001
    pace.most(0, MiB)
    clock.now += 32.0
    assert pace.most(64 * MiB, MiB) == at_rate(2 * MiB)
    clock.now += 64.0
    assert pace.most(128 * MiB, MiB) == at_rate(MiB)


def test_bytes_that_were_hashed_elsewhere_give_no_digest() -> None:
    clock = Clock()
    pace = Pace(OPEN_S, clock)
    clock.now += 5.0
    assert pace.most(300 * MiB, MiB) == UNKNOWN  # taken up there
    clock.now += 1.0
    assert pace.most(310 * MiB, MiB) == at_rate(10 * MiB)
    clock.now += 1.0
    assert pace.most(310 * MiB, MiB) == UNKNOWN  # asked again for the same
    assert pace.most(200 * MiB, MiB) == UNKNOWN  # gone back
    assert pace.most(264 * MiB, MiB) == UNKNOWN  # no time has passed


async def test_waits_add_up_until_the_request_is_over() -> None:
    given_up = asyncio.Event()
    idle = Idle(0.01, given_up.set)

    async def wait_a_little() -> None:
        while not given_up.is_set():
            idle.begins()
            await asyncio.sleep(0.001)
            idle.ends()

    await asyncio.wait_for(wait_a_little(), 30)


async def test_nobody_gives_up_what_is_over() -> None:
    given_up = asyncio.Event()
    idle = Idle(0.0, given_up.set)
    idle.begins()
    idle.reset()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not given_up.is_set()
