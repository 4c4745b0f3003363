"""Blobs with holes and damage in their spool, over real files: every byte right, no slot lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crossdock.errors import CopyError, UploadInterrupted
from crossdock.events import BlobSpooled, Event
from crossdock.kept.spool import Spool
from crossdock.kept.spoolfile import BLOCK, file_size
from crossdock.kept.spoolfolder import SUFFIX
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.sides import target_side
from crossdock.transfer.workshop import Resuming, Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import assert_nothing_left, make_workshop

SIZE = 40 * BLOCK + 777
DATA = random.Random(5).randbytes(SIZE)
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), SIZE)
CHUNK = 8 * BLOCK
MIB = 1 << 20


class World:
    """The blob, where it comes from and goes to, and a spool that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = MemorySource(blobs={BLOB.digest: DATA})
        self.target = MemoryTarget()
        self.events: list[Event] = []
        self.tally = Tally(self.events.append)
        self.shops: list[Workshop] = []

    @property
    def file(self) -> Path:
        (found,) = self.folder.glob(f"*{SUFFIX}")
        return found

    def keep(self, blocks: list[int]) -> None:
        """An earlier process has kept these blocks."""
        kept = Spool(self.folder, 1 << 30).claim(str(BLOB.digest), SIZE)
        assert kept is not None
        for number in blocks:
            kept.write(number * BLOCK, memoryview(DATA)[number * BLOCK : (number + 1) * BLOCK])
        kept.close()

    def damage(self, block: int) -> None:
        with self.file.open("r+b") as file:
            file.seek(file_size(SIZE) - SIZE + block * BLOCK)
            file.write(bytes(9))

    async def move(self, memory: int = MIB, boundary: int | None = None) -> None:
        """Move the blob, with slots of `memory`."""
        shop = make_workshop(memory=memory, part_slots=2)
        resuming = Resuming(BLOCK, CHUNK, spool=Spool(self.folder, 1 << 30))
        self.target.chunk_size = boundary
        self.shops.append(shop)
        await BlobMove(BLOB, self.source, target_side(self.target), shop, resuming, self.tally).run()
        assert self.target.blobs[BLOB.digest] == DATA
        assert list(self.folder.glob(f"*{SUFFIX}")) == []


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing of its workshops is left in use."""
    world = World(tmp_path / "spool")
    yield world
    for shop in world.shops:
        assert_nothing_left(shop)
        shop.hashing.close()
        shop.supply.budget.close()


@pytest.mark.parametrize("seed", range(12))
async def test_holes_and_damage_are_filled_from_the_source(seed: int, world: World) -> None:
    chance = random.Random(seed)
    blocks = [number for number in range(41) if chance.random() < chance.choice([0.2, 0.8])]
    world.keep(blocks)
    damaged = [number for number in blocks if chance.random() < 0.1]
    for number in damaged:
        world.damage(number)
    memory = chance.choice([MIB, 4 * MIB, 5 * MIB, 40 * MIB])
    await world.move(memory, chance.choice([None, BLOCK, CHUNK, CHUNK // 2 + 1]))
    good = sum(min(BLOCK, SIZE - number * BLOCK) for number in set(blocks) - set(damaged))
    assert world.tally.bytes_spooled == good
    assert world.tally.bytes_requested == SIZE - good


async def test_without_a_spool_file_everything_is_requested_once(world: World) -> None:
    await world.move()
    assert (world.tally.bytes_spooled, world.tally.bytes_requested) == (0, SIZE)


async def test_a_source_without_ranges_is_read_through(world: World) -> None:
    world.keep([*range(10), *range(20, 30)])
    world.source.ranged = False
    await world.move()


async def test_bytes_that_the_target_asks_for_again_come_from_the_spool(world: World) -> None:
    fed: list[int] = []

    def again(session: MemorySession, count: int) -> None:
        if session.offset >= 20 * BLOCK and not fed:
            fed.append(session.offset)
            session.data.clear()
            raise UploadInterrupted("all of it again", offset=0)

    world.target.on_append = again
    await world.move()
    assert world.tally.bytes_spooled >= fed[0]
    assert world.tally.bytes_requested <= SIZE + 2 * CHUNK


async def test_a_failed_blob_keeps_what_came_and_tells(world: World) -> None:
    def fail(start: int, stop: int, number: int) -> int | None:
        if start >= 16 * BLOCK:
            raise ConnectionResetError("not an error of ours")
        return None

    world.source.on_open = fail
    with pytest.raises(ConnectionResetError):
        await world.move()
    (kept,) = [event for event in world.events if isinstance(event, BlobSpooled)]
    assert 0 < kept.kept <= 16 * BLOCK
    world.source.on_open = lambda start, stop, number: None
    world.target, world.tally = MemoryTarget(), Tally(world.events.append)
    await world.move()
    assert world.tally.bytes_spooled == kept.kept
    assert world.tally.bytes_requested == SIZE - kept.kept


async def test_wrong_bytes_of_the_source_do_not_stay(world: World) -> None:
    world.source.blobs[BLOB.digest] = bytes(SIZE)
    with pytest.raises(CopyError, match="wrong digest"):
        await world.move()
    assert [event for event in world.events if isinstance(event, BlobSpooled)] == []
    world.source.blobs[BLOB.digest] = DATA
    world.target, world.tally = MemoryTarget(), Tally(world.events.append)
    await world.move()
    assert (world.tally.bytes_spooled, world.tally.retries) == (0, 0)


@pytest.mark.parametrize("turns", [1, 2, 5, 20, 60])
async def test_a_cancelled_blob_gives_everything_back(turns: int, world: World) -> None:
    world.keep(list(range(0, 41, 2)))
    moving = asyncio.ensure_future(world.move())
    for _ in range(turns):
        await asyncio.sleep(0)
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    world.target = MemoryTarget()
    await world.move()
