"""When to ask again, and how long to wait before.

Two delays exist. The server's own (``Retry-After``) is obeyed in full and shared by every request to the host
(`gate.HostGate`). Without one, each request backs off by itself: exponential with full jitter, so that
many requests that failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from typing import TypeVar

from msgspec import Struct

from crossdock.errors import CrossdockError, DigestMismatch, RetriesExhausted, SizeMismatch
from crossdock.options import NetworkOptions

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 900.0
"""The longest ``Retry-After`` that is waited for. Above it the error is raised at once, with what the server
asked: a copy that sleeps for hours (Docker Hub's window is six) helps nobody, and a CI job would be
killed."""


_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]+)?")

Result = TypeVar("Result")


class Clock:
    """Time and chance as the client sees them. Tests give their own."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch, for dates that servers send."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()


class RetryPolicy(Struct, frozen=True):
    """Full jitter: anything up to ``first × 2**attempt`` seconds, at most ``cap``."""

    clock: Clock
    first: float = FIRST_DELAY_S
    cap: float = MAX_DELAY_S

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed try number `attempt` (the first is 0)."""
        return self.clock.random() * min(self.cap, self.first * 2.0 ** min(attempt, 32))


class Retrier:
    """Repeats what may pass: up to ``network.retries`` tries after the first."""

    def __init__(
        self, clock: Clock, network: NetworkOptions, on_retry: Callable[[str, str], None] | None
    ) -> None:
        """`on_retry` is told ``(operation, reason)`` before each repetition."""
        self._clock = clock
        self._policy = RetryPolicy(clock)
        self._network = network
        self._on_retry = on_retry

    async def run(self, operation: Callable[[], str], attempt: Callable[[], Awaitable[Result]]) -> Result:
        """The result of `attempt`. An error that is not retryable ends it; the last of several retryable ones
        is raised in `RetriesExhausted`, which no level above repeats again.
        """
        failures: list[CrossdockError] = []
        while True:
            try:
                return await attempt()
            except CrossdockError as error:
                if not error.retryable:
                    raise
                failures.append(error)
                if len(failures) > self._network.retries_after(error):
                    if len(failures) == 1:
                        raise
                    raise _exhausted(failures) from error
            await self._pause(operation, failures)

    async def once_more(
        self, operation: Callable[[], str], attempt: Callable[[], Awaitable[Result]]
    ) -> Result:
        """The result of `attempt`, made a second time when it met wrong bytes: they may be damage."""
        try:
            return await attempt()
        except (DigestMismatch, SizeMismatch) as error:
            self.note(operation(), error)
        return await attempt()

    def note(self, operation: str, error: BaseException) -> None:
        """Tell of a repetition that the caller makes itself."""
        if self._on_retry is not None:
            self._on_retry(operation, str(error))

    async def _pause(self, operation: Callable[[], str], failures: Sequence[CrossdockError]) -> None:
        error = failures[-1]
        self.note(operation(), error)
        if getattr(error, "retry_after", None) is None:  # else the host's gate makes everyone wait
            await self._clock.sleep(self._policy.delay(len(failures) - 1))


def _exhausted(failures: Sequence[CrossdockError]) -> RetriesExhausted:
    last = failures[-1]
    return RetriesExhausted(
        f"{last} (gave up after {len(failures)} tries)", advice=last.advice, attempts=tuple(failures)
    )


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number or an HTTP-date (RFC 9110 section 10.2.3). None: not
    given.

    `wall` is the present time since the epoch. A date in the past is 0; a value that is neither counts as
    absent.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    from email.utils import parsedate_to_datetime  # seldom needed, and a good part of a start-up

    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - wall)
