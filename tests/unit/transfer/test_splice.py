"""Bytes that the engine moves by pipes without reading them: the same bytes, and no leftovers."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crossdock.errors import CopyError
from crossdock.events import ignore
from crossdock.tally import Tally
from crossdock.tasks import stop
from crossdock.transfer import splice as module
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.sides import target_side
from crossdock.transfer.splice import IS_AVAILABLE, PIPE_SIZE, Pipe
from crossdock.transfer.workshop import Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left, make_workshop
from unit.transfer.test_blob import PART, SLOT, blob_of

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="splice(2) is Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
async def workshop() -> AsyncIterator[Workshop]:
    """One that trusts its targets, and marks no slots."""
    shop = replace(make_workshop(), verify="target", paranoid=False)
    before = len(os.listdir("/proc/self/fd"))
    yield shop
    assert len(os.listdir("/proc/self/fd")) == before, "a pipe was not closed"
    assert_nothing_left(shop)
    shop.hashing.close()
    shop.supply.budget.close()


async def move(blob, source: MemorySource, target: MemoryTarget, workshop: Workshop) -> Tally:
    tally = Tally(ignore)
    await BlobMove(blob, source, target_side(target), workshop, WHOLE, tally).run()
    assert source.live == 0, "a body was not closed"
    return tally


# -- one pipe ------------------------------------------------------------------------------------------------


def test_bytes_go_from_socket_to_socket(pipe: Pipe, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    pipe.room = 100_000
    data = random.Random(5).randbytes(60_000)
    assert near.send(data) == len(data)
    assert pipe.fill(far.fileno(), 40_000) == 40_000
    assert (len(pipe), pipe.room) == (40_000, 60_000)
    assert pipe.fill(far.fileno(), 40_000) == 20_000
    assert pipe.fill(far.fileno(), 40_000) == 0
    assert pipe.room == 40_000, "an empty socket does not make a pipe full"
    assert pipe.take(10) == data[:10]
    assert pipe.drain(far.fileno()) == len(data) - 10
    assert near.recv(1 << 20) == data[10:]


def test_a_pipe_takes_no_more_than_its_room(pipe: Pipe, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    pipe.room = 1000
    near.send(bytes(5000))
    assert pipe.fill(far.fileno(), 5000) == 1000
    assert pipe.room == 0
    assert pipe.put(memoryview(b"more")) == 0


def test_many_small_packets_make_a_pipe_full_before_its_room_ends(
    pipe: Pipe, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    pipe.room = PIPE_SIZE
    moved = 0
    for _ in range(10_000):
        near.send(b"0123456789")
        if not (count := pipe.fill(far.fileno(), PIPE_SIZE)):
            break
        moved += count
    assert pipe.room == 0
    assert moved == len(pipe) < PIPE_SIZE
    assert far.recv(100) == b"0123456789"


def test_a_socket_that_takes_nothing_leaves_the_bytes_in_the_pipe(
    pipe: Pipe, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, _ = pair
    while True:
        try:
            near.send(bytes(1 << 16))
        except BlockingIOError:
            break
    pipe.room = 100
    pipe.put(memoryview(b"abc"))
    assert pipe.drain(near.fileno()) == 0
    assert pipe.take(9) == b"abc"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_a_kernel_that_does_not_splice_makes_a_pipe_full(
    pipe: Pipe, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: object, **options: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(module.os, "splice", refuse)
    pipe.room = 10
    assert pipe.fill(pair[1].fileno(), 10) == 0
    assert pipe.room == 0
    assert pipe.is_refused


# -- through the engine --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("size", [SLOT - 1, SLOT + 1, PART, PART + 1, 25 * PART + 12345])
async def test_bytes_arrive_whole_and_in_order(size: int, ranged: bool, workshop: Workshop) -> None:
    blob, data = blob_of(size)
    source = MemorySource(blobs={blob.digest: data}, ranged=ranged, pipes=True)
    target = MemoryTarget(compares_digests=True, pipes=True)
    await move(blob, source, target, workshop)
    assert target.blobs[blob.digest] == data
    assert target.piped > 0


async def test_a_single_connection_puts_everything_into_pipes() -> None:
    workshop = replace(make_workshop(connections=1), verify="target", paranoid=False)
    blob, data = blob_of(9 * PART + 777)
    target = MemoryTarget(compares_digests=True, pipes=True)
    await move(blob, MemorySource(blobs={blob.digest: data}, pipes=True), target, workshop)
    assert target.blobs[blob.digest] == data
    assert target.piped == len(data)
    assert_nothing_left(workshop)


@pytest.mark.parametrize(
    ("verify", "paranoid", "checks"),
    [("stream", False, True), ("reread", False, True), ("target", True, True), ("target", False, False)],
)
async def test_bytes_that_somebody_reads_are_never_in_a_pipe(
    workshop: Workshop, verify: str, paranoid: bool, checks: bool
) -> None:
    shop = replace(workshop, verify=verify, paranoid=paranoid)
    blob, data = blob_of(5 * PART)
    target = MemoryTarget(compares_digests=checks, pipes=True)
    await move(blob, MemorySource(blobs={blob.digest: data}, pipes=True), target, shop)
    assert target.blobs[blob.digest] == data
    assert target.piped == 0


async def test_a_target_that_has_other_bytes_refuses_them(workshop: Workshop) -> None:
    blob, data = blob_of(3 * PART)
    wrong = bytearray(data)
    wrong[2 * PART + 5] ^= 1
    target = MemoryTarget(compares_digests=True, pipes=True)
    with pytest.raises(CopyError, match="DIGEST_INVALID"):
        await move(blob, MemorySource(blobs={blob.digest: bytes(wrong)}, pipes=True), target, workshop)
    assert target.blobs == {}


async def test_a_target_that_takes_no_pipes_any_more_is_given_memory(workshop: Workshop) -> None:
    blob, data = blob_of(12 * PART)
    target = MemoryTarget(compares_digests=True, pipes=True)

    def change(session: MemorySession, count: int) -> None:
        target.pipes = session.offset // PART % 2 == 0

    target.on_append = change
    await move(blob, MemorySource(blobs={blob.digest: data}, pipes=True), target, workshop)
    assert target.blobs[blob.digest] == data
    assert 0 < target.piped < len(data)


async def test_cancelled_in_the_middle_it_leaves_no_pipe(workshop: Workshop) -> None:
    blob, data = blob_of(12 * PART)
    source = MemorySource(blobs={blob.digest: data}, pipes=True)
    target = MemoryTarget(compares_digests=True, pipes=True)
    begun = asyncio.Event()

    class Stuck(MemorySession):
        async def append_pipe(self, pipe: object) -> None:
            begun.set()
            await asyncio.Event().wait()

    async def start_upload(descriptor):
        target.sessions.append(Stuck(target, descriptor))
        return target.sessions[-1]

    target.start_upload = start_upload  # type: ignore[method-assign]
    moving = asyncio.ensure_future(move(blob, source, target, workshop))
    await begun.wait()
    for _ in range(200):  # until every pipe is full
        await asyncio.sleep(0)
    await stop(moving)
    assert [session.state for session in target.sessions] == ["cancelled"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    size=st.integers(SLOT + 1, 14 * PART),
    connections=st.integers(1, 4),
    piece=st.sampled_from([333, 7777, 65536, 1 << 20]),
    boundary=st.sampled_from([None, SLOT, 3 * SLOT // 2, 2 * PART]),
    ranged=st.booleans(),
)
async def test_whatever_breaks_the_bytes_are_the_same(
    seed: int, size: int, connections: int, piece: int, boundary: int | None, ranged: bool
) -> None:
    chance = random.Random(seed)
    blob, data = blob_of(size)

    def on_open(start: int, stop: int, number: int) -> int | None:
        return chance.randrange(1, stop - start + 1) if chance.random() < 0.3 else None

    def on_append(session: MemorySession, count: int) -> None:
        target.pipes = chance.random() < 0.9
        if chance.random() < 0.05 and session.interruptions < 4:
            session.interrupt(chance.randrange(session.offset + 1))

    workshop = replace(make_workshop(connections=connections, retries=50), verify="target", paranoid=False)
    source = MemorySource(
        blobs={blob.digest: data},
        ranged=ranged,
        pipes=True,
        piece=piece,
        on_open=on_open if ranged else _none,
    )
    target = MemoryTarget(compares_digests=True, pipes=True, chunk_size=boundary, on_append=on_append)
    before = len(os.listdir("/proc/self/fd"))
    await move(blob, source, target, workshop)
    assert target.blobs[blob.digest] == data
    assert_nothing_left(workshop)
    assert len(os.listdir("/proc/self/fd")) == before, "a pipe was not closed"
    workshop.supply.budget.close()


def _none(start: int, stop: int, number: int) -> None:
    return None
