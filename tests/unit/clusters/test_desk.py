"""What the cluster shares: limits, pauses, uploads and messages, at the scheduler."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from crossdock.clusters.asking import ClusterLimits
from crossdock.clusters.desk import Desk, Desks
from crossdock.options import CopyOptions, HostLimits


class Scheduler:
    """As much of Dask's as a desk looks at."""

    def __init__(self) -> None:
        self.clients = {"client"}
        self.workers: dict[str, Any] = {"tcp://worker": None}


def desk_of(scheduler: Scheduler) -> tuple[Desks, Desk]:
    desks, desk = Desks(), Desk(scheduler, "client", b"settings", {"old": b"1"})
    desks.open("run", desk)
    return desks, desk


def limits_at(desks: Desks, options: CopyOptions) -> ClusterLimits:
    async def ask(operation: str, **values: Any) -> Any:
        return await desks.answer("run", operation, values)

    return ClusterLimits(options, ask)


def test_a_rate_holds_for_all_who_share_it() -> None:
    async def used(seconds: float) -> int:
        desks, _ = desk_of(Scheduler())
        options = CopyOptions(limit_hosts={"r.example": HostLimits(requests_per_second=200)})
        paces = [limits_at(desks, options).of_requests("r.example") for _ in range(3)]
        count, until = 0, time.monotonic() + seconds

        async def ask(number: int) -> None:
            nonlocal count
            pace = paces[number]
            assert pace is not None
            while time.monotonic() < until:
                await pace.take(1)
                count += 1

        await asyncio.gather(*(ask(number % 3) for number in range(6)))
        return count

    assert asyncio.run(used(0.5)) <= 200 * (0.5 + 0.1) + 3 * 200 * 0.02 + 6


def test_a_pause_is_told_to_all_others() -> None:
    async def closed() -> list[tuple[str, bool]]:
        desks, desk = desk_of(Scheduler())
        mine, other = (limits_at(desks, CopyOptions()) for _ in range(2))
        seen: list[tuple[str, bool]] = []
        both = asyncio.Event()

        def close(name: str, seconds: float) -> None:
            seen.append((name, 4 < seconds <= 5))
            if len(seen) == 2:
                both.set()

        for name, each in (("mine", mine), ("other", other)):
            assert each.pauses is not None
            each.pauses.join("r", partial(close, name))
        following = [asyncio.ensure_future(each.follow("tcp://worker")) for each in (mine, other)]
        mine.pauses.asked("r", 5.0)  # type: ignore[union-attr]
        await asyncio.wait_for(both.wait(), 30)
        await desk.end()
        await asyncio.gather(*following)
        return sorted(seen)

    assert asyncio.run(closed()) == [("mine", True), ("other", True)]


def test_an_attempt_begins_once_and_a_run_ends_for_those_who_are_gone() -> None:
    async def check() -> None:
        scheduler = Scheduler()
        desks, _ = desk_of(scheduler)
        assert await desks.answer("run", "begin", {"attempt": 1}) is True
        assert await desks.answer("run", "begin", {"attempt": 1}) is False
        assert await desks.answer("other", "begin", {"attempt": 1}) == {"over": True}
        assert (await desks.answer("run", "news", {"seen": {}, "worker": "tcp://gone"}))["over"]
        scheduler.clients.clear()
        assert (await desks.answer("run", "news", {"seen": {}, "worker": "tcp://worker"}))["over"]

    asyncio.run(check())


def test_uploads_are_kept_for_others_and_told_to_the_client() -> None:
    async def check() -> None:
        scheduler = Scheduler()
        scheduler.workers = {}
        desks, _ = desk_of(scheduler)
        assert await desks.answer("run", "upload", {"key": "old"}) == b"1"
        await desks.answer("run", "tell", {"messages": [b"m"], "uploads": [("new", b"2"), ("old", None)]})
        assert await desks.answer("run", "upload", {"key": "new"}) == b"2"
        assert await desks.answer("run", "upload", {"key": "old"}) is None
        inbox = await desks.answer("run", "inbox", {"seconds": 1.0})
        assert inbox["messages"] == [b"m"]
        assert inbox["uploads"] == [("new", b"2"), ("old", None)]
        assert await desks.answer("run", "close", {}) is None
        assert await desks.answer("run", "inbox", {"seconds": 1.0}) == {"over": True}

    asyncio.run(check())
