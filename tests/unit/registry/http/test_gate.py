"""Common waits that the server requests, and random ones otherwise."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import RateLimited
from crossdock.options import NetworkOptions
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.gate import (
    CONTROL_CONCURRENCY,
    LEAST_CONTROL_CONCURRENCY,
    MOST_CONTROL_CONCURRENCY,
    Gates,
    HostGate,
)
from crossdock.registry.http.headers import HeaderView
from crossdock.registry.http.retry import MAX_RETRY_AFTER_S, retry_after
from crossdock.url import Origin, Url
from unit.registry.http.scripted import MovedClock

NOW = 1_700_000_000.0
NETWORK = NetworkOptions()


def origin(url: str) -> Origin:
    return Url.parse(url).origin


def asks(value: str) -> HeaderView:
    return HeaderView([("retry-after", value)])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Tue, 14 Nov 2023 22:14:20", 60.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
        (".", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    assert retry_after(asks(value), NOW) == expected


@given(st.text(max_size=60))
def test_no_retry_after_makes_it_fail(value: str) -> None:
    found = retry_after(asks(value), NOW)
    assert found is None or found >= 0


def test_delays_grow_to_a_cap_and_are_random_below_it() -> None:
    assert [NETWORK.backoff_s(n, 1.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert NETWORK.backoff_s(10_000, 1.0) == 30
    assert NETWORK.backoff_s(6, 0.0) == 0


async def test_a_closed_gate_makes_everyone_wait_the_whole_time(clock: MovedClock) -> None:
    gates = Gates(clock, NETWORK)
    gates.of(origin("https://r.example/v2/a")).saw(429, asks("61"))
    await gates.of(origin("https://r.example:443/v2/b")).wait()
    assert clock.slept == [61]
    await gates.of(origin("https://r.example/v2/c")).wait()
    assert clock.slept == [61]


async def test_other_hosts_are_not_concerned(clock: MovedClock) -> None:
    gates = Gates(clock, NETWORK)
    gates.of(origin("https://r.example/")).saw(503, asks("61"))
    await gates.of(origin("https://r.example:8443/")).wait()
    await gates.of(origin("https://auth.example/")).wait()
    assert clock.slept == []


async def test_a_shorter_wish_does_not_open_the_gate_early(clock: MovedClock) -> None:
    gate = HostGate("r", clock, NETWORK)
    gate.saw(429, asks("60"))
    gate.saw(429, asks("5"))
    await gate.wait()
    assert sum(clock.slept) == 60


async def test_refusals_of_what_was_sent_together_count_once(clock: MovedClock) -> None:
    gate = HostGate("r.example", clock, NETWORK)
    for _ in range(30):
        gate.saw(429, HeaderView(()))
    before = clock.monotonic()
    await gate.wait()
    assert clock.monotonic() - before <= 1.0


async def test_refusals_without_a_time_close_the_gate_longer_each_time(clock: MovedClock) -> None:
    gate = HostGate("r", clock, NETWORK)
    for _ in range(3):
        gate.saw(429, HeaderView(()))
        await gate.wait()
    gate.saw(200, HeaderView(()))
    gate.saw(429, HeaderView(()))
    await gate.wait()
    assert clock.slept == [0.5, 1, 2, 0.5]


async def test_a_busy_answer_without_a_time_closes_nothing(clock: MovedClock) -> None:
    gate = HostGate("r", clock, NETWORK)
    gate.saw(503, HeaderView(()))
    gate.saw(500, asks("60"))
    await gate.wait()
    assert clock.slept == []


async def test_too_long_a_wait_is_an_error_at_once(clock: MovedClock) -> None:
    gate = HostGate("https://r.example", clock, NETWORK)
    gate.saw(429, asks("21600"))
    with pytest.raises(RateLimited, match=r"https://r\.example asks to wait another 21600 s") as caught:
        await gate.wait()
    assert not caught.value.retryable
    assert caught.value.retry_after == 21600
    assert clock.slept == []
    clock.now += 21600 - MAX_RETRY_AFTER_S
    await gate.wait()
    assert clock.slept == [MAX_RETRY_AFTER_S]


async def test_places_are_limited_and_given_back(clock: MovedClock) -> None:
    gate = HostGate("r", clock, NETWORK, concurrency=2)
    inside = peak = 0

    async def visit() -> None:
        nonlocal inside, peak
        await gate.enter()
        inside += 1
        peak = max(peak, inside)
        await asyncio.sleep(0)
        inside -= 1
        gate.leave()

    await asyncio.gather(*(visit() for _ in range(10)))
    assert (peak, inside) == (2, 0)


@pytest.mark.parametrize("let_in", [False, True])
async def test_a_request_that_is_cancelled_at_the_gate_takes_no_place(
    clock: MovedClock, let_in: bool
) -> None:
    gate = HostGate("r", clock, NETWORK, concurrency=1)
    assert gate.enter_now()
    assert not gate.enter_now()
    cancelled, last = (asyncio.ensure_future(gate.enter()) for _ in range(2))
    await asyncio.sleep(0)
    if let_in:
        gate.leave()
        cancelled.cancel()  # its turn has come, and it has not run since
    else:
        cancelled.cancel()
        await asyncio.sleep(0)
        gate.leave()
    await last
    gate.leave()
    assert cancelled.cancelled()
    assert gate.enter_now()
    assert not gate.enter_now()


async def test_many_waiters_share_one_flight() -> None:
    flights: SingleFlight[int] = SingleFlight()
    started, release = 0, asyncio.Event()

    async def work() -> int:
        nonlocal started
        started += 1
        await release.wait()
        return started

    tasks = [asyncio.create_task(flights.run("key", work)) for _ in range(5)]
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await flights.run("key", work) == 2


async def test_a_failed_flight_fails_all_and_is_not_remembered() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def succeed() -> int:
        return 7

    results = await asyncio.gather(*(flights.run("key", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    assert await flights.run("key", succeed) == 7


async def test_a_cancelled_waiter_leaves_and_the_last_takes_the_work_along() -> None:
    flights: SingleFlight[None] = SingleFlight()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    first, second = (asyncio.create_task(flights.run("key", work)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert not ended.is_set()
    second.cancel()
    await asyncio.wait([second])
    assert ended.is_set()
    assert len(asyncio.all_tasks()) == 1


class Crowd:
    """More requests than a gate lets in at once; `answer` ends some that are inside."""

    def __init__(self, requests: int) -> None:
        self.gate = HostGate("http://r", MovedClock(), NETWORK)
        self.inside = 0
        self.tasks = [asyncio.ensure_future(self._enter()) for _ in range(requests)]

    async def _enter(self) -> None:
        await self.gate.enter()
        self.inside += 1

    async def answer(self, status: int, number: int = 1) -> int:
        """The number that is inside afterwards."""
        for _ in range(number):
            self.inside -= 1
            self.gate.leave()
            await asyncio.sleep(0)
            self.gate.saw(status, HeaderView([("retry-after", "0")] if status == 429 else []))
        for _ in range(3):
            await asyncio.sleep(0)
        return self.inside

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_gate_lets_more_in_while_requests_wait_up_to_its_bound() -> None:
    crowd = Crowd(requests=1000)
    await asyncio.sleep(0)
    assert crowd.inside == CONTROL_CONCURRENCY
    assert await crowd.answer(200, 3) == CONTROL_CONCURRENCY + 3
    assert await crowd.answer(200, 200) == MOST_CONTROL_CONCURRENCY
    await crowd.leave()


async def test_a_gate_that_nobody_waits_at_stays_as_it_is() -> None:
    crowd = Crowd(requests=2)
    await asyncio.sleep(0)
    await crowd.answer(200, 2)
    crowd.tasks += [asyncio.ensure_future(crowd._enter()) for _ in range(1000)]
    await asyncio.sleep(0)
    assert crowd.inside == CONTROL_CONCURRENCY
    await crowd.leave()


async def test_refusals_that_came_together_halve_a_gate_once_and_then_it_grows_slowly() -> None:
    crowd = Crowd(requests=1000)
    await asyncio.sleep(0)
    half = CONTROL_CONCURRENCY // 2
    assert await crowd.answer(429, half + 1) == half
    assert await crowd.answer(429, half) == half  # sent before it was halved
    assert await crowd.answer(200, half - 1) == half
    assert await crowd.answer(200) == half + 1
    await crowd.leave()


async def test_a_gate_is_never_closed_by_refusals_alone() -> None:
    crowd = Crowd(requests=1000)
    await asyncio.sleep(0)
    assert await crowd.answer(429, 300) == LEAST_CONTROL_CONCURRENCY
    await crowd.leave()
