"""The requests of one copy, noted where they are sent: how many, which are open, which a registry delays.

`CURRENT` is the activity of the copy that a task works for; tasks that it starts inherit it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    from crossdock.errors import Side

    class Exchange(Protocol):
        """A request under way."""

        @property
        def side(self) -> str:
            """``source``, ``target``, or empty."""

        @property
        def moved(self) -> int:
            """A number that stands still only while no byte is sent or received."""

        @property
        def waits_here(self) -> bool:
            """The peer waits for this process, to send it bytes or to take some."""


class Activity:
    """The requests of one copy, or of a run beside its copies."""

    __slots__ = ("delayed", "ended", "limited", "open", "requests", "retried", "since")

    def __init__(
        self, retried: Callable[[Side, str, str], None] | None = None, *, since: float = 0.0
    ) -> None:
        """`retried` is called with side, operation and reason of a retry that serves several copies."""
        self.retried = retried
        self.since = since
        """When the run began, on the monotonic clock: what was listed before may be out of date."""
        self.requests = 0
        self.ended = 0
        self.open: set[Exchange] = set()
        self.delayed = 0
        """Requests that wait because a registry asked for a pause (``Retry-After``)."""
        self.limited = 0
        """Requests, or parts of blobs, that wait because of a limit of the options (`limits`)."""

    def began(self, exchange: Exchange) -> None:
        """A request is sent."""
        self.requests += 1
        self.open.add(exchange)

    def end(self, exchange: Exchange) -> None:
        """Its response has ended or was abandoned."""
        self.ended += 1
        self.open.discard(exchange)

    def moved(self, side: str) -> tuple[int, int, int]:
        """Open requests of one side, and two numbers that stand still only while nothing moves."""
        exchanges = [each for each in tuple(self.open) if each.side == side]
        return len(exchanges), self.ended, sum(each.moved for each in exchanges)


CURRENT: ContextVar[Activity | None] = ContextVar("crossdock_activity", default=None)
