"""Single flight: N tasks that need the same thing wait for one piece of work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class _Flight(Generic[Result]):
    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.waiters = 0


class SingleFlight(Generic[Result]):
    """Runs at most one piece of work per key at a time; its result is forgotten once its waiters have it."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Result]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result, or the error, of `work` for `key`; joins the one under way.

        A waiter that is cancelled leaves; the last one to leave takes the work with it.
        """
        flight = self._flights.get(key)
        # One that is done stays until its waiters have run: only then may they have stored the result.
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(work()))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if not flight.task.done():
                    flight.task.cancel()
                    await _ended(flight.task)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a cancelled task; a cancellation that arrives meanwhile is raised after it."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
