"""Places that several owners share, so that a slow one cannot keep the others out.

At most `most` places are held at once. When all are held, the waiting owner that holds fewest is next. An
owner with fewer than `least` gets one in any case: its share does not depend on the speed of others. So there
may be `least` places more for each owner; how many owners there are is bounded elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Shares:
    """The places. With one owner it is a semaphore."""

    def __init__(self, most: int, least: int) -> None:
        self._most = most
        self._least = least
        self._total = 0
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # first come, first served

    @asynccontextmanager
    async def place(self, owner: Hashable) -> AsyncIterator[None]:
        """The block for which `owner` holds a place."""
        if self._may_have(owner) and owner not in self._waiting:
            self._take(owner)
        else:
            await self._wait(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    async def _wait(self, owner: Hashable) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(owner)
            else:
                self._leave(owner, turn)
            raise

    def _may_have(self, owner: Hashable) -> bool:
        return self._total < self._most or self._held[owner] < self._least

    def _take(self, owner: Hashable) -> None:
        self._total += 1
        self._held[owner] += 1

    def _give_back(self, owner: Hashable) -> None:
        self._total -= 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        while self._waiting:
            following = min(self._waiting, key=lambda each: self._held[each])
            if not self._may_have(following):
                return
            turn = self._waiting[following][0]
            self._leave(following, turn)
            if not turn.done():
                self._take(following)
                turn.set_result(None)

    def _leave(self, owner: Hashable, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[owner]
