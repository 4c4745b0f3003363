"""The login of a cloud's identity: asked for once, and again before it ends or after it was refused.

The cloud's own library finds the identity (`aws`, `google`): variables, files, the metadata service of a
virtual machine or container, a token of Kubernetes or GitHub. Such libraries block, so each call has a thread
of its own and a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from crossdock.errors import CredentialsError
from crossdock.options import Credentials
from crossdock.registry.auth.clouds import Answer, Cloud
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.retry import Clock

TIMEOUT_S = 60.0
"""The longest that a library may take, with its own retries at every place that it looks at."""
MARGIN_S = 180.0
"""A login is renewed this long before it ends, at most half of its lifetime. Google's metadata service gives
the same token until 5 minutes before its end, its library renews at 225 s."""
RENEWAL_S = 10.0
"""The longest that requests wait for another login while there is one."""
PAUSE_S = 30.0
"""Between two questions that failed, and between two renewals because of refusals."""

Result = TypeVar("Result")


class CloudLogin:
    """The login of one cloud, shared by the registries of a session that take it."""

    def __init__(self, cloud: Cloud, clock: Clock, ask: Callable[[], Answer] | None = None) -> None:
        """`ask` blocks, and raises `CredentialsError`; by default the cloud's library is asked."""
        self.cloud = cloud
        self.login: Credentials | None = None
        """The newest."""
        self.due = 0.0
        """When it is to be renewed (monotonic)."""
        self._clock = clock
        self._ask = ask
        self._failure: CredentialsError | None = None
        self._refused_at = float("-inf")
        self._flights: SingleFlight[None] = SingleFlight()

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask, or to ask again."""
        return self._clock.monotonic() >= self.due

    async def get(self, refused: Credentials | None = None) -> Credentials | None:
        """The login, another than `refused` if there is one. # network

        A login that cannot be renewed stays in use until its end shows. Raises `CredentialsError` without
        one.
        """
        if refused is not None and self.login is refused:
            now = self._clock.monotonic()
            if now - self._refused_at >= PAUSE_S:
                self._refused_at, self.due = now, now
        if self.is_due:
            await self._flights.run("ask", self._renew)
        if self.login is None and self._failure is not None:
            raise self._failure
        return self.login

    async def _renew(self) -> None:
        if not self.is_due:  # by one that ended just now
            return
        if self._ask is None:
            self._ask = _library(self.cloud)
        try:
            answer = await in_thread(self._ask, TIMEOUT_S if self.login is None else RENEWAL_S)
        except CredentialsError as error:
            self._failure = error
        except TimeoutError:
            self._failure = CredentialsError(f"{self.cloud.name} gave no login in time")
        else:
            self._failure = None
            self.login = answer.credentials
            self.due = self._clock.monotonic() + self._time_to_renewal(answer)
            return
        self.due = self._clock.monotonic() + PAUSE_S

    def _time_to_renewal(self, answer: Answer) -> float:
        if answer.ends is None:
            return float("inf")
        left = answer.ends - self._clock.wall()
        # An end in the past is that of a clock that is wrong: the registry will tell.
        return left - min(MARGIN_S, left / 2) if left > 0 else float("inf")


def _library(cloud: Cloud) -> Callable[[], Answer]:
    if cloud.service == "google":
        from crossdock.registry.auth.google import Google

        return Google().ask
    from crossdock.registry.auth.aws import Aws

    return Aws(cloud).ask


async def in_thread(work: Callable[[], Result], timeout: float) -> Result:
    """The result of blocking `work`. Raises its error, or `TimeoutError`.

    The thread is of no pool: neither a cancellation nor the end of the process waits for it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed, and the result is not needed
            loop.call_soon_threadsafe(settle, result, error)

    Thread(target=run, name="crossdock-login", daemon=True).start()
    async with asyncio.timeout(timeout):
        return await future
