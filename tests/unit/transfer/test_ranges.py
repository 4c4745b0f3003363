"""The ranged reader as a scheduler, over a source that the test controls."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable

import pytest

from crossdock.content import ByteSink
from crossdock.errors import CrossdockError, NotFound, ReadFailed, RetriesExhausted, ServerBusy
from crossdock.tasks import stop
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits
from crossdock.transfer.ranges import PIECES_AT_ONCE, RangedReader
from crossdock.transfer.supply import Piece, Supply
from unit.transfer.shop import QuickNetwork

PART_SLOTS = 4
PARTS = 12
RETRIES = 3


class Reply:
    """A `content.Body` whose bytes come by `give`."""

    def __init__(self, owner: ScriptedSource, start: int, stop: int) -> None:
        self.owner, self.start, self.stop = owner, start, stop
        self.position = start
        self.is_closed = False
        self._given = start
        self._error: CrossdockError | None = None
        self._moved = asyncio.Event()

    def give(self, count: int | None = None) -> None:
        """Let the next `count` bytes come, or all."""
        self._given = self.stop if count is None else min(self.stop, self._given + count)
        self._moved.set()

    def fail(self, error: CrossdockError) -> None:
        """Fail after the delivered bytes."""
        self._error = error
        self._moved.set()

    async def receive(self, sink: ByteSink) -> None:
        while self.position < self.stop:
            if self.is_closed:
                raise ReadFailed("closed by this side")
            self._moved.clear()
            buffer = sink.get_buffer() if self.position < self._given else None
            if buffer is not None:
                count = min(len(buffer), self._given - self.position)
                buffer[:count] = self.owner.data[self.position : self.position + count]
                self.position += count
                sink.received(count)
            elif self.position == self._given and self._error is not None:
                raise self._error
            else:
                await self._moved.wait()

    def resume(self) -> None:
        self._moved.set()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.owner.live -= 1
        self._moved.set()


class ScriptedSource:
    """A `content.BlobSource` whose requests are scripted by their number."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requests: list[tuple[int, int]] = []
        self.replies: dict[int, Reply] = {}
        self.gives = True  # replies deliver everything at once
        self.waits: set[int] = set()  # those that deliver when the test says so
        self.silent: set[int] = set()  # those without a response
        self.errors: dict[int, CrossdockError] = {}
        self.whole: Callable[[int], bool] = lambda number: False  # those that get the whole blob
        self.live = 0

    async def open(self, start: int, stop: int) -> Reply:
        number = len(self.requests)
        self.requests.append((start, stop))
        await asyncio.sleep(0)
        if number in self.silent:
            await asyncio.Event().wait()
        if number in self.errors:
            raise self.errors[number]
        whole = self.whole(number)
        reply = Reply(self, 0, len(self.data)) if whole else Reply(self, start, stop)
        self.replies[number] = reply
        self.live += 1
        if self.gives and number not in self.waits:
            reply.give()
        return reply


