"""The connection pool: existing connections, their holders, and the queue.

Every change of the pool's state is synchronous and complete when the call returns, so cancellation can only
happen between two consistent states. A *place* is the right to one connection on a route; an exchange holds
it from before its connection is opened until after it is released.

Per route: places held + idle connections <= limit. An idle connection is always used before a new one is
opened, so a place without an idle connection means that there is room for a new one. The limit is lowered if
the process has no file descriptor left for a connection (`Pool.make_room`), and then rises again step by
step.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import TYPE_CHECKING

from crossdock.errors import ConnectFailed, TimedOut
from crossdock.transport.state import State

if TYPE_CHECKING:
    from crossdock.transport.connection import Connection
    from crossdock.transport.route import Route

IDLE_FOR = 50.0  # seconds an idle connection is kept; nginx closes after 75, many load balancers after 60
IDLE_LIMIT = 96  # idle connections in all
GROWS_AFTER = 32  # released connections after which a lowered limit rises by one

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()  # of this process, whose descriptors they share


class _Lane:
    """State of one route."""

    __slots__ = ("busy", "idle", "places", "released", "waiting")

    def __init__(self) -> None:
        self.places = 0  # held
        self.released = 0  # total releases, the progress of the queue
        self.idle: deque[Connection] = deque()  # most recently used last
        self.busy: set[Connection] = set()
        self.waiting: deque[asyncio.Future[None]] = deque()

    def progress(self) -> int:
        """A number that stays the same only while no connection of this route moves bytes."""
        return self.released + sum(connection.moved for connection in self.busy)


class Pool:
    """Places and idle connections of all routes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, patience: float) -> None:
        self._loop = loop
        self._limit = self._most = limit
        self._given_back = 0  # releases since the limit changed
        self._patience = patience
        self._routes: dict[Route, _Lane] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        _pools.add(self)

    def __repr__(self) -> str:
        lines = (
            f"{route.origin.scheme}://{route.origin.host_and_port}: {state.places} busy,"
            f" {len(state.idle)} idle, {len(state.waiting)} waiting"
            for route, state in self._routes.items()
        )
        return f"<Pool {'; '.join(lines)}>"

    async def place(self, route: Route) -> Connection | None:
        """Wait for a place, first come, first served. Returns an idle connection, if any, for it.

        Raises `TimedOut` (phase pool) if nothing moved on the route for `patience` seconds.
        """
        if not self.place_now(route):
            await self._queue(route, self._routes[route])
        return self.take_idle(route)

    def place_now(self, route: Route) -> bool:
        """Take a place if one is free, to be followed by `take_idle`; False: `place` has to wait for one."""
        self._check_open()
        state = self._routes.get(route)
        if state is None:
            state = self._routes[route] = _Lane()
        if state.places >= self._limit or state.waiting:
            return False
        state.places += 1
        return True

    async def _queue(self, route: Route, state: _Lane) -> None:
        turn = self._loop.create_future()
        state.waiting.append(turn)
        try:
            while True:
                before = state.progress()
                await asyncio.wait((turn,), timeout=self._patience)
                if turn.done():
                    turn.result()
                    return
                if state.progress() == before:
                    raise TimedOut(
                        f"all {self._limit} connections to {route.origin.host_and_port} were busy"
                        f" and moved nothing for {self._patience:g} s",
                        phase="pool",
                    )
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free(route, state)  # the place was handed to us and will not be used
            elif turn in state.waiting:
                state.waiting.remove(turn)
            raise

    def take_idle(self, route: Route) -> Connection | None:
        """An idle connection, if any, for a place that is held."""
        state = self._routes[route]
        while state.idle:
            connection = state.idle.pop()
            connection.on_lost = None
            if connection.alive(self._loop.time(), IDLE_FOR):
                state.busy.add(connection)
                return connection
            connection.close()
        return None

    def occupy(self, route: Route, connection: Connection) -> None:
        """Register a new connection for a place. Raises `ConnectFailed` if the pool is closed."""
        self._check_open()
        self._routes.setdefault(route, _Lane()).busy.add(connection)

    def discard(self, route: Route, connection: Connection) -> None:
        """Remove a dead connection. Its place stays held."""
        state = self._routes[route]
        state.busy.discard(connection)
        self._forget(route, state)

    def release(self, route: Route, connection: Connection | None) -> None:
        """Release a place with its connection, which is kept if it is idle."""
        state = self._routes[route]
        if connection is not None:
            state.busy.discard(connection)
            if connection.state is State.IDLE:
                self._keep(state, connection)
        self._free(route, state)

    def _free(self, route: Route, state: _Lane) -> None:
        state.released += 1
        state.places -= 1
        self._grow()
        while state.waiting and state.places < self._limit:
            turn = state.waiting.popleft()
            if not turn.done():
                state.places += 1  # it passes to the waiter
                turn.set_result(None)
        self._forget(route, state)

    def _grow(self) -> None:
        """Raise the limit again step by step after `make_room`."""
        if self._limit < self._most:
            self._given_back += 1
            if self._given_back >= GROWS_AFTER:
                self._given_back = 0
                self._limit += 1

    def _forget(self, route: Route, state: _Lane) -> None:
        if not state.places and not state.idle and not state.waiting:
            self._routes.pop(route, None)

    def _keep(self, state: _Lane, connection: Connection) -> None:
        is_full = len(state.idle) >= IDLE_LIMIT
        if len(self._routes) > 1 and not is_full:
            is_full = sum([len(other.idle) for other in self._routes.values()]) >= IDLE_LIMIT
        if self._closed or is_full:
            connection.close()
            return
        connection.on_lost = self._lost
        state.idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_FOR, self._sweep)

    def _lost(self, connection: Connection) -> None:
        for route, state in tuple(self._routes.items()):
            if connection in state.idle:
                state.idle.remove(connection)
                self._forget(route, state)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._loop.time()
        oldest: list[float] = []
        for route, state in tuple(self._routes.items()):
            while state.idle and state.idle[0].idle_since <= now - IDLE_FOR:
                connection = state.idle.popleft()
                connection.on_lost = None
                connection.close()
            if state.idle:
                oldest.append(state.idle[0].idle_since)
            self._forget(route, state)
        if oldest:
            self._sweeper = self._loop.call_at(min(oldest) + IDLE_FOR, self._sweep)

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectFailed("the client is closed", retryable=False)

    async def make_room(self) -> bool:
        """Free descriptors: close the idle connections of all pools, and lower this pool's limit for a while.

        Returns whether any was closed.
        """
        busy = max((len(state.busy) for state in self._routes.values()), default=0)
        self._limit = max(1, min(self._limit, busy))
        self._given_back = 0
        closed = [
            connection for pool in _pools if pool._loop is self._loop for connection in pool._close_idle()
        ]
        for connection in closed:
            await connection.gone()
        return bool(closed)

    def _close_idle(self) -> list[Connection]:
        closed: list[Connection] = []
        for route, state in tuple(self._routes.items()):
            for connection in state.idle:
                connection.on_lost = None
                connection.abort()
            closed += state.idle
            state.idle.clear()
            self._forget(route, state)
        return closed

    def close(self) -> list[Connection]:
        """Close every connection and hand out no more places. Returns the closed ones, to be awaited."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        closed: list[Connection] = []
        for state in self._routes.values():
            for connection in state.idle:
                connection.on_lost = None
                connection.close()
            for connection in state.busy:
                connection.abort()
            closed += [*state.idle, *state.busy]
            state.idle.clear()
            for turn in state.waiting:
                if not turn.done():
                    turn.set_exception(ConnectFailed("the client was closed", retryable=False))
            state.waiting.clear()
        return closed
