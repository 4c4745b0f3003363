"""The limits that a run keeps to by itself: bytes and requests a second, for all hosts and for single ones.

Whatever reads bytes of blobs or sends requests asks a `Pace` before it does so, a part of a blob or a request
at a time. A byte counts once, when it is read, against the limit of all hosts, of its source and of the
target that it goes to. Bytes that a broken request brings a second time do not count again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cached_property
from typing import Literal

from crossdock.activity import CURRENT
from crossdock.oci.registryname import registry_key
from crossdock.options import CopyOptions, HostLimits
from crossdock.rate import Bucket

_Kind = Literal["requests_per_second", "bytes_per_second"]  # of `HostLimits`

BURST_S = 0.1
"""Seconds whose share may pass at once after a pause; no sleep of the event loop is so much too long."""
PART_S = 0.125
"""Seconds whose share one request for bytes may have: 1.25 % of what ten seconds bring."""
LEAST_PART = 64 * 1024  # bytes; smaller requests would limit the rate by themselves


class Throttle:
    """A bucket whose users wait for it, in the order in which they came."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.per_second = per_second
        self._bucket = Bucket(per_second, BURST_S)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()

    async def take(self, count: float) -> None:
        """Return when `count` may pass. One that is cancelled has taken nothing."""
        if not self._turn.locked() and not self._bucket.wait(self._clock()):
            self._bucket.take(count, self._clock())
            return
        activity = CURRENT.get()
        if activity is not None:
            activity.limited += 1
        try:
            async with self._turn:
                while wait_s := self._bucket.wait(self._clock()):
                    await self._sleep(wait_s)
                self._bucket.take(count, self._clock())
        finally:
            if activity is not None:
                activity.limited -= 1


class Pace:
    """The throttles that one kind of request passes, one after the other."""

    def __init__(self, first: Throttle, *others: Throttle) -> None:
        self._throttles = (first, *others)
        self.per_second = min(each.per_second for each in self._throttles)

    async def take(self, count: float) -> None:
        """Return when `count` may pass all of them."""
        for throttle in self._throttles:
            await throttle.take(count)

    @property
    def part_size(self) -> float:
        """The most bytes to request at once, so that they do not come in bursts."""
        return max(LEAST_PART, self.per_second * PART_S)


class Pauses:
    """The pauses that registries ask for (``Retry-After``), shared with processes under the same limits."""

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        """`tell` is called with the host that asked this process for a pause, and the seconds."""
        self._tell = tell
        self._closing: dict[str, list[Callable[[float], object]]] = {}

    def join(self, host: str, close: Callable[[float], object]) -> None:
        """`close` a gate of the host for the seconds that it asked others for."""
        self._closing.setdefault(host, []).append(close)

    def asked(self, host: str, seconds: float) -> None:
        """The host asked one of ours."""
        self._tell(host, seconds)

    def close(self, host: str, seconds: float) -> None:
        """The host asked others."""
        for close in self._closing.get(host, ()):
            close(seconds)


class Limits:
    """The limits of a session."""

    pauses: Pauses | None = None
    """The pauses shared with other processes, if there are any."""

    def __init__(self, options: CopyOptions) -> None:
        self._options = options
        self._all = HostLimits(
            requests_per_second=options.limit_requests, bytes_per_second=options.limit_rate
        )
        self._throttles: dict[tuple[_Kind, str], Throttle] = {}
        self._uploads: dict[str, asyncio.Semaphore] = {}

    @cached_property
    def _hosts(self) -> dict[str, HostLimits]:
        return {self.key(host): limits for host, limits in self._options.limit_hosts.items()}

    def key(self, registry: str) -> str:
        """The name of a registry among the limits, however it is written."""
        registries = self._options.registries
        return registry_key(registries.home_of(registry) if registries is not None else registry)

    def of_requests(self, registry: str) -> Pace | None:
        """The pace of requests to a registry, ``host[:port]``, and to hosts that it names; None: no limit."""
        return self._pace("requests_per_second", registry)

    def of_bytes(self, source: str, target: str) -> Pace | None:
        """The pace of bytes from the registry `source` to `target`; None: no limit."""
        return self._pace("bytes_per_second", source, target)

    def of_shared_bytes(self, target: str) -> Pace | None:
        """The pace, at one of several targets, of bytes that were counted when they were read."""
        throttle = self._throttle("bytes_per_second", self.key(target))
        return Pace(throttle) if throttle is not None else None

    def connections(self, registry: str) -> int | None:
        """The number of connections that there may be to a host; None: no limit."""
        limits = self._hosts.get(self.key(registry))
        return limits.connections if limits is not None else None

    def upload_turn(self, target: str) -> AbstractAsyncContextManager[None]:
        """The block that uploads a large blob to `target`.

        An upload holds a connection while it waits for bytes of its source. With more uploads than
        connections, those that have bytes could wait for connections, and those with connections for bytes.
        """
        most = self.connections(target)
        if most is None:
            return nullcontext()
        return self._uploads.setdefault(self.key(target), asyncio.Semaphore(most))

    def _pace(self, kind: _Kind, *registries: str) -> Pace | None:
        # The limit of all hosts is last: waiting for a slower host then holds no other host up.
        keys = dict.fromkeys([*map(self.key, registries), ""])
        throttles = [throttle for key in keys if (throttle := self._throttle(kind, key)) is not None]
        return Pace(*throttles) if throttles else None

    def _throttle(self, kind: _Kind, key: str) -> Throttle | None:
        limits = self._hosts.get(key) if key else self._all
        per_second: float | None = getattr(limits, kind, None)
        if per_second is None:
            return None
        if (kind, key) not in self._throttles:
            self._throttles[kind, key] = self._new_throttle(kind, key, per_second)
        return self._throttles[kind, key]

    def _new_throttle(self, kind: str, key: str, per_second: float) -> Throttle:
        return Throttle(per_second)
