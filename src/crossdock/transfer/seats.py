"""A target's part in the shared read of one blob: its seat, and the pieces queued for it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.tally import Tally
from crossdock.transfer.supply import Piece, Supply

if TYPE_CHECKING:
    from crossdock.limits import Pace
    from crossdock.transfer.fanout import TargetReads
    from crossdock.transfer.sharedread import SharedBlob


class SharedPiece:
    """A piece that several targets have to send."""

    __slots__ = ("_supply", "piece", "users")

    def __init__(self, piece: Piece, users: int, supply: Supply) -> None:
        self.piece = piece
        self.users = users
        self._supply = supply

    def release(self) -> None:
        """Release one target's claim: it has sent the piece, or will not."""
        self.users -= 1
        if not self.users:
            self._supply.release(self.piece)


class Subscription:
    """The pieces of a blob for one target. To be closed."""

    def __init__(
        self,
        shared: SharedBlob,
        target: TargetReads,
        tally: Tally,
        begin: int,
        state: bytes | None,
        is_hashed: bool,
        boundary: int | None,
        limit: int | None,
        on_state: Callable[[int, bytes], None] | None,
    ) -> None:
        """As `Seat.subscribe`."""
        self.target = target
        self.tally = tally
        self.begin = begin
        self.state = state
        self.is_hashed = is_hashed
        self.boundary = boundary
        self.position = begin
        """The offset after the last piece given."""
        self.rest: tuple[int, bytes | None] | None = None
        """The offset from which it reads by itself, and the digest's state there; None: nowhere."""
        self.is_leaving = False
        self._limit = limit
        self._shared = shared
        self._on_state = on_state
        self._queue: deque[tuple[SharedPiece, bytes | None]] = deque()
        self._current: SharedPiece | None = None
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- for the target --------------------------------------------------------------------------------------

    async def next_piece(self) -> Piece | None:
        """The next piece, to be used until the next call; None: there are no more here, see `rest`.

        Raises the error that ended the reading.
        """
        self._release_current()
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self.rest is not None:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            self._shared.changed()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._current, state = self._queue.popleft()
        self._shared.changed()
        piece = self._current.piece
        self.position = piece.stop
        if state is not None and self._on_state is not None:
            self._on_state(piece.stop, state)
        return piece

    def allow(self, limit: int | None) -> None:
        """As `RangedReader.allow`."""
        if limit != self._limit:
            self._limit = limit
            self._shared.changed()

    def close(self) -> None:
        """Leave, and give back what is left of the pieces."""
        self._release_current()
        while self._queue:
            self._queue.popleft()[0].release()
        self._shared.left(self)

    # -- for the reader --------------------------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """Nothing from there on may be read."""
        return math.inf if self._limit is None else self._limit

    @property
    def is_waiting(self) -> bool:
        """Whether it could send more than it has."""
        return self._waiter is not None

    def is_full(self, given: int, most: int) -> bool:
        """Whether nothing may be read on its account, when it has got everything before `given`."""
        return len(self._queue) >= most or given >= self.limit

    def give(self, piece: SharedPiece, state: bytes | None) -> None:
        """Queue one piece, and the digest's state after it if there is one."""
        self._queue.append((piece, state))
        self._wake()

    def end(self, rest: tuple[int, bytes | None] | None, error: BaseException | None = None) -> None:
        """Nothing follows what is queued: the target reads the `rest` itself, or raises `error`."""
        self.rest, self._error = rest, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _release_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.release()


class Seat(Struct, frozen=True):
    """A target's in the read of one blob."""

    shared: SharedBlob
    target: TargetReads
    pace: Pace | None  # of bytes to the target, which were counted when they were read; None: no limit

    async def turn(self) -> None:
        """Return when the upload may begin, because the blob is read next."""
        await self.shared.placed.wait()

    def subscribe(
        self,
        tally: Tally,
        *,
        begin: int,
        state: bytes | None,
        is_hashed: bool,
        boundary: int | None,
        limit: int | None,
        on_state: Callable[[int, bytes], None] | None,
    ) -> Subscription | None:
        """The upload has begun, and the target has the bytes before `begin`, after which the digest's state
        is `state`. None: it is too late, or nothing is missing.

        `boundary` and `limit` are as for a `RangedReader`. `on_state` gets the digest's states at multiples
        of the boundary before the piece that ends there is given.
        """
        subscription = Subscription(
            self.shared, self.target, tally, begin, state, is_hashed, boundary, limit, on_state
        )
        return subscription if self.shared.join(subscription) else None

    async def pay(self, size: int) -> None:
        """Return when `size` bytes may be sent to the target."""
        if self.pace is not None:
            await self.pace.take(size)