class Bench:
    """A blob of `PARTS` parts, a supply, and a reader of it."""

    def __init__(self, *, slots: int = 64, connections: int = 4, size: int = 0) -> None:
        budget = Budget(slots << 16, debug=True)
        self.slot = budget.slot_size
        self.part = PART_SLOTS * self.slot
        self.permits = Permits(budget, fixed=connections, part_size=self.part)
        self.supply = Supply(budget=budget, permits=self.permits, network=QuickNetwork(retries=RETRIES))
        self.size = size or PARTS * self.part
        self.source = ScriptedSource(random.Random(1).randbytes(self.size))
        self.requested = 0
        self.retried: list[str] = []
        self.readers: list[RangedReader] = []

    def reader(
        self, *, start: int = 0, boundary: int | None = None, limit: int | None = None
    ) -> RangedReader:
        made = RangedReader(
            self.source,
            self.size,
            self.supply,
            start=start,
            boundary=boundary,
            limit=limit,
            on_requested=self._count,
            on_retry=lambda error: self.retried.append(str(error)),
        )
        self.readers.append(made)
        return made

    def _count(self, count: int) -> None:
        self.requested += count

    async def rest(self, reader: RangedReader, start: int = 0) -> list[Piece]:
        """Read to the end and compare; the pieces, given back."""
        pieces: list[Piece] = []
        position = start
        while batch := await reader.next_pieces():
            assert len(batch) <= PIECES_AT_ONCE
            for piece in batch:
                assert piece.offset == position, "in order, without a hole"
                assert bytes(piece.view) == self.source.data[position : piece.stop]
                position = piece.stop
                self.supply.release(piece)
            pieces += batch
        assert position == self.size
        return pieces

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until `condition`, then as long again, to detect unwanted events."""
        for _ in range(3000):
            if condition():
                break
            await asyncio.sleep(0)
        assert condition()
        for _ in range(50):
            await asyncio.sleep(0)

    def range(self, number: int) -> tuple[int, int]:
        """The part of that number, of those that are all equal."""
        return number * self.part, (number + 1) * self.part


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await ended(made)


async def ended(bench: Bench) -> None:
    for reader in bench.readers:
        await reader.close()
    assert bench.source.live == 0, "a body was not closed"
    assert bench.permits.used == 0, "a permit was not given back"
    assert bench.supply.budget.free == bench.supply.budget.slots, "a slot was not given back"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    bench.supply.budget.close()


# -- scheduling ----------------------------------------------------------------------------------------------


async def test_the_first_range_is_alone_until_its_head_is_there_then_permits_decide(bench: Bench) -> None:
    source = bench.source
    source.gives = False
    source.silent = {0}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: len(source.requests) == 1)
    assert source.requests == [bench.range(0)]
    await stop(reading)
    await bench.readers[0].close()
    source.requests.clear()
    source.silent = set()
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: len(source.requests) == 4)
    assert source.requests == [bench.range(number) for number in range(4)], "lowest first, four connections"
    await stop(reading)


async def test_pieces_come_in_order_however_the_parts_land(bench: Bench) -> None:
    source = bench.source
    source.gives = False
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: len(source.replies) == 4)
    for number in (3, 1, 2):
        source.replies[number].give()
        await asyncio.sleep(0)
    assert not reading.done()
    source.gives = True
    source.replies[0].give()
    await bench.until(lambda: 4 in source.replies)
    for reply in tuple(source.replies.values()):
        reply.give()
    await reading
    assert sorted(source.requests) == [bench.range(number) for number in range(PARTS)]
    assert bench.requested == bench.size


async def test_no_piece_crosses_a_boundary_and_none_follows_one(bench: Bench) -> None:
    boundary = 3 * bench.slot // 2
    reader = bench.reader(boundary=boundary)
    stops = []
    while batch := await reader.next_pieces():
        for piece in batch:
            assert piece.offset // boundary == (piece.stop - 1) // boundary
            bench.supply.release(piece)
        assert all(piece.stop % boundary for piece in batch[:-1])
        stops.append(batch[-1].stop)
    assert stops[-1] == bench.size
    assert set(range(boundary, bench.size, boundary)) <= set(stops)


async def test_nothing_behind_the_limit_is_requested_until_it_is_allowed(bench: Bench) -> None:
    source, limit = bench.source, bench.part + bench.slot
    reader = bench.reader(limit=limit)
    reading = asyncio.ensure_future(bench.rest(reader))
    await bench.until(lambda: len(source.requests) == 2)
    assert source.requests == [(0, bench.part), (bench.part, limit)]
    reader.allow(limit + 10)
    await bench.until(lambda: len(source.requests) == 3)
    assert source.requests[2] == (limit, limit + 10)
    reader.allow(None)
    await reading


async def test_a_source_that_is_faster_than_the_consumer_waits_at_the_frontier(bench: Bench) -> None:
    reader = bench.reader()
    first = await reader.next_pieces()
    await bench.until(lambda: bench.source.replies[0].position == bench.part)
    delivered = sum(reply.position - reply.start for reply in bench.source.replies.values())
    await bench.until(lambda: True)
    again = sum(reply.position - reply.start for reply in bench.source.replies.values())
    assert again == delivered < bench.size, "it has stopped"
    assert bench.permits.used < 4 or len(bench.source.requests) < PARTS
    for piece in first:
        bench.supply.release(piece)
    await bench.rest(reader, first[-1].stop)


async def test_the_reader_that_starves_gets_the_next_permit() -> None:
    bench = Bench(connections=2)
    fed, other = bench.reader(), bench.reader()
    bench.source.waits = set(range(100))
    first = asyncio.ensure_future(fed.next_pieces())
    await bench.until(lambda: len(bench.source.requests) == 2)  # both connections are those of the first
    starving = asyncio.ensure_future(other.next_pieces())
    await bench.until(lambda: True)
    assert len(bench.source.requests) == 2
    bench.source.replies[0].give()
    await bench.until(lambda: len(bench.source.requests) == 3)
    assert bench.source.requests[2] == bench.range(0), (
        "the one that has nothing, not the next part of the other"
    )
    for reply in bench.source.replies.values():
        reply.give()
    for piece in itertools.chain(await first, await starving):
        bench.supply.release(piece)
    await ended(bench)


# -- failures ------------------------------------------------------------------------------------------------


async def test_a_part_that_breaks_is_requested_again_from_its_first_missing_byte(bench: Bench) -> None:
    source = bench.source
    source.waits = {2}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: 2 in source.replies)
    source.replies[2].give(1000)
    source.replies[2].fail(ReadFailed("broke"))
    await reading
    start, stop = bench.range(2)
    assert (start + 1000, stop) in source.requests
    assert len(source.requests) == PARTS + 1
    assert bench.retried == ["broke"]


async def test_retries_are_counted_for_each_part_and_without_progress_in_between(bench: Bench) -> None:
    errors = {number: ServerBusy("busy") for number in (1, 2, 3)}  # one each of three parts
    bench.source.errors = dict(errors)
    await bench.rest(bench.reader())
    assert len(bench.retried) == 3


async def test_a_part_that_never_comes_ends_the_reading(bench: Bench) -> None:
    bench.source.errors = {number: ServerBusy("busy") for number in range(100)}
    with pytest.raises(RetriesExhausted, match=f"after {RETRIES + 1} "):
        await bench.rest(bench.reader())
    assert len(bench.retried) == RETRIES


async def test_bytes_that_landed_before_a_failure_are_given_out_before_it_is_raised(bench: Bench) -> None:
    source = bench.source
    source.waits = {2}
    reader = bench.reader()
    first = await reader.next_pieces()
    await bench.until(lambda: 2 in source.replies and source.replies[1].is_closed)
    source.replies[2].fail(NotFound("gone"))
    await bench.until(lambda: source.replies[2].is_closed)
    pieces = [*first, *await reader.next_pieces()]
    assert pieces[-1].stop == 2 * bench.part
    with pytest.raises(NotFound):
        await reader.next_pieces()
    assert bench.retried == []
    for piece in pieces:
        bench.supply.release(piece)


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_closed_at_any_moment_it_gives_back_permits_slots_and_bodies(steps: int) -> None:
    bench = Bench(connections=3)
    bench.source.waits = {1, 4}
    bench.source.errors = {2: ServerBusy("busy")}
    reading = asyncio.ensure_future(bench.reader().next_pieces())
    for _ in range(steps):
        await asyncio.sleep(0)
    await stop(reading)
    if not reading.cancelled():
        for piece in reading.result():
            bench.supply.release(piece)
    await ended(bench)


# -- ranges that are ignored ---------------------------------------------------------------------------------


async def test_a_source_without_ranges_is_read_as_one_stream(bench: Bench) -> None:
    bench.source.whole = lambda number: True
    await bench.rest(bench.reader())
    assert len(bench.source.requests) == 1


async def test_a_later_part_that_gets_the_whole_blob_makes_it_one_stream(bench: Bench) -> None:
    bench.source.whole = lambda number: number >= 2
    bench.source.waits = {1}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: 1 in bench.source.replies)
    bench.source.replies[1].give(1000)
    await reading
    assert len(bench.source.requests) < PARTS
    assert bench.retried == []


# -- slow parts ----------------------------------------------------------------------------------------------


async def test_a_silent_frontier_is_requested_a_second_time_and_the_first_to_deliver_is_kept(
    bench: Bench,
) -> None:
    source = bench.source
    source.waits = {1}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: 1 in source.replies)
    source.replies[1].give(bench.slot + 5)
    await bench.until(lambda: source.live == 1)
    before = len(source.requests)
    for now in (0.0, 100.0, 200.0):
        bench.permits.look(now)
    await reading
    assert source.requests[before:].count((bench.part + bench.slot + 5, 2 * bench.part)) == 1, (
        "once, not twice"
    )
    assert source.replies[1].is_closed
    assert bench.retried == []


async def test_a_second_request_that_is_refused_leaves_the_first_one_at_work(bench: Bench) -> None:
    source = bench.source
    source.waits = {1}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: 1 in source.replies)
    await bench.until(lambda: source.live == 1)
    source.errors = {len(source.requests): ServerBusy("busy")}
    before = len(source.requests)
    for now in (0.0, 100.0):
        bench.permits.look(now)
    await bench.until(lambda: len(source.requests) == before + 1)
    source.replies[1].give()
    await reading
    assert bench.retried == []


async def test_in_the_end_the_largest_rest_is_cut_for_an_idle_connection(bench: Bench) -> None:
    source, last = bench.source, PARTS - 1
    source.waits = {last}
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: last in source.replies and source.live == 1)
    source.waits = {last, last + 1}
    bench.permits.look(asyncio.get_running_loop().time() + 1.0)
    await bench.until(lambda: last + 1 in source.replies)
    start, end = bench.range(last)
    assert source.requests[-1] == (start + PART_SLOTS // 2 * bench.slot, end)
    source.replies[last + 1].give()
    source.replies[last].give()
    await reading
    assert source.replies[last].is_closed
    assert source.replies[last].position < end, "given up where it was cut"


async def test_nothing_is_cut_while_there_is_something_to_request(bench: Bench) -> None:
    source = bench.source
    source.waits = set(range(100))
    reading = asyncio.ensure_future(bench.rest(bench.reader()))
    await bench.until(lambda: len(source.requests) == 4)
    bench.permits.look(asyncio.get_running_loop().time() + 1.0)
    await bench.until(lambda: True)
    assert len(source.requests) == 4
    await stop(reading)
