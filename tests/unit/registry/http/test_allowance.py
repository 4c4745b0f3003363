"""Requests wait before they reach a limit that the host announces, and no longer than needed."""

from __future__ import annotations

import asyncio

from crossdock.activity import CURRENT, Activity
from crossdock.options import NetworkOptions
from crossdock.registry.http.gate import HostGate
from crossdock.registry.http.headers import HeaderView
from unit.registry.http.scripted import MovedClock

NETWORK = NetworkOptions()
NOTHING = HeaderView(())


def hub(remaining: int, window: int = 60, limit: int = 10) -> HeaderView:
    return HeaderView(
        [("ratelimit-limit", f"{limit};w={window}"), ("ratelimit-remaining", f"{remaining};w={window}")]
    )


def drafted(remaining: int, reset: int = 60) -> HeaderView:
    return HeaderView([("ratelimit-remaining", str(remaining)), ("ratelimit-reset", str(reset))])


class SharedClock(MovedClock):
    """Those who sleep at once wake up at their times, not one after the other."""

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(1000):  # the others have gone as far as they can
            await asyncio.sleep(0)
        self.now = max(self.now, until)


class Host:
    """Counts pulls in windows; `pull` sends a request through a gate."""

    def __init__(self, limit: int, window: int) -> None:
        self.clock = SharedClock()
        self.gate = HostGate("r.example", self.clock, NETWORK)
        self.limit, self.window = limit, window
        self.refused = 0
        self.pulled: list[float] = []

    async def pull(self) -> None:
        if not self.gate.enter_now(pull=True):
            await self.gate.enter(pull=True)
        sent = self.gate.responses
        await asyncio.sleep(0)
        recent = [at for at in self.pulled if at > self.clock.now - self.window]
        if len(recent) >= self.limit:
            self.refused += 1
        else:
            self.pulled.append(self.clock.now)
        left = max(0, self.limit - len(recent) - 1)
        await asyncio.sleep(0)
        self.gate.leave(pull=True)
        self.gate.saw(200, hub(left, self.window, self.limit), sent)


async def test_pulls_keep_to_the_limit_that_is_told() -> None:
    """The host refuses no request after it has announced its limit, however many wait."""
    host = Host(limit=7, window=60)
    await host.pull()
    await asyncio.gather(*(host.pull() for _ in range(40)))
    assert (host.refused, len(host.pulled)) == (0, 41)
    assert host.clock.now - 1000.0 < 8 * 60


async def test_requests_that_do_not_count_do_not_wait() -> None:
    """HEAD is free at Docker Hub."""
    gate = HostGate("r.example", MovedClock(), NETWORK)
    gate.saw(200, hub(0), 0)
    assert not gate.enter_now(pull=True)
    assert gate.enter_now()


async def test_the_run_says_that_a_limit_holds_it_up() -> None:
    clock = MovedClock()
    gate = HostGate("r.example", clock, NETWORK)
    gate.saw(200, hub(0), 0)
    activity = Activity()
    CURRENT.set(activity)
    delayed: list[int] = []

    async def sleep(seconds: float) -> None:
        delayed.append(activity.delayed)
        clock.now += seconds

    clock.sleep = sleep  # type: ignore[method-assign]
    await gate.enter(pull=True)
    assert (delayed, activity.delayed, clock.now) == ([1], 0, 1060.0)


async def test_a_window_of_hours_is_the_servers_to_refuse() -> None:
    """Six hours are too long to wait: the server's response decides."""
    gate = HostGate("r.example", MovedClock(), NETWORK)
    gate.saw(200, hub(0, window=21600), 0)
    assert gate.enter_now(pull=True)


async def test_all_requests_wait_where_all_count() -> None:
    clock = MovedClock()
    gate = HostGate("r.example", clock, NETWORK)
    gate.saw(200, drafted(2), 0)
    assert gate.enter_now()
    assert gate.enter_now()
    assert not gate.enter_now()
    gate.leave()
    gate.leave()
    gate.saw(200, drafted(0, 30), gate.responses)
    assert gate.is_closed  # for blobs as well
    await gate.enter()
    assert clock.now == 1030.0


async def test_an_older_word_does_not_raise_what_is_left() -> None:
    """Responses may arrive out of order: the lower number counts, until a later request raises it."""
    gate = HostGate("r.example", MovedClock(), NETWORK)
    gate.saw(200, hub(1), 0)
    gate.saw(200, hub(5), 0)
    assert gate.enter_now(pull=True)
    assert not gate.enter_now(pull=True)
    sent = gate.responses
    gate.leave(pull=True)
    gate.saw(200, hub(5), sent)
    assert [gate.enter_now(pull=True) for _ in range(6)] == [True] * 5 + [False]


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    gate = HostGate("r.example", MovedClock(), NETWORK)
    gate.saw(200, hub(1), 0)
    assert gate.enter_now(pull=True)
    waiting = asyncio.ensure_future(gate.enter(pull=True))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.leave(pull=True)
    gate.saw(200, hub(1), gate.responses)
    assert gate.enter_now(pull=True)
    assert len(asyncio.all_tasks()) == 1
