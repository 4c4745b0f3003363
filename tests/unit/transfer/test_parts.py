"""A part: its memory for received bytes, its reservation, and cutting, rescuing and dropping it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from crossdock.content import Body, ByteSink
from crossdock.transfer.budget import Budget
from crossdock.transfer.parts import DISCARD_SIZE, Part

SLOTS = 8
DATA = random.Random(3).randbytes(1 << 20)


class StubBody:
    """Only records its calls."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.resumed = self.closed = 0

    async def receive(self, sink: ByteSink) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        self.resumed += 1

    def close(self) -> None:
        self.closed += 1


class Landing:
    """A part of a budget with few slots, and the calls to its reader."""

    def __init__(self, budget: Budget, slots: int = 3, start: int = 0, short: int = 0) -> None:
        self.budget = budget
        self.size = budget.slot_size
        assert budget.reserve_now(slots)
        self.arrived: list[int] = []
        self.is_wanted = True
        self.part = Part(
            start,
            start + slots * self.size - short,
            budget,
            slots,
            lambda part, count: self.arrived.append(count),
            lambda part: self.is_wanted,
        )

    def land(self, count: int) -> int:
        """Deliver the next `count` bytes of `DATA`, as far as there is room; returns how many."""
        part, begun = self.part, self.part.position
        left = count
        while left and (buffer := part.get_buffer()) is not None:
            size = min(len(buffer), left)
            buffer[:size] = DATA[part.position : part.position + size]
            part.received(size)
            left -= size
        return part.position - begun

    def content(self) -> bytes:
        """The contents of its slots, from the start."""
        part = self.part
        whole = b"".join(bytes(part.slots[number].view) for number in sorted(part.slots))
        return whole[: part.position - part.start]


@pytest.fixture
def budget() -> Iterator[Budget]:
    made = Budget(SLOTS << 16, debug=True)
    assert made.slots >= SLOTS
    yield made
    assert made.free == made.slots, "a slot was not given back"
    made.close()


@pytest.fixture
def landing(budget: Budget) -> Iterator[Landing]:
    made = Landing(budget)
    yield made
    made.part.drop()


def test_bytes_land_in_slots_that_are_drawn_when_the_first_one_comes(landing: Landing) -> None:
    part, size = landing.part, landing.size
    assert part.slots == {}
    assert landing.land(size + 1) == size + 1
    assert sorted(part.slots) == [0, 1]
    assert landing.land(10 * size) == 2 * size - 1
    assert part.position == part.stop
    assert part.get_buffer() is None, "it is full"
    assert landing.content() == DATA[: 3 * size]
    assert sum(landing.arrived) == 3 * size


def test_a_buffer_ends_with_its_slot_or_with_the_part(budget: Budget) -> None:
    landing = Landing(budget, slots=2, short=100)
    part, size = landing.part, landing.size
    assert len(part.get_buffer() or b"") == size
    landing.land(size - 7)
    assert len(part.get_buffer() or b"") == 7
    landing.land(7)
    assert len(part.get_buffer() or b"") == size - 100
    part.drop()


def test_bytes_before_the_first_missing_byte_are_thrown_away(landing: Landing) -> None:
    part = landing.part
    landing.land(1000)
    told = list(landing.arrived)

    async def expect() -> None:
        part.expect(StubBody(0, part.stop))

    asyncio.run(expect())
    left = 1000
    while left:
        buffer = part.get_buffer()
        assert buffer is not None
        count = min(len(buffer), 300)
        assert len(buffer) <= min(left, DISCARD_SIZE)
        buffer[:count] = b"x" * count
        part.received(count)
        left -= count
    assert part.position == 1000
    assert landing.arrived == told
    landing.land(10)
    assert landing.content() == DATA[:1010]


def test_a_slot_that_is_not_wanted_is_not_drawn_and_one_that_was_begun_is_filled(landing: Landing) -> None:
    part, size = landing.part, landing.size
    landing.land(10)
    landing.is_wanted = False
    assert landing.land(2 * size) == size - 10
    assert part.get_buffer() is None
    assert sorted(part.slots) == [0]
    landing.is_wanted = True
    assert landing.land(1) == 1


