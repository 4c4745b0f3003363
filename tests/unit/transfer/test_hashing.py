"""The hashing thread: order, batches, cancellation, and no use of a buffer after its update has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from crossdock._kernels import SHA256_LANES
from crossdock.errors import SizeMismatch
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer import hashing
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.hashing import HASH_INLINE, HashingService
from crossdock.transfer.sides import target_side
from crossdock.verify import BlobVerifier, Buffer, update_many
from unit.transfer.doubles import MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left, make_workshop

LARGE = HASH_INLINE + 1
Updates = Sequence[tuple[BlobVerifier, Buffer]]


def verifier_of(data: bytes, algorithm: str = "sha256") -> BlobVerifier:
    return BlobVerifier(Descriptor("application/octet-stream", Digest.of(data, algorithm), len(data)))


@pytest.fixture
async def service() -> AsyncIterator[HashingService]:
    made = HashingService()
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "crossdock-hash"]


class Gate:
    """The thread's work, held until ``open`` is set. ``batches``: how many buffers each call was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop) -> None:
        self.open = threading.Event()
        self.begun = asyncio.Event()
        self.batches: list[int] = []
        self._loop = loop
        monkeypatch.setattr(hashing, "update_many", self._update_many)

    def _update_many(self, updates: Updates) -> list[Exception | None]:
        self.batches.append(len(updates))
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.open.wait(30)
        return update_many(updates)


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    made = Gate(monkeypatch, asyncio.get_running_loop())
    yield made
    made.open.set()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_blobs_of_any_size_and_algorithm_are_hashed_each_in_order(service: HashingService) -> None:
    contents = [bytes([number]) * (number * 100_001 + 1) for number in range(7)]
    algorithms = ["sha512" if number == 3 else "sha256" for number in range(7)]

    async def hash_one(content: bytes, algorithm: str) -> None:
        verifier = verifier_of(content, algorithm)
        for begin in range(0, len(content), 90_000):
            await service.update(verifier, memoryview(content)[begin : begin + 90_000])
        verifier.check()

    await asyncio.gather(*map(hash_one, contents, algorithms))


async def test_small_buffers_start_no_thread(service: HashingService) -> None:
    data = bytes(HASH_INLINE)
    verifier = verifier_of(data)
    before = threading.active_count()
    await service.update(verifier, memoryview(data))
    verifier.check()
    assert threading.active_count() == before


async def test_the_thread_takes_what_is_ready_and_waits_for_nobody(
    service: HashingService, gate: Gate
) -> None:
    contents = [bytes([number]) * LARGE for number in range(SHA256_LANES + 2)]
    verifiers = [verifier_of(content) for content in contents]
    first = asyncio.ensure_future(service.update(verifiers[0], memoryview(contents[0])))
    await gate.begun.wait()  # alone: nothing else was ready
    rest = [
        asyncio.ensure_future(service.update(verifier, memoryview(content)))
        for verifier, content in zip(verifiers[1:], contents[1:], strict=True)
    ]
    await settle()
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [1, SHA256_LANES, 1]
    for verifier in verifiers:
        verifier.check()


async def test_one_that_waits_in_the_queue_is_cancelled_at_once_and_never_hashed(
    service: HashingService, gate: Gate
) -> None:
    data = bytes(LARGE)
    one, two = verifier_of(data), verifier_of(data)
    first = asyncio.ensure_future(service.update(one, memoryview(data)))
    await gate.begun.wait()
    second = asyncio.ensure_future(service.update(two, memoryview(data)))
    await settle()
    second.cancel()
    await asyncio.wait((second,))  # though the thread still holds the first
    assert second.cancelled()
    gate.open.set()
    await first
    await service.update(two, memoryview(data))
    two.check()
    assert gate.batches == [1, 1]


async def test_one_that_is_being_hashed_is_cancelled_when_nobody_reads_its_bytes_any_more(
    service: HashingService, gate: Gate
) -> None:
    data = bytearray(LARGE)
    verifier = verifier_of(bytes(data))
    with memoryview(data) as view:
        task = asyncio.ensure_future(service.update(verifier, view))
        await gate.begun.wait()
        for _ in range(3):  # whoever loses patience gains nothing
            task.cancel()
            await settle()
            assert not task.done()
        gate.open.set()
        await asyncio.wait((task,))
        assert task.cancelled()
    verifier.check()


async def test_one_failure_is_its_owners_alone(service: HashingService, gate: Gate) -> None:
    data = bytes(LARGE)
    holding, short, right = verifier_of(data), verifier_of(b"short"), verifier_of(data)
    tasks = [asyncio.ensure_future(service.update(holding, memoryview(data)))]
    await gate.begun.wait()
    tasks += [asyncio.ensure_future(service.update(one, memoryview(data))) for one in (short, right)]
    await settle()
    gate.open.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.batches == [1, 2]
    assert [type(outcome) for outcome in outcomes] == [type(None), SizeMismatch, type(None)]
    right.check()


async def test_a_failure_of_the_thread_reaches_who_waits_and_the_thread_continues(
    service: HashingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(updates: Updates) -> list[Exception | None]:
        raise MemoryError("no memory for the arguments")

    data = bytes(LARGE)
    verifier = verifier_of(data)
    with monkeypatch.context() as patch:
        patch.setattr(hashing, "update_many", broken)
        with pytest.raises(MemoryError):
            await service.update(verifier, memoryview(data))
    await service.update(verifier, memoryview(data))
    verifier.check()


async def test_a_blob_has_one_caller_here_at_a_time(service: HashingService, gate: Gate) -> None:
    data = bytes(LARGE)
    verifier = verifier_of(data)
    task = asyncio.ensure_future(service.update(verifier, memoryview(data)))
    await gate.begun.wait()
    for view in (memoryview(data), memoryview(b"small")):
        with pytest.raises(ValueError, match="one caller at a time"):
            await service.update(verifier, view)
    gate.open.set()
    await task
    verifier.check()


async def test_closing_twice_is_once_and_a_later_update_starts_again(service: HashingService) -> None:
    data = bytes(LARGE)
    for _ in range(2):
        verifier = verifier_of(data)
        await service.update(verifier, memoryview(data))
        verifier.check()
        service.close()
        service.close()


async def test_a_cancelled_move_keeps_its_slot_while_the_thread_reads_it(gate: Gate) -> None:
    workshop = make_workshop()
    budget = workshop.supply.budget
    data = bytes(budget.slot_size)
    blob = Descriptor("application/octet-stream", Digest.of(data), len(data))
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    moving = asyncio.ensure_future(
        BlobMove(blob, source, target_side(target), workshop, WHOLE, Tally(lambda event: None)).run()
    )
    await gate.begun.wait()
    moving.cancel()
    await settle()
    assert not moving.done()
    assert budget.free == budget.slots - 1
    gate.open.set()
    await asyncio.wait((moving,))
    assert moving.cancelled()
    assert_nothing_left(workshop)
    workshop.hashing.close()
    budget.close()
