"""``--verify``: which side hashes, and what is read back before a tag is written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from crossdock.errors import CopyError, DigestMismatch, SizeMismatch, UploadRejected, root_cause
from crossdock.options import Verify
from crossdock.tally import Tally
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.workshop import Workshop
from crossdock.verify import BlobVerifier
from unit.transfer.doubles import MemorySession
from unit.transfer.shop import WHOLE, assert_nothing_left, make_workshop
from unit.transfer.test_image import World

LARGE = 1_500_000  # several slots of the workshop; a small blob fits one


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    shop = make_workshop()
    yield shop
    assert_nothing_left(shop)
    shop.hashing.close()
    shop.supply.budget.close()


def world_of(*sizes: int) -> World:
    world = World()
    image = world.image(layers=[world.blob(size) for size in sizes])
    world.source.tags["v1"] = image["digest"]
    return world


async def copy(world: World, shop: Workshop, verify: Verify) -> Tally:
    request = CopyRequest("source", "target", "v1", None, "v1", None, (), ())
    tally = Tally(world.events.append)
    await ImageCopy(request, world.source, world.target, replace(shop, verify=verify), WHOLE, tally).run()
    return tally


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the blobs that were compared here."""
    sizes: list[int] = []
    check = BlobVerifier.check

    def counted(self: BlobVerifier) -> None:
        sizes.append(self.received)
        check(self)

    monkeypatch.setattr(BlobVerifier, "check", counted)
    return sizes


@pytest.mark.parametrize("checks", [True, False])
async def test_a_large_blob_is_hashed_here_unless_the_target_does_and_is_trusted(
    checks: bool, shop: Workshop, hashed: list[int]
) -> None:
    world = world_of(LARGE)
    world.target.compares_digests = checks
    await copy(world, shop, "target")
    assert hashed == ([] if checks else [LARGE])
    assert LARGE in map(len, world.target.blobs.values())


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_wrong_bytes_go_to_a_trusted_target_and_are_refused_there(size: int, shop: Workshop) -> None:
    world = world_of(size)
    world.target.compares_digests = True
    [digest] = [digest for digest, data in world.source.blobs.items() if len(data) == size]
    world.source.blobs[digest] = bytes(size)
    with pytest.raises(CopyError) as caught:
        await copy(world, shop, "target")
    assert isinstance(root_cause(caught.value), UploadRejected)
    assert world.target.tags == {}


async def test_an_upload_that_is_fed_again_starts_there_when_nothing_is_hashed(shop: Workshop) -> None:
    world = world_of(LARGE)
    world.target.compares_digests = True

    def lose_once(session: MemorySession, count: int) -> None:
        if session.offset > 10**6 and not session.interruptions:
            session.interrupt(700_001)

    world.target.on_append = lose_once
    await copy(world, shop, "target")
    starts = [start for start, _ in world.source.opened]
    assert 700_001 in starts


async def test_everything_that_was_pushed_is_read_back_before_the_tag(shop: Workshop) -> None:
    world = world_of(5000, LARGE)
    read: list[int] = []

    def on_read(data: bytes) -> bytes:
        assert world.target.tags == {}
        read.append(len(data))
        return data

    world.target.on_read = on_read
    tally = await copy(world, shop, "reread")
    pushed = [*world.target.blobs.values(), *(data for _, data in world.target.manifests.values())]
    assert sorted(read) == sorted(map(len, pushed))
    assert "v1" in world.target.tags
    assert tally.bytes_requested == sum(map(len, world.target.blobs.values()))


@pytest.mark.parametrize("size", [5000, LARGE])
async def test_a_blob_that_reads_back_differently_moves_no_tag(size: int, shop: Workshop) -> None:
    world = world_of(size)

    def on_read(data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if len(data) == size else data

    world.target.on_read = on_read
    with pytest.raises(CopyError) as caught:
        await copy(world, shop, "reread")
    assert caught.value.side == "target"
    assert caught.value.operation == "read back blob from"
    assert isinstance(root_cause(caught.value), DigestMismatch)
    assert "storage" in str(caught.value.advice)
    assert world.target.tags == {}
    assert world.target.manifests == {}
    with pytest.raises(CopyError, match="read back blob"):  # another copy does not take it for granted
        await copy(world, shop, "reread")


async def test_a_manifest_that_reads_back_differently_moves_no_tag(shop: Workshop) -> None:
    world = world_of(5000)
    world.target.on_read = lambda data: data + b" " if b"schemaVersion" in data else data
    with pytest.raises(CopyError) as caught:
        await copy(world, shop, "reread")
    assert isinstance(root_cause(caught.value), SizeMismatch)
    assert world.target.tags == {}