def test_a_consumer_takes_slots_from_the_front(landing: Landing) -> None:
    part, size = landing.part, landing.size
    landing.land(2 * size)
    slot, within = part.slot_at(size - 1)
    assert (bytes(slot.view), within) == (DATA[:size], size - 1)
    assert part.slot_end(0) == part.slot_end(size - 1) == size
    part.take_slot(size)
    assert sorted(part.slots) == [1]
    landing.budget.release(slot)


# -- cutting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("landed", "at"),
    [(0, 4), (1, 4), (2.5, 5), (6, 7), (7, 8), (7.5, 8)],
    ids=str,
)
def test_it_is_cut_between_slots_at_half_of_its_rest_or_before(
    budget: Budget, landed: float, at: int
) -> None:
    landing = Landing(budget, slots=8)
    landing.land(int(landed * landing.size))
    assert landing.part.splits_at() == at * landing.size
    landing.part.drop()


def test_the_slots_behind_a_cut_are_the_callers(budget: Budget) -> None:
    landing = Landing(budget, slots=6, short=5)
    part, size = landing.part, landing.size
    landing.land(size + 1)
    assert part.cut(4 * size) == 2
    assert part.stop == 4 * size
    assert landing.land(100 * size) == 3 * size - 1
    assert part.get_buffer() is None, "the body's rest is not wanted"
    budget.cancel(2)
    part.drop()


# -- as a stream ---------------------------------------------------------------------------------------------


async def test_a_stream_reserves_slot_by_slot_and_waits_for_one_that_is_given_back(budget: Budget) -> None:
    landing = Landing(budget, slots=1)
    part, size = landing.part, landing.size
    part.become_stream(100 * size)
    body = StubBody(0, part.stop)
    part.expect(body)
    assert landing.land(100 * size) == budget.slots * size
    assert budget.free == 0
    assert part.get_buffer() is None
    assert body.resumed == 0
    slot, _ = part.slot_at(0)
    part.take_slot(size)
    budget.release(slot)
    assert body.resumed == 1
    assert landing.land(2 * size) == size
    part.drop()
    assert body.closed == 1


async def test_a_stream_that_is_dropped_while_it_waits_asks_for_nothing_more(budget: Budget) -> None:
    landing = Landing(budget, slots=1)
    landing.part.become_stream(100 * landing.size)
    body = StubBody(0, landing.part.stop)
    landing.part.expect(body)
    landing.land(100 * landing.size)
    assert landing.part.get_buffer() is None
    landing.part.drop()
    assert body.resumed == 0
    assert budget.free == budget.slots


# -- another body goes on ------------------------------------------------------------------------------------


async def test_a_slow_body_is_closed_when_another_one_is_there(landing: Landing) -> None:
    slow, other = StubBody(0, landing.part.stop), StubBody(0, landing.part.stop)
    landing.part.expect(slow)
    landing.part.take_over(other)
    assert (slow.closed, other.closed) == (1, 0)
    assert landing.part.next_body is other


async def test_a_request_without_a_response_is_cancelled_when_another_one_has_it(landing: Landing) -> None:
    async def never() -> Body:
        await asyncio.Event().wait()
        raise AssertionError

    opening = landing.part.opening = asyncio.ensure_future(never())
    await asyncio.sleep(0)
    landing.part.take_over(StubBody(0, landing.part.stop))
    await asyncio.wait((opening,))
    assert opening.cancelled()


async def test_its_pace_leaves_out_what_came_before_the_body_and_the_time_it_was_held(
    landing: Landing,
) -> None:
    landing.land(100)
    landing.part.expect(StubBody(100, landing.part.stop))
    landing.land(50)
    landing.part.waited_s = 3.0
    count, seconds = landing.part.pace(asyncio.get_running_loop().time() + 5.0)
    assert count == 50
    assert seconds == pytest.approx(2.0, abs=0.2)
