"""One blob of at most a slot: every way it can break and recover, with nothing left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from crossdock.errors import (
    CopyError,
    DigestMismatch,
    NotFound,
    ReadFailed,
    RetriesExhausted,
    UploadRejected,
    root_cause,
)
from crossdock.events import BlobProgress, BlobStarted, Event
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer.sides import target_side
from crossdock.transfer.small import HASH_INLINE, SmallMove
from crossdock.transfer.workshop import Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import assert_nothing_left, make_workshop

SIZE = 50_000


def blob_of(size: int = SIZE, algorithm: str = "sha256") -> tuple[Descriptor, bytes]:
    data = random.Random(7).randbytes(size)
    return Descriptor("application/octet-stream", Digest.of(data, algorithm), size), data


class World:
    def __init__(self, size: int = SIZE, algorithm: str = "sha256") -> None:
        self.blob, self.data = blob_of(size, algorithm)
        self.source = MemorySource(blobs={self.blob.digest: self.data})
        self.target = MemoryTarget()
        self.events: list[Event] = []
        self.tally = Tally(self.events.append)

    async def move(self, workshop: Workshop) -> None:
        await SmallMove(self.blob, self.source, target_side(self.target), workshop, self.tally).run()

    async def fail(self, workshop: Workshop) -> CopyError:
        with pytest.raises(CopyError) as caught:
            await self.move(workshop)
        assert self.target.blobs == {}
        assert {session.state for session in self.target.sessions} == {"cancelled"}
        assert self.source.live == 0
        return caught.value


Make = Callable[..., Workshop]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def new(**options: int) -> Workshop:
            workshop = make_workshop(**options)
            stack.callback(workshop.supply.budget.close)
            stack.callback(workshop.hashing.close)
            return workshop

        yield new


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("size", [0, 1, SIZE, HASH_INLINE, HASH_INLINE + 1, 1 << 20])
async def test_the_bytes_arrive_whole_in_one_request(
    size: int, ranged: bool, algorithm: str, make: Make
) -> None:
    world = World(size, algorithm)
    world.source.ranged = ranged
    workshop = make(memory=64 << 20)
    await world.move(workshop)
    assert world.target.blobs == {world.blob.digest: world.data}
    assert world.source.opened == [(0, size)] * (size > 0)
    assert world.tally.bytes_requested == size
    kinds = [type(event) for event in world.events]
    assert kinds == [BlobStarted, BlobProgress][: 1 + (size > 0)]
    assert_nothing_left(workshop)


async def test_a_blob_that_breaks_continues_at_its_first_missing_byte(
    world: World, workshop: Workshop
) -> None:
    world.source.on_open = lambda start, stop, number: 20_000 if number == 0 else None
    await world.move(workshop)
    assert world.source.opened == [(0, SIZE), (20_000, SIZE)]
    assert world.target.blobs == {world.blob.digest: world.data}
    assert world.tally.retries == 1


async def test_a_source_without_ranges_gives_all_of_it_again(world: World, workshop: Workshop) -> None:
    world.source.ranged = False
    world.source.on_open = lambda start, stop, number: 20_000 if number == 0 else None
    await world.move(workshop)
    assert world.target.blobs == {world.blob.digest: world.data}
    assert world.tally.bytes_requested == 2 * SIZE


async def test_progress_gives_the_retries_back(world: World, make: Make) -> None:
    world.source.on_open = lambda start, stop, number: 5_000 if number < 9 else None
    await world.move(make(retries=1))
    assert len(world.source.opened) == 10


async def test_a_trickle_that_breaks_is_not_progress(world: World, workshop: Workshop) -> None:
    world.source.on_open = lambda start, stop, number: 100
    error = await world.fail(workshop)
    assert isinstance(error.__cause__, RetriesExhausted)
    assert [start for start, _ in world.source.opened] == [0, 100, 200, 300]


async def test_a_source_without_ranges_that_breaks_now_here_now_there_is_given_up(
    world: World, workshop: Workshop
) -> None:
    """Each second try is ahead of the one before it, and none is ahead of all."""
    world.source.ranged = False
    world.source.on_open = lambda start, stop, number: 45_000 if number % 2 else 30_000
    error = await world.fail(workshop)
    assert isinstance(error.__cause__, RetriesExhausted)
    assert len(world.source.opened) == 2 + 3


async def test_a_blob_that_never_comes_is_given_up(world: World, workshop: Workshop) -> None:
    world.source.on_open = lambda start, stop, number: 0
    error = await world.fail(workshop)
    assert error.side == "source"
    assert isinstance(error.__cause__, RetriesExhausted)
    assert len(world.source.opened) == 1 + 3


async def test_a_missing_blob_is_not_asked_for_again(world: World, workshop: Workshop) -> None:
    def on_open(start: int, stop: int, number: int) -> int | None:
        raise NotFound("gone")

    world.source.on_open = on_open
    error = await world.fail(workshop)
    assert isinstance(root_cause(error), NotFound)
    assert len(world.source.opened) == 1


@pytest.mark.parametrize("size", [0, SIZE, HASH_INLINE + 1])
async def test_wrong_bytes_are_never_sent(size: int, make: Make) -> None:
    world = World(size)
    wrong = Descriptor(world.blob.media_type, Digest.of(b"other"), size)
    world.source.blobs = {wrong.digest: world.data}
    world.blob = wrong
    taken: list[int] = []
    world.target.on_append = lambda session, count: taken.append(count)
    workshop = make(memory=64 << 20)
    error = await world.fail(workshop)
    assert error.side == "source"
    assert isinstance(root_cause(error), DigestMismatch)
    assert taken == []
    assert len(world.target.sessions) == 2, "wrong bytes are asked for once more"
    assert_nothing_left(workshop)


@pytest.mark.parametrize("offset", [0, 30_000])
async def test_a_target_that_asks_again_is_fed_from_the_slot(
    world: World, workshop: Workshop, offset: int
) -> None:
    def on_commit(session: MemorySession) -> None:
        if not session.interruptions:
            session.interrupt(offset, announce=True)

    world.target.on_commit = on_commit
    await world.move(workshop)
    assert world.source.opened == [(0, SIZE)]
    assert world.target.blobs == {world.blob.digest: world.data}
    assert (world.tally.retries, len(world.tally.warnings)) == (1, 1)


async def test_a_commit_that_failed_alone_is_repeated_alone(world: World, workshop: Workshop) -> None:
    taken: list[int] = []
    world.target.on_append = lambda session, count: taken.append(count)

    def on_commit(session: MemorySession) -> None:
        if not session.interruptions:
            session.interrupt(SIZE)

    world.target.on_commit = on_commit
    await world.move(workshop)
    assert taken == [SIZE]


async def test_a_refusal_drops_the_session(world: World, workshop: Workshop) -> None:
    def on_append(session: MemorySession, count: int) -> None:
        raise UploadRejected("full")

    world.target.on_append = on_append
    error = await world.fail(workshop)
    assert error.side == "target"
    assert_nothing_left(workshop)


async def test_a_changed_buffer_is_noticed_before_the_commit(world: World, workshop: Workshop) -> None:
    append = MemorySession.append

    async def change(session: MemorySession, data: memoryview) -> None:
        await append(session, data)
        data[0] ^= 0xFF

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemorySession, "append", change)
        assert "changed" in str(await world.fail(workshop))


async def test_chosen_connections_bind_small_blobs_too(make: Make) -> None:
    workshop = make(connections=2)
    worlds = [World() for _ in range(6)]
    most = 0

    def on_open(start: int, stop: int, number: int) -> None:
        nonlocal most
        most = max(most, workshop.supply.permits.used)

    for world in worlds:
        world.source.on_open = on_open
    await asyncio.gather(*(world.move(workshop) for world in worlds))
    assert most == 2
    assert_nothing_left(workshop)


async def test_cancelling_at_any_step_leaves_nothing_behind(workshop: Workshop) -> None:
    for steps in range(60):
        world = World()
        world.source.on_open = lambda start, stop, number: 20_000 if number == 0 else None
        task = asyncio.ensure_future(world.move(workshop))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert world.source.live == 0
        assert all(session.state != "open" for session in world.target.sessions)
        assert_nothing_left(workshop)


async def test_a_stalled_read_is_the_sources(world: World, workshop: Workshop) -> None:
    def on_open(start: int, stop: int, number: int) -> int | None:
        if number < 2:
            raise ReadFailed("no answer")
        return None

    world.source.on_open = on_open
    await world.move(workshop)
    assert world.tally.retries == 2
