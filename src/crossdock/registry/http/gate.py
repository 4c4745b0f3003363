"""One gate per host: the number of small requests that run at once, and the back-off that they share.

A 429 concerns the client, not only the request that got it. It closes the gate for all requests until the
time that the server named; requests under way continue (A2).

The limit grows while requests wait, by one for each response: for a distant host it bounds the throughput. A
host that refuses for load gets half as many, and from then on one more for as many responses as may run at
once (additive increase, multiplicative decrease, as TCP does).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from crossdock.activity import CURRENT
from crossdock.errors import Advice, RateLimited
from crossdock.options import NetworkOptions
from crossdock.registry.http.headers import HeaderView
from crossdock.registry.http.retry import MAX_RETRY_AFTER_S, Clock, retry_after
from crossdock.url import Origin

if TYPE_CHECKING:
    from crossdock.limits import Pauses
    from crossdock.registry.http.allowance import Allowed

CONTROL_CONCURRENCY = 32  # small requests to one host at once, to begin with: a third of the pool
MOST_CONTROL_CONCURRENCY = 64  # two thirds of it: the rest is for blobs
LEAST_CONTROL_CONCURRENCY = 4

_THROTTLING = frozenset({429, 503})


class HostGate:
    """The gate of one host."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        network: NetworkOptions,
        concurrency: int = CONTROL_CONCURRENCY,
        pauses: Pauses | None = None,
    ) -> None:
        """`pauses` are shared with other processes."""
        self._name = name
        self._pauses = pauses
        if pauses is not None:
            pauses.join(name, self._close_here)
        self._clock = clock
        self._network = network
        self._limit = concurrency
        self._inside = 0  # more than the limit for a while after it fell
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._answers = 0  # good ones since the limit changed
        self._excused = 0  # responses still to come to requests sent before the limit fell
        self._was_refused = False
        self._opens_at = 0.0  # on the monotonic clock
        self._refusals = 0  # 429 in a row that named no time
        self._allowed: dict[bool, Allowed] = {}  # of pulls alone (True), and of all requests
        self._pulls = 0  # under way
        self.responses = 0
        """The number of responses so far: `saw` gets the number at the time when the request was sent."""

    def enter_now(self, *, pull: bool = False) -> bool:
        """Take one of the concurrent places until `leave`; False: `enter` must be awaited.

        `pull`: for a GET of a manifest, which some hosts count.
        """
        if self._opens_at or self._waiting or self._inside >= self._limit or self._exhausted(pull):
            return False
        self._inside += 1
        self._pulls += pull
        return True

    async def enter(self, *, pull: bool = False) -> None:
        """Take one of the concurrent places, once the gate is open, until `leave`. Raises as `wait`."""
        while True:
            while (exhausted := self._exhausted(pull)) is not None:
                await exhausted.wait()  # without a place: others need none of what has run out
            if self._waiting or self._inside >= self._limit:
                await self._queue()
            else:
                self._inside += 1
            try:
                if self._opens_at:
                    await self.wait()
            except BaseException:
                self._give_back()
                raise
            if self._exhausted(pull, besides=1) is None:
                self._pulls += pull
                return
            self._give_back()

    def leave(self, *, pull: bool = False) -> None:
        """Give the place back."""
        self._pulls -= pull
        self._give_back()
        if self._allowed:  # few hosts state any
            for allowed in self._allowed.values():
                allowed.wake()

    def _give_back(self) -> None:
        self._inside -= 1
        if self._waiting:
            self._let_in()

    def _exhausted(self, pull: bool, besides: int = 0) -> Allowed | None:
        """The limit that a further request may not exceed now. It has `besides` places already."""
        if not self._allowed:  # most hosts state none
            return None
        for counts_pulls, allowed in self._allowed.items():
            under_way = self._pulls if counts_pulls else self._inside - besides
            if (pull or not counts_pulls) and not allowed.takes(under_way):
                return allowed
        return None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, and may still be: `wait` finds out."""
        return self._opens_at > 0

    async def wait(self) -> None:
        """Return when the gate is open. Raises `RateLimited` when it stays closed for too long to wait."""
        while (left := self._opens_at - self._clock.monotonic()) > 0:
            if left > MAX_RETRY_AFTER_S:
                raise RateLimited(
                    f"{self._name} asks to wait another {left:.0f} s",
                    advice=Advice("wait", "try again after that time"),
                    retryable=False,
                    retry_after=left,
                )
            activity = CURRENT.get()
            if activity is None:
                await self._clock.sleep(left)
                continue
            activity.delayed += 1
            try:
                await self._clock.sleep(left)
            finally:
                activity.delayed -= 1
        self._opens_at = 0.0

    def close_for(self, seconds: float) -> None:
        """Close the gate for that long; never shortens an earlier closing."""
        if self._close_here(seconds) and self._pauses is not None:
            self._pauses.asked(self._name, seconds)

    def _close_here(self, seconds: float) -> bool:
        """As `close_for`, for this gate alone; whether it is closed for longer than before."""
        before, self._opens_at = self._opens_at, max(self._opens_at, self._clock.monotonic() + seconds)
        return self._opens_at > before

    def saw(self, status: int, headers: HeaderView, sent: int | None = None) -> None:
        """Learn from a response: its ``Retry-After``, or a 429 without one; how many to send at once; and how
        many more the host allows, if its request was sent when there were `sent` responses.
        """
        self.responses += 1
        if sent is not None and ("ratelimit-remaining" in headers or "ratelimit" in headers):
            self._learn_allowance(headers, sent)
        excused = self._excused > 0
        self._excused -= excused
        if status not in _THROTTLING:
            self._refusals = 0
            self._grow()
            return
        if not excused:
            self._shrink()
        asked = retry_after(headers, self._clock.wall())
        if asked is not None:
            self.close_for(asked)
        elif status == 429 and self._opens_at <= self._clock.monotonic():  # else sent before it was closed
            self._refusals += 1
            self.close_for(self._network.backoff_s(self._refusals, self._clock.random()))

    def _learn_allowance(self, headers: HeaderView, sent: int) -> None:
        from crossdock.protocol.ratelimit import read_allowance  # few hosts have it
        from crossdock.registry.http.allowance import Allowed

        said = read_allowance(headers, self._clock.wall())
        if said is None:
            return
        if said.counts_pulls not in self._allowed:
            self._allowed[said.counts_pulls] = Allowed(self._clock)
        self._allowed[said.counts_pulls].tell(said, sent, self.responses)
        if not (said.remaining or said.counts_pulls) and said.window_s <= MAX_RETRY_AFTER_S:
            self.close_for(said.window_s)  # for requests outside of the gate, too

    def _grow(self) -> None:
        self._answers += 1
        needed = self._limit if self._was_refused else 1
        if self._answers < needed or self._limit >= MOST_CONTROL_CONCURRENCY or self._inside < self._limit:
            return
        self._answers = 0
        self._limit += 1
        self._let_in()

    def _shrink(self) -> None:
        self._answers, self._excused, self._was_refused = 0, self._limit, True
        self._limit = max(min(self._limit, LEAST_CONTROL_CONCURRENCY), self._limit // 2)

    async def _queue(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.cancelled():
                with suppress(ValueError):  # `_let_in` has taken it out
                    self._waiting.remove(turn)
            else:  # let in, and cancelled before it ran
                self._give_back()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._inside < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)


class Gates:
    """The gates of every host that one client talks to."""

    def __init__(self, clock: Clock, network: NetworkOptions, pauses: Pauses | None = None) -> None:
        self._clock = clock
        self._network = network
        self._pauses = pauses
        self._gates: dict[Origin, HostGate] = {}

    def of(self, origin: Origin) -> HostGate:
        """The gate of an origin."""
        gate = self._gates.get(origin)
        if gate is None:
            gate = self._gates[origin] = HostGate(
                str(origin), self._clock, self._network, pauses=self._pauses
            )
        return gate
