"""Reading one blob: byte ranges in parallel, given out in order as pieces.

Rules:

1. The first range is the probe. Nothing else is requested before the head of its response is here (R1).
2. A response with the whole blob turns the first part into the one stream. When a later part gets the whole
   blob, everything beyond the frontier is dropped and read again as one stream; it is never written at the
   part's offset (R9).
3. A part holds its connection permit from before its slots are reserved until its last byte, failures
   included. So a holder of slots that are not full can always continue (see `budget.py`).
4. A part that breaks is requested again from its own first missing byte (R10), without ``If-Range`` (R12).
5. A part at the frontier that is far slower than the others, or silent, is requested a second time from its
   first missing byte on another connection, which takes over (`slowness.py`).
6. A part at the frontier makes the source wait while enough of its bytes wait to be hashed. Those on their
   way stay in the kernel, and few slots are touched: fresh memory and cold memory cost more than waiting.
7. When nothing is left to request and connections are idle, the part with the largest rest is cut in two, and
   the second half is requested on another one. The first response is dropped at the cut.
8. With a limit on bytes a second, a part is paid for before it is requested, and a stream slot by slot.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from crossdock.content import BlobSource, Body
from crossdock.errors import CrossdockError, ProtocolError, TransportError
from crossdock.tasks import stop
from crossdock.transfer.parts import Part
from crossdock.transfer.slowness import LATER_PARTS_DONE, Slowness
from crossdock.transfer.supply import Piece, Supply

PIECES_AT_ONCE = 4  # hashed in one turn when they are here: each turn wakes two threads


class RangesIgnored(Exception):
    """The response to a later part is the whole blob."""


class RangedReader:
    """Bytes ``start``..``size`` of a blob in order.

    ``boundary``: no piece crosses a multiple of it. ``limit``: nothing from there on is requested until
    `allow` moves it; a source that ignores ranges does not heed it.
    """

    def __init__(
        self,
        source: BlobSource,
        size: int,
        supply: Supply,
        *,
        start: int = 0,
        boundary: int | None = None,
        limit: int | None = None,
        on_requested: Callable[[int], None],
        on_retry: Callable[[CrossdockError], None],
    ) -> None:
        self._source = source
        self._size = size
        self._supply = supply
        self._boundary = boundary
        self._on_requested = on_requested
        self._on_retry = on_retry
        self._parts: deque[Part] = deque()  # ascending; the first holds `_given`
        self._given = start
        self._wanted = start
        self._next = start  # where the next range begins
        self._frontier = start  # everything before it has landed
        self._limit = size if limit is None else limit
        self._wake: asyncio.Future[None] | None = None
        self._held: asyncio.Future[None] | None = None
        self._paused: tuple[Part, float] | None = None  # and since when
        self._is_held = False  # as counted by the permits
        self._is_fed = False  # bytes waited for the consumer since it last waited for them
        self._tasks: set[asyncio.Task[None]] = set()
        self._issuer: asyncio.Task[None] | None = None
        self._probed = asyncio.Event()
        self._is_stream = False
        self._paid: float = math.inf  # of a stream: the end of what may be read so far
        self._paying = False
        self._failure: BaseException | None = None
        self._slowness = Slowness(size)

    async def next_pieces(self) -> list[Piece]:
        """The next bytes, as far as they are here, at most `PIECES_AT_ONCE`; empty after the last.

        Nothing follows a multiple of the boundary. Raises the error that ended the reading.
        """
        if self._issuer is None:
            self._issuer = self._spawn(self._issue())
            self._supply.permits.watch_blob(self._look)
        while True:
            if self._given == self._size:
                return []
            pieces: list[Piece] = []
            while len(pieces) < PIECES_AT_ONCE and (piece := self._cut()) is not None:
                pieces.append(piece)
                if piece.stop == self._size or (self._boundary and piece.stop % self._boundary == 0):
                    break
            if pieces:
                self._resume_paused()
                return pieces
            if isinstance(self._failure, RangesIgnored):
                await self._fall_back()
            elif self._failure is not None:
                raise self._failure
            await self._starve()

    def allow(self, limit: int | None) -> None:
        """Bytes before `limit` may be requested; None: all."""
        self._limit = self._size if limit is None else max(limit, self._limit)
        self._release_hold()

    async def close(self) -> None:
        """End every request and give back every slot. Safe at any time."""
        self._supply.permits.unwatch(self._look)
        try:
            await stop(*self._tasks)
        finally:
            for part in self._parts:
                part.drop()
            self._parts.clear()
            self._paused = None
            self._tell_held()

    # -- frontier ----------------------------------------------------------------------------------------

    def _is_frontier(self, part: Part) -> bool:
        """Whether the next byte of the part is the first that is missing."""
        return part.position == self._frontier

    def _cut(self) -> Piece | None:
        """The piece at the frontier, once it reaches the end of a slot, a part or a boundary."""
        if not self._parts:
            self._wanted = self._given + 1
            return None
        part = self._parts[0]
        slot_end = part.slot_end(self._given)
        wanted = slot_end
        if self._boundary is not None:
            wanted = min(wanted, (self._given // self._boundary + 1) * self._boundary)
        if part.position < wanted:
            self._wanted = wanted
            return None
        slot, within = part.slot_at(self._given)
        length = wanted - self._given
        ends_slot = wanted == slot_end
        piece = Piece(self._given, slot.view[within : within + length], slot, within + length, ends_slot)
        if ends_slot:
            part.take_slot(wanted)
        self._passed(part, wanted)
        return piece

    def _passed(self, part: Part, given: int) -> None:
        """The consumer has everything before `given`."""
        self._given = given
        self._release_hold()
        if given == part.stop:
            self._parts.popleft()

    async def _starve(self) -> None:
        """Wait until the bytes that are wanted next are here, or reading has failed."""
        self._wake = asyncio.get_running_loop().create_future()
        self._is_fed = False
        self._release_hold()
        try:
            with self._supply.permits.starving.one_more():
                await self._wake
        finally:
            self._wake = None

    @property
    def _waiting(self) -> int:
        """Bytes that the consumer could take."""
        return self._frontier - self._given

    def _is_wanted(self, part: Part) -> bool:
        """Rules 6 and 8: whether `part` may fill one more slot now. If not, it is resumed when it may."""
        if part.position >= self._paid:
            self._pay_for(part)
            return False
        if not self._is_frontier(part) or self._waiting <= self._supply.permits.landed:
            return True
        if self._paused is None:
            self._paused = part, asyncio.get_running_loop().time()
            self._is_fed = True
            self._tell_held()
        return False

    def _pay_for(self, stream: Part) -> None:
        """Wait in a task until one more slot of the stream may be read."""

        async def pay() -> None:
            size = self._supply.budget.slot_size
            await self._supply.pay(size)
            self._paid += size
            self._paying = False
            if stream.body is not None:
                stream.body.resume()

        if not self._paying:
            self._paying = True
            self._spawn(pay())

    def _resume_paused(self) -> None:
        """Resume the part that waits, if the consumer has taken enough."""
        if self._paused is None or self._waiting > self._supply.permits.landed:
            return
        (part, since), self._paused = self._paused, None
        part.waited_s += asyncio.get_running_loop().time() - since
        self._tell_held()
        if part.body is not None:
            part.body.resume()

    def _arrived(self, part: Part, count: int) -> None:
        self._supply.permits.received(count)
        if part.position - count == self._frontier:
            self._frontier = part.position
        if part.position == part.stop:
            self._pass_finished_parts()
            self._release_hold()
            if part.body is not None and part.body.stop > part.stop:
                asyncio.get_running_loop().call_soon(part.body.close)  # cut; not from within its own callback
        if self._frontier >= self._wanted:
            self._wake_up()

    def _pass_finished_parts(self) -> None:
        for part in self._parts:
            if part.start == self._frontier:
                self._frontier = part.position

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- requests ----------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._failure is None or isinstance(self._failure, RangesIgnored):
                self._failure = error
            self._wake_up()

    def _ahead(self) -> int:
        """Bytes requested or here that the consumer has not taken yet."""
        return self._parts[-1].stop - self._given if self._parts else 0

    async def _issue(self) -> None:
        """Request ranges, lowest first, as fast as permits and slots allow."""
        supply = self._supply
        while not self._is_stream and self._next < self._size:
            if self._is_enough():
                await self._hold()
            await supply.permits.acquire(self._ahead)
            try:
                start = self._next
                size = min(supply.part_of(self._size - start), self._limit - start)
                slots = -(-size // supply.budget.slot_size)
                with supply.permits.idle():
                    await supply.pay(size)
                    await supply.budget.reserve(slots)
            except BaseException:
                supply.permits.release()
                raise
            part = Part(start, start + size, supply.budget, slots, self._arrived, self._is_wanted)
            self._next = part.stop
            self._parts.append(part)
            self._start(part)
            if not self._probed.is_set():
                await self._probed.wait()

    def _is_enough(self) -> bool:
        """Whether the consumer has to take bytes before more are of use."""
        if self._next >= self._limit:
            return True
        if self._is_fed and self._supply.permits.share == 1 and self._parts:
            return self._parts[-1].position < self._parts[-1].stop
        return self._waiting > self._supply.permits.enough

    def _release_hold(self) -> None:
        if self._held is not None and not self._held.done() and not self._is_enough():
            self._held.set_result(None)

    async def _hold(self) -> None:
        """Wait until the consumer has taken enough."""
        self._held = asyncio.get_running_loop().create_future()
        self._tell_held()
        try:
            await self._held
        finally:
            self._held = None
            self._tell_held()

    def _tell_held(self) -> None:
        is_held = self._held is not None or self._paused is not None
        self._supply.permits.held.change(is_held - self._is_held)
        self._is_held = is_held

    def _start(self, part: Part) -> None:
        """Read the part in a task that owns one permit. A task cancelled before it ran returns it too."""
        self._spawn(self._read(part)).add_done_callback(lambda task: self._supply.permits.release())

    async def _read(self, part: Part) -> None:
        """Fill the part, with retries from where it broke."""
        network, failures = self._supply.network, list[CrossdockError]()  # in a row
        while part.position < part.stop:
            before = part.position
            try:
                await self._read_once(part)
            except CrossdockError as error:
                if part.position - before >= network.least_progress:
                    failures.clear()
                failures.append(error)
                delay_s = network.delay_after(failures)
                self._supply.permits.refused()
                self._on_retry(error)
                with self._supply.permits.idle():
                    await asyncio.sleep(delay_s)
                await self._supply.permits.resume(lambda: part.position - self._given)

    async def _read_once(self, part: Part) -> None:
        requested = time.monotonic()  # finer than the loop's clock, which stands still within a turn
        before = part.position
        body = await self._open(part)
        self._supply.permits.responded(time.monotonic() - requested)
        try:
            self._on_requested(body.stop - body.start)
            if body.start > part.position or body.stop < part.stop:
                raise ProtocolError(
                    f"requested bytes {part.position}-{part.stop - 1}, "
                    f"the response has {body.start}-{body.stop - 1}"
                )
            if body.stop > part.stop:
                if self._probed.is_set():
                    raise RangesIgnored
                self._stream_from(part, body.stop)
            self._probed.set()
            began = time.monotonic()
            while True:
                part.expect(body)
                try:
                    await body.receive(part)  # network
                    break
                except TransportError:
                    if part.position == part.stop:
                        break
                    if part.next_body is None:
                        raise
                body, part.next_body = part.next_body, None
            seconds = time.monotonic() - began
            self._slowness.finished(seconds)
            self._supply.permits.finished(part.position - before, seconds)
        finally:
            part.body = None
            body.close()
            if part.next_body is not None:
                part.next_body.close()
                part.next_body = None

    async def _open(self, part: Part) -> Body:
        """The response with the bytes that the part lacks, or the one that a rescue got first. # network"""
        part.opening = asyncio.ensure_future(self._source.open(part.position, part.stop))
        try:
            return await part.opening
        except asyncio.CancelledError:
            if not part.opening.cancelled() and part.opening.exception() is None:
                part.opening.result().close()
            task, body = asyncio.current_task(), part.next_body
            if body is None or task is None or task.cancelling():
                raise
            part.next_body = None
            return body
        finally:
            part.opening = None

    def _look(self, now: float) -> None:
        """Rules 5 and 7, called a few times a second."""
        self._look_at_frontier(now)
        if self._issuer is not None and self._issuer.done() and self._failure is None:
            while self._split_largest_rest(now):
                pass

    def _split_largest_rest(self, now: float) -> bool:
        permits = self._supply.permits
        able = [part for part in self._parts if part.body is not None and not part.is_stream]
        part = max(able, key=lambda part: part.stop - part.position, default=None)
        if part is None or self._paused is not None or permits.limit == permits.used:
            return False
        at, end, left = part.splits_at(), part.stop, part.stop - part.position
        if at == end or not self._slowness.is_worth_splitting(left, *part.pace(now), permits.first_byte_s):
            return False
        if not self._slowness.may_repeat(end - at) or not permits.acquire_now():
            return False
        slots = part.cut(at)
        tail = Part(at, end, self._supply.budget, slots, self._arrived, self._is_wanted)
        self._parts.insert(self._parts.index(part) + 1, tail)
        self._start(tail)
        return True

    def _look_at_frontier(self, now: float) -> None:
        part = self._parts[0] if self._parts else None
        if self._paused is not None:
            self._slowness.forget()
            return
        if part is None or part.rescued or part.is_stream or not (part.body or part.opening):
            return
        later = sum(other.position == other.stop for other in self._parts) >= LATER_PARTS_DONE
        if self._slowness.is_hopeless(part.start, part.position, part.stop, now, later):
            part.rescued = True
            self._spawn(self._rescue(part))

    async def _rescue(self, part: Part) -> None:
        """Request the rest of the part a second time; the first response with the next byte is kept."""
        try:
            body = await self._source.open(part.position, part.stop)  # network
        except CrossdockError:
            return  # the first connection continues, and is retried when it breaks
        self._on_requested(body.stop - body.start)
        is_needed = part.body is not None or part.opening is not None
        if is_needed and body.start <= part.position < part.stop == body.stop:
            part.take_over(body)
        else:
            body.close()

    def _stream_from(self, part: Part, end: int) -> None:
        """`part` takes everything from its position on; no other range will be requested."""
        self._is_stream = True
        if self._supply.pace is not None:
            self._paid = part.stop
        part.become_stream(end)

    async def _fall_back(self) -> None:
        """Rule 2: keep what is contiguous, drop the rest, read on as one stream."""
        await stop(*self._tasks)
        while self._parts[-1].start > self._frontier:
            self._parts.pop().drop()
        self._failure = None
        part = self._parts[-1]
        self._stream_from(part, self._size)
        await self._supply.permits.acquire(self._ahead)
        self._start(part)
