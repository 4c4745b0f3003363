"""One blob through the engine: every way it can break and recover, with nothing left behind."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.errors import (
    CopyError,
    DigestMismatch,
    NotFound,
    ReadFailed,
    RetriesExhausted,
    UploadRejected,
    root_cause,
)
from crossdock.events import ignore
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.concurrency import LANDED_SLOTS
from crossdock.transfer.ranges import RangedReader
from crossdock.transfer.sides import target_side
from crossdock.transfer.workshop import Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left, make_workshop

SLOT = 4 * (1 << 20) // 32  # the slots of a 4 MiB budget
PART = 4 * SLOT


def blob_of(size: int, seed: int = 7) -> tuple[Descriptor, bytes]:
    data = random.Random(seed).randbytes(size)
    return Descriptor(media_type="application/octet-stream", digest=Digest.of(data), size=size), data


async def move(blob: Descriptor, source: MemorySource, target: MemoryTarget, workshop: Workshop) -> Tally:
    tally = Tally(ignore)
    await BlobMove(blob, source, target_side(target), workshop, WHOLE, tally).run()
    assert source.live == 0, "a body was not closed"
    return tally


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("size", [0, 1, SLOT - 1, SLOT, SLOT + 1, PART, PART + 1, 5 * PART + 12345])
async def test_bytes_arrive_whole_and_in_order(size: int, ranged: bool, workshop: Workshop) -> None:
    blob, data = blob_of(size)
    source, target = MemorySource(blobs={blob.digest: data}, ranged=ranged), MemoryTarget()
    tally = await move(blob, source, target, workshop)
    assert target.blobs[blob.digest] == data
    assert tally.bytes_requested == size


async def test_an_empty_blob_asks_the_source_nothing(workshop: Workshop) -> None:
    blob, data = blob_of(0)
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    await move(blob, source, target, workshop)
    assert source.opened == []
    assert target.blobs[blob.digest] == b""


async def test_the_first_range_is_alone_until_its_answer_is_there(workshop: Workshop) -> None:
    blob, data = blob_of(4 * PART)
    asked_at_first_answer: list[int] = []

    def on_open(start: int, stop: int, number: int) -> None:
        if number == 0:
            asked_at_first_answer.append(len(source.opened))

    source, target = MemorySource(blobs={blob.digest: data}, on_open=on_open), MemoryTarget()
    await move(blob, source, target, workshop)
    assert asked_at_first_answer == [1]
    assert [start for start, _ in source.opened] == [0, PART, 2 * PART, 3 * PART]


async def test_a_broken_part_resumes_at_its_own_first_missing_byte(workshop: Workshop) -> None:
    blob, data = blob_of(3 * PART)
    broken: list[int] = []

    def on_open(start: int, stop: int, number: int) -> int | None:
        if start == PART and not broken:
            broken.append(start)
            return 1000
        return None

    source, target = MemorySource(blobs={blob.digest: data}, on_open=on_open), MemoryTarget()
    tally = await move(blob, source, target, workshop)
    assert (PART + 1000, 2 * PART) in source.opened
    assert target.blobs[blob.digest] == data
    assert tally.retries == 1


async def test_a_stream_that_breaks_reads_on_where_it_broke_when_ranges_work_again(
    workshop: Workshop,
) -> None:
    blob, data = blob_of(3 * PART + 5)
    source, target = MemorySource(blobs={blob.digest: data}, ranged=False), MemoryTarget()

    def on_open(start: int, stop: int, number: int) -> int | None:
        return 2 * PART + 77 if number == 0 else None

    source.on_open = on_open
    await move(blob, source, target, workshop)
    assert source.opened[1] == (2 * PART + 77, len(data))
    assert target.blobs[blob.digest] == data


@pytest.mark.parametrize("at", [1, 2, 4])
async def test_a_later_answer_with_the_whole_blob_falls_back_to_one_stream(
    at: int, workshop: Workshop
) -> None:
    blob, data = blob_of(6 * PART + 99)
    source = MemorySource(blobs={blob.digest: data}, ignore_range_from=at)
    target = MemoryTarget()
    await move(blob, source, target, workshop)
    assert target.blobs[blob.digest] == data


async def test_a_source_that_never_recovers_ends_the_copy_after_the_retries(workshop: Workshop) -> None:
    blob, data = blob_of(PART)
    source, target = MemorySource(blobs={blob.digest: data}, on_open=lambda *a: 0), MemoryTarget()
    with pytest.raises(CopyError) as caught:
        await move(blob, source, target, workshop)
    assert caught.value.side == "source"
    assert isinstance(caught.value.cause, RetriesExhausted)
    assert isinstance(root_cause(caught.value), ReadFailed)
    assert len(source.opened) == 4
    assert [session.state for session in target.sessions] == ["cancelled"]


async def test_progress_between_failures_starts_the_count_again(workshop: Workshop) -> None:
    blob, data = blob_of(PART)
    source, target = MemorySource(blobs={blob.digest: data}, on_open=lambda *a: 9000), MemoryTarget()
    tally = await move(blob, source, target, workshop)
    assert tally.retries > 3
    assert target.blobs[blob.digest] == data


async def test_a_trickle_that_breaks_is_not_progress(workshop: Workshop) -> None:
    """One byte per try would need as many tries as bytes: days, although each is within its limits."""
    blob, data = blob_of(PART)
    source, target = MemorySource(blobs={blob.digest: data}, on_open=lambda *a: 100), MemoryTarget()
    with pytest.raises(CopyError) as caught:
        await move(blob, source, target, workshop)
    assert isinstance(caught.value.cause, RetriesExhausted)
    assert source.opened == [(start, PART) for start in (0, 100, 200, 300)]


async def test_a_final_refusal_is_not_retried(workshop: Workshop) -> None:
    blob, data = blob_of(PART)

    def on_open(start: int, stop: int, number: int) -> None:
        raise NotFound("gone")

    source, target = MemorySource(blobs={blob.digest: data}, on_open=on_open), MemoryTarget()
    with pytest.raises(CopyError, match="gone"):
        await move(blob, source, target, workshop)
    assert len(source.opened) == 1


@pytest.mark.parametrize("position", [0, PART + 3, 3 * PART - 1])
async def test_a_flipped_byte_is_found_before_the_last_piece_is_sent(
    position: int, workshop: Workshop
) -> None:
    blob, data = blob_of(3 * PART)
    wrong = bytearray(data)
    wrong[position] ^= 1
    source, target = MemorySource(blobs={blob.digest: bytes(wrong)}), MemoryTarget()
    with pytest.raises(CopyError) as caught:
        await move(blob, source, target, workshop)
    assert caught.value.side == "source"
    assert isinstance(root_cause(caught.value), DigestMismatch)
    assert len(target.sessions) == 2, "wrong bytes are asked for once more"
    for session in target.sessions:
        assert session.state == "cancelled"
        assert session.offset < blob.size, "a wrong blob was complete at the target"


async def test_bytes_that_were_damaged_on_the_way_are_fetched_again(workshop: Workshop) -> None:
    blob, data = blob_of(3 * PART)
    source, target = MemorySource(blobs={blob.digest: data[:-1] + b"?"}), MemoryTarget()

    def mend(session: MemorySession, count: int) -> None:
        source.blobs[blob.digest] = data

    target.on_append = mend  # what is on its way by then stays damaged
    await move(blob, source, target, workshop)
    assert [session.state for session in target.sessions] == ["cancelled", "committed"]
    assert target.blobs[blob.digest] == data


@pytest.mark.parametrize("chunk_size", [SLOT // 2, SLOT, 3 * SLOT + 17])
async def test_an_upload_that_loses_bytes_is_fed_again_from_there(
    chunk_size: int, workshop: Workshop
) -> None:
    blob, data = blob_of(3 * PART + 1)
    target = MemoryTarget(chunk_size=chunk_size)

    def on_append(session: MemorySession, count: int) -> None:
        if session.interruptions < 3 and session.offset > (session.interruptions + 1) * PART // 2:
            session.interrupt(session.offset // chunk_size * chunk_size)

    target.on_append = on_append
    source = MemorySource(blobs={blob.digest: data})
    tally = await move(blob, source, target, workshop)
    assert target.blobs[blob.digest] == data
    assert tally.retries == 3


async def test_an_upload_that_starts_from_zero_is_announced(workshop: Workshop) -> None:
    blob, data = blob_of(2 * PART)

    def on_append(session: MemorySession, count: int) -> None:
        if not session.interruptions and session.offset > PART:
            session.interrupt(0, announce=True)

    target = MemoryTarget(on_append=on_append)
    tally = await move(blob, MemorySource(blobs={blob.digest: data}), target, workshop)
    assert target.blobs[blob.digest] == data
    assert len(tally.warnings) == 1


async def test_a_repeated_commit_sends_only_what_the_target_lacks(workshop: Workshop) -> None:
    blob, data = blob_of(2 * PART)
    appended: list[int] = []

    def on_commit(session: MemorySession) -> None:
        if not session.interruptions:
            appended.append(session.offset)
            session.interrupt(session.offset)

    target = MemoryTarget(on_commit=on_commit, chunk_size=SLOT)
    source = MemorySource(blobs={blob.digest: data})
    await move(blob, source, target, workshop)
    assert sum(stop - start for start, stop in source.opened) == blob.size
    assert target.blobs[blob.digest] == data


async def test_a_refusal_by_the_target_names_the_target_and_drops_the_session(workshop: Workshop) -> None:
    blob, data = blob_of(2 * PART)

    def on_append(session: MemorySession, count: int) -> None:
        raise UploadRejected("no space", status=507)

    target = MemoryTarget(on_append=on_append)
    with pytest.raises(CopyError) as caught:
        await move(blob, MemorySource(blobs={blob.digest: data}), target, workshop)
    assert caught.value.side == "target"
    assert target.sessions[0].state == "cancelled"


@pytest.mark.parametrize("ranged", [True, False])
async def test_cancelling_at_any_step_leaves_nothing_behind(ranged: bool) -> None:
    blob, data = blob_of(3 * PART)
    for steps in range(1, 160, 3):
        workshop = make_workshop()
        source, target = MemorySource(blobs={blob.digest: data}, ranged=ranged), MemoryTarget()
        task = asyncio.ensure_future(move(blob, source, target, workshop))
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = "cancelled" if task.cancel() else "committed"
        await asyncio.wait((task,))
        assert task.cancelled() == (ended == "cancelled")
        assert source.live == 0
        assert all(session.state == ended for session in target.sessions)
        assert_nothing_left(workshop)
        workshop.hashing.close()
        workshop.supply.budget.close()


async def test_a_silent_part_at_the_frontier_is_requested_again_and_continues_there(
    workshop: Workshop,
) -> None:
    blob, data = blob_of(40 * PART)
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    source.piece = PART // 4
    source.stall_at = (3 * PART, 3 * PART + PART // 2)
    moving = asyncio.ensure_future(move(blob, source, target, workshop))
    while not (target.sessions and target.sessions[0].offset == 3 * PART + PART // 2 and source.live == 1):  # noqa: ASYNC110
        await asyncio.sleep(0)  # until everything rests behind the silent part
    for now in (0.0, 100.0):
        workshop.supply.permits.look(now)
    tally = await moving
    assert (3 * PART + PART // 2, 4 * PART) in source.opened
    assert target.blobs[blob.digest] == data
    assert tally.retries == 0
    assert tally.bytes_requested == blob.size + PART // 2


async def rests(source: MemorySource, target: MemoryTarget, offset: int, live: int, opened: int = 0) -> None:
    """Until the target has the bytes before `offset`, and `live` of at least `opened` answers move."""
    while not (  # noqa: ASYNC110
        target.sessions
        and target.sessions[0].offset == offset
        and source.live == live
        and len(source.opened) >= opened
    ):
        await asyncio.sleep(0)


async def test_a_part_at_the_frontier_without_any_answer_is_requested_again(workshop: Workshop) -> None:
    blob, data = blob_of(40 * PART)
    source, target = MemorySource(blobs={blob.digest: data}, silent={2}), MemoryTarget()
    moving = asyncio.ensure_future(move(blob, source, target, workshop))
    await rests(source, target, 2 * PART, 0)
    for now in (0.0, 100.0):
        workshop.supply.permits.look(now)
    tally = await moving
    assert source.opened.count((2 * PART, 3 * PART)) == 2
    assert target.blobs[blob.digest] == data
    assert tally.retries == 0


@pytest.mark.parametrize("stalls_at", [0, 1000, SLOT, 2 * SLOT + 5])
async def test_the_last_part_is_cut_when_connections_are_idle(stalls_at: int, workshop: Workshop) -> None:
    blob, data = blob_of(40 * PART)
    last = 39 * PART
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    source.stall_at = (last, last + stalls_at)
    moving = asyncio.ensure_future(move(blob, source, target, workshop))
    sent = last + stalls_at // SLOT * SLOT
    await rests(source, target, sent, 1)
    workshop.supply.permits.look(asyncio.get_running_loop().time() + 1.0)
    await rests(source, target, sent, 1, opened=41)
    middle = last + (stalls_at // SLOT + 1) * SLOT
    tails = [(start, stop) for start, stop in source.opened if start > last]
    assert tails[0][1] == blob.size
    assert tails[0][0] in (last + 2 * SLOT, middle)
    source.stall_at = None
    for now in (10.0, 100.0):  # what the first half still lacks comes by the rule for silent parts
        workshop.supply.permits.look(asyncio.get_running_loop().time() + now)
    tally = await moving
    assert target.blobs[blob.digest] == data
    assert tally.retries == 0
    assert tally.bytes_requested <= blob.size * 1.05


async def test_an_answer_that_continues_beyond_the_cut_is_given_up_there(workshop: Workshop) -> None:
    blob, data = blob_of(40 * PART)
    last = 39 * PART
    source, target = MemorySource(blobs={blob.digest: data}), MemoryTarget()
    source.pause_at = (last, last + 1000)
    moving = asyncio.ensure_future(move(blob, source, target, workshop))
    await rests(source, target, last, 1)
    workshop.supply.permits.look(asyncio.get_running_loop().time() + 1.0)
    source.go_on.set()
    tally = await moving
    assert source.opened[-2:] == [(last + 2 * SLOT, blob.size), (last + SLOT, last + 2 * SLOT)]
    assert target.blobs[blob.digest] == data
    assert tally.retries == 0
    assert tally.bytes_requested == blob.size + 3 * SLOT


@pytest.mark.parametrize("ranged", [True, False])
async def test_a_source_that_is_faster_than_the_target_is_made_to_wait(ranged: bool) -> None:
    workshop = make_workshop(connections=1, part_slots=8)
    supply = workshop.supply
    blob, data = blob_of(40 * SLOT)
    source = MemorySource(blobs={blob.digest: data}, ranged=ranged, piece=SLOT)
    reader = RangedReader(
        source.blob(blob), blob.size, supply, on_requested=lambda count: None, on_retry=pytest.fail
    )
    read = b""
    while pieces := await reader.next_pieces():
        for _ in range(100):
            await asyncio.sleep(0)  # the source does what it may
        assert supply.budget.slots - supply.budget._arena.free <= len(pieces) + LANDED_SLOTS + 1
        for piece in pieces:
            read += piece.view
            supply.release(piece)
    assert read == data
    await reader.close()
    assert_nothing_left(workshop)
    supply.budget.close()


async def test_many_blobs_share_a_budget_smaller_than_one_of_them() -> None:
    workshop = make_workshop(memory=4 << 20, connections=2, part_slots=16)
    blobs = [blob_of(5 * PART + number, number) for number in range(6)]
    target = MemoryTarget()
    sources = [
        MemorySource(blobs={blob.digest: data}, ranged=bool(number % 2), piece=50_000)
        for number, (blob, data) in enumerate(blobs)
    ]
    await asyncio.wait_for(
        asyncio.gather(
            *(move(blob, source, target, workshop) for (blob, _), source in zip(blobs, sources, strict=True))
        ),
        60,
    )
    assert all(target.blobs[blob.digest] == data for blob, data in blobs)
    assert_nothing_left(workshop)
    workshop.hashing.close()
    workshop.supply.budget.close()


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 5 * PART),
    breaks=st.lists(st.integers(0, 2 * PART), max_size=6),
    ignore_from=st.one_of(st.none(), st.integers(0, 6)),
    chunk_size=st.one_of(st.none(), st.integers(SLOT // 3, 3 * SLOT)),
    interrupts=st.lists(st.tuples(st.integers(0, 5 * PART), st.integers(0, 5 * PART)), max_size=4),
)
def test_any_sequence_of_faults_ends_in_the_right_bytes_or_a_clear_error(
    size: int,
    breaks: list[int],
    ignore_from: int | None,
    chunk_size: int | None,
    interrupts: list[tuple[int, int]],
) -> None:
    async def scenario() -> None:
        workshop = make_workshop()
        blob, data = blob_of(size)
        pending_breaks, pending_interrupts = list(breaks), list(interrupts)

        def on_open(start: int, stop: int, number: int) -> int | None:
            return pending_breaks.pop() if pending_breaks and number % 2 else None

        def on_append(session: MemorySession, count: int) -> None:
            if pending_interrupts and session.offset >= pending_interrupts[0][0]:
                back_to = min(session.offset, pending_interrupts.pop(0)[1])
                if chunk_size is None:
                    back_to = 0
                session.interrupt(back_to)

        source = MemorySource(blobs={blob.digest: data}, on_open=on_open, ignore_range_from=ignore_from)
        target = MemoryTarget(chunk_size=chunk_size, on_append=on_append)
        moving = asyncio.ensure_future(move(blob, source, target, workshop))
        await asyncio.wait((moving,), timeout=30)
        failure = moving.exception()
        if failure is None:
            assert target.blobs[blob.digest] == data
        else:
            assert isinstance(failure, CopyError)
            assert isinstance(failure.cause, RetriesExhausted)
        assert source.live == 0
        assert_nothing_left(workshop)
        workshop.hashing.close()
        workshop.supply.budget.close()

    asyncio.run(scenario())
