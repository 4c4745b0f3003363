"""One gate per host: how many small requests run at once, and the back-off that all of them share.

A 429 is about the client, not about the request that happened to get it. Whoever sees one closes the gate for
everyone until the time that the server named; requests under way are left alone (A2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from crossdock.errors import RateLimited
from crossdock.protocol.redirect import Origin, origin, show_origin
from crossdock.registry.retry import MAX_RETRY_AFTER_S, Clock, RetryPolicy, retry_after

CONTROL_CONCURRENCY = 32  # small requests to one host at once: half of the pool, the other is for blobs

_THROTTLING = frozenset({429, 503})


class HostGate:
    """The gate of one host."""

    def __init__(self, name: str, clock: Clock, concurrency: int = CONTROL_CONCURRENCY) -> None:
        self._name = name
        self._clock = clock
        self._policy = RetryPolicy(clock)
        self._slots = asyncio.Semaphore(concurrency)
        self._opens_at = 0.0  # on the monotonic clock
        self._refusals = 0  # 429 in a row that named no time

    async def enter(self) -> None:
        """Take one of the concurrent places, once the gate is open, until `leave`. Raises as `wait`."""
        await self._slots.acquire()
        if self._opens_at:
            try:
                await self.wait()
            except BaseException:
                self._slots.release()
                raise

    def leave(self) -> None:
        """Give the place back."""
        self._slots.release()

    async def wait(self) -> None:
        """Return when the gate is open. Raises `RateLimited` when it stays closed for too long to wait."""
        while (left := self._opens_at - self._clock.monotonic()) > 0:
            if left > MAX_RETRY_AFTER_S:
                raise RateLimited(
                    f"{self._name} asked to be left alone for another {left:.0f} s",
                    hint="try again after that time",
                    retryable=False,
                    retry_after=left,
                )
            await self._clock.sleep(left)

    def close_for(self, seconds: float) -> None:
        """Close the gate for that long; never shortens an earlier closing."""
        self._opens_at = max(self._opens_at, self._clock.monotonic() + seconds)

    def saw(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer: its ``Retry-After``, or a 429 without one."""
        if status not in _THROTTLING:
            self._refusals = 0
            return
        asked = retry_after(headers, self._clock.wall())
        if asked is not None:
            self.close_for(asked)
        elif status == 429 and self._opens_at <= self._clock.monotonic():  # else sent before it was closed
            self.close_for(self._policy.delay(self._refusals))
            self._refusals += 1


class Gates:
    """The gates of every host that one client talks to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[Origin, HostGate] = {}

    def of(self, url: str) -> HostGate:
        """The gate of the URL's origin."""
        key = origin(url)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = HostGate(show_origin(key), self._clock)
        return gate
