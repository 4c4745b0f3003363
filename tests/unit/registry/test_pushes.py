"""Pushes of manifests that touch the same content take turns; all others do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from crossdock.registry.pushes import Pushes


class Pusher:
    """Pushes that begin in order and end when they are told to."""

    def __init__(self) -> None:
        self.pushes = Pushes()
        self.running: list[str] = []
        self.waited: dict[str, bool] = {}
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def push(self, name: str, repository: str, digest: str, below: Iterable[str] = ()) -> None:
        async def work() -> None:
            async with self.pushes.turn(repository, digest, below) as has_waited:
                self.waited[name] = has_waited
                self.running.append(name)
                await self.ends[name].wait()
            self.running.remove(name)

        self.ends[name] = asyncio.Event()
        self.tasks.append(asyncio.ensure_future(work()))
        await self._settle()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (("r", "a"), ("r", "a"), True),
        (("r", "a"), ("r", "b"), False),
        (("r", "a"), ("other", "a"), False),
        (("r", "index", ["a", "b"]), ("r", "b"), True),
        (("r", "b"), ("r", "index", ["a", "b"]), True),
        (("r", "index", ["a"]), ("r", "index 2", ["a"]), False),
        (("r", "index", ["a"]), ("other", "a"), False),
        (("r", "index", ["inner"]), ("r", "outer", ["index"]), True),
    ],
)
def test_who_waits_for_whom(first: tuple[str, ...], second: tuple[str, ...], waits: bool) -> None:
    async def play() -> None:
        pusher = Pusher()
        await pusher.push("first", *first)  # type: ignore[arg-type]
        await pusher.push("second", *second)  # type: ignore[arg-type]
        assert pusher.running == (["first"] if waits else ["first", "second"])
        await pusher.end("first")
        assert pusher.running == ["second"]
        assert pusher.waited == {"first": False, "second": first[:2] == second[:2]}
        await pusher.end("second")
        assert pusher.running == []

    asyncio.run(play())


def test_a_push_that_is_cancelled_or_fails_lets_the_others_proceed() -> None:
    async def play() -> None:
        pusher = Pusher()
        for name in ("one", "two", "three"):
            await pusher.push(name, "r", "a")
        pusher.tasks[1].cancel()
        pusher.tasks[0].cancel()
        await asyncio.gather(*pusher.tasks[:2], return_exceptions=True)
        await pusher._settle()
        assert pusher.running[-1] == "three"
        await pusher.end("three")
        assert pusher.tasks[2].done()

    asyncio.run(play())
