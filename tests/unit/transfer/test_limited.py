"""A limit on bytes a second: each byte is paid for once, before it is read, whichever way it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from crossdock.errors import ReadFailed
from crossdock.events import ignore
from crossdock.limits import Pace, Throttle
from crossdock.tally import Tally
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.ranges import RangedReader
from crossdock.transfer.reread import reread_blob
from crossdock.transfer.sides import target_side
from crossdock.transfer.small import SmallMove
from crossdock.transfer.workshop import Workshop
from unit.transfer.doubles import MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left, make_workshop
from unit.transfer.test_blob import SLOT, blob_of
from unit.transfer.test_ranges import Bench, ended

SIZE = 21 * SLOT + 999


class CountingPace(Pace):
    """Counts what it lets through, and remembers it."""

    def __init__(self, part_size: float = 3 * SLOT) -> None:
        super().__init__(Throttle(1.0))
        self.taken: list[float] = []
        self.size = part_size

    async def take(self, count: float) -> None:
        self.taken.append(count)

    @property
    def part_size(self) -> float:
        return self.size


@pytest.fixture
def pace() -> CountingPace:
    return CountingPace()


@pytest.fixture
async def workshop(pace: CountingPace) -> AsyncIterator[Workshop]:
    whole = make_workshop()
    yield replace(whole, supply=replace(whole.supply, pace=pace))
    assert_nothing_left(whole)
    whole.hashing.close()
    whole.supply.budget.close()


async def test_parts_are_paid_for_and_no_larger_than_the_limit_says(
    workshop: Workshop, pace: CountingPace
) -> None:
    blob, data = blob_of(SIZE)
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    await BlobMove(blob, source, target_side(target), workshop, WHOLE, Tally(ignore)).run()
    assert target.blobs[blob.digest] == data
    assert sum(pace.taken) == SIZE
    assert max(pace.taken) == 3 * SLOT


async def test_a_limit_below_a_slot_makes_parts_as_small(workshop: Workshop, pace: CountingPace) -> None:
    pace.size = SLOT / 4
    blob, data = blob_of(2 * SLOT + 5)
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    await BlobMove(blob, source, target_side(target), workshop, WHOLE, Tally(ignore)).run()
    assert target.blobs[blob.digest] == data
    assert (sum(pace.taken), max(pace.taken)) == (blob.size, SLOT // 4)


async def test_a_small_blob_is_paid_for_whole(workshop: Workshop, pace: CountingPace) -> None:
    blob, data = blob_of(SLOT)
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    await SmallMove(blob, source, target_side(target), workshop, Tally(ignore)).run()
    assert pace.taken == [SLOT]


async def test_bytes_read_back_count_against_the_rate(workshop: Workshop, pace: CountingPace) -> None:
    blob, data = blob_of(SIZE)
    target = MemoryTarget()
    target.blobs[blob.digest] = data
    await reread_blob(blob, target_side(target), workshop, Tally(ignore))
    assert sum(pace.taken) == SIZE


# -- a reader --------------------------------------------------------------------------------------------


@pytest.fixture
async def bench(pace: CountingPace) -> AsyncIterator[Bench]:
    made = Bench()
    made.supply = replace(made.supply, pace=pace)
    yield made
    await ended(made)


def reader_of(bench: Bench, pace: CountingPace) -> RangedReader:
    pace.size = bench.part
    return bench.reader()


async def test_a_source_without_ranges_is_paid_for_slot_by_slot(bench: Bench, pace: CountingPace) -> None:
    bench.source.whole = lambda number: True
    await bench.rest(reader_of(bench, pace))
    assert pace.taken[0] == bench.part
    assert set(pace.taken[1:]) == {bench.slot}
    assert bench.size <= sum(pace.taken) < bench.size + bench.slot


async def test_ranges_that_end_in_the_middle_are_paid_for_on(bench: Bench, pace: CountingPace) -> None:
    """A later part gets the whole blob: what was paid for beyond the frontier is read anew."""
    bench.source.whole = lambda number: number >= 3
    await bench.rest(reader_of(bench, pace))
    assert bench.size <= sum(pace.taken) < bench.size + 5 * bench.part


async def test_a_part_that_breaks_is_not_paid_for_again(bench: Bench, pace: CountingPace) -> None:
    bench.source.errors = {1: ReadFailed("broken"), 4: ReadFailed("broken")}
    await bench.rest(reader_of(bench, pace))
    assert len(bench.retried) == 2
    assert sum(pace.taken) == bench.size


async def test_nothing_is_requested_before_it_is_paid_for(bench: Bench, pace: CountingPace) -> None:
    paid: list[float] = []

    class Slow(CountingPace):
        async def take(self, count: float) -> None:
            requested = sum(stop - start for start, stop in bench.source.requests)
            assert requested <= sum(paid)
            paid.append(count)

    bench.supply = replace(bench.supply, pace=Slow(bench.part))
    await bench.rest(bench.reader())
    assert sum(paid) == bench.size
