"""The number of requests of a kind that a host still allows, so that they wait before they are refused.

A response tells how many were left when it was made. Requests under way may have been counted or not, so no
more are sent than were left. Responses overtake each other: of two words the lower counts, unless the later
one answers a request that was sent after the earlier one came.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.activity import CURRENT
from crossdock.registry.http.retry import MAX_RETRY_AFTER_S, Clock

if TYPE_CHECKING:
    from crossdock.protocol.ratelimit import Allowance


class Allowed:
    """The number of requests of one kind that a host still accepts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: int | None = None  # None: as many as one likes, as far as is known
        self._limit: int | None = None
        self._until = 0.0  # end of the window, on the monotonic clock
        self._told = 0  # number of the host's response that said so
        self._news: asyncio.Future[None] | None = None

    def takes(self, under_way: int) -> bool:
        """Whether another request may be sent, with this many under way."""
        if self._left is None:
            return True
        if self._clock.monotonic() >= self._until:  # a new window, of which only the limit is known
            self._left = None if self._limit is None else max(1, self._limit)
            return self._left is None or under_way < self._left
        # If the window is longer than we would wait, send the request: the server may refuse it.
        return under_way < self._left or self._wait_s > MAX_RETRY_AFTER_S

    @property
    def _wait_s(self) -> float:
        return self._until - self._clock.monotonic()

    def tell(self, said: Allowance, sent: int, now: int) -> None:
        """Take the allowance of the host's `now`-th response, whose request followed its `sent`-th one."""
        is_later = sent >= self._told or self._left is None
        self._left = said.remaining if is_later else min(said.remaining, self._left or 0)
        self._limit = said.limit
        self._until = self._clock.monotonic() + said.window_s
        self._told = now
        self.wake()

    def wake(self) -> None:
        """Wake the waiting requests, to check again."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def wait(self) -> None:
        """Return when there is news, or a new window."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        news = self._news
        activity = CURRENT.get() if self._left == 0 else None  # else responses under way may permit more
        if activity is not None:
            activity.delayed += 1
        wait_s = self._wait_s  # in a new window there is news as soon as what is under way ends
        renewal = asyncio.ensure_future(self._clock.sleep(wait_s)) if wait_s > 0 else None
        try:
            await asyncio.wait(
                (news,) if renewal is None else (news, renewal), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if renewal is not None:
                renewal.cancel()
            if activity is not None:
                activity.delayed -= 1
