"""Large blobs whose copy outlives its process: bytes read, sent and kept, with doubles in memory."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from crossdock._kernels import Sha256
from crossdock.content import SavedSession, SessionLog
from crossdock.errors import (
    Advice,
    CopyError,
    NotFound,
    ServerBusy,
    StoreError,
    UploadRejected,
)
from crossdock.events import Event, UploadKept, UploadResumed
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer.blob import BlobMove
from crossdock.transfer.resume import CHUNKS_AHEAD
from crossdock.transfer.sides import target_side
from crossdock.transfer.workshop import Resuming, Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import assert_nothing_left, make_workshop

MEMORY = 1 << 20
SLOT = 1 << 16  # of such a budget
CHUNK = 2 * SLOT
SIZE = 5 * CHUNK + 17


def blob_of(size: int = SIZE, seed: int = 7, algorithm: str = "sha256") -> tuple[Descriptor, bytes]:
    data = random.Random(seed).randbytes(size)
    return Descriptor("application/octet-stream", Digest.of(data, algorithm), size), data


@dataclass
class Row:
    """As `kept.uploads.SavedUpload`."""

    location: str
    acknowledged: int
    chunk_size: int = CHUNK
    trust_range: bool = True
    states: dict[int, bytes] = field(default_factory=dict)


class Record:
    """As `kept.uploads.UploadRecord`."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.journal = journal
        self.is_closed = False

    @property
    def saved(self) -> Row | None:
        return self.journal.row

    @property
    def can_resume(self) -> bool:
        return self.journal.row is not None and self.journal.is_on

    def opened(self, location: str, chunk_size: int, *, trust_range: bool) -> None:
        assert not self.is_closed
        self.journal.row = Row(location, 0, chunk_size, trust_range)

    def acknowledged(
        self, offset: int, location: str, state: bytes | None, chunk_size: int, *, trust_range: bool
    ) -> None:
        assert not self.is_closed
        row = self.journal.row
        assert row is not None
        row.location, row.acknowledged, row.chunk_size = location, offset, chunk_size
        if state is not None:
            assert Sha256(state).length == offset
            row.states[offset] = state

    def forget(self) -> None:
        self.journal.row = None

    def close(self) -> None:
        self.is_closed = True
        self.journal.is_taken = False


@dataclass
class MemoryJournal:
    """One row, for one blob."""

    row: Row | None = None
    is_on: bool = True
    is_taken: bool = False
    troubles: list[StoreError] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    asked: list[tuple[str, str, int, str]] = field(default_factory=list)
    gate: threading.Event | None = None

    def claim(self, target: str, digest: str, size: int, source: str) -> Record | None:
        if self.gate is not None:
            self.gate.wait(10)
        self.asked.append((target, digest, size, source))
        if self.is_taken or not self.is_on:
            return None
        self.is_taken = True
        self.records.append(Record(self))
        return self.records[-1]

    def finished(self, kind: str, target: str, digest: str, size: int) -> None:
        raise AssertionError("a blob's move notes nothing")

    def take_troubles(self) -> list[StoreError]:
        troubles, self.troubles = self.troubles, []
        return troubles


class ChunkedSession(MemorySession):
    """Acknowledges at the ends of chunks, and can be resumed."""

    target: ResumableTarget

    def __init__(
        self, target: ResumableTarget, descriptor: Descriptor, log: SessionLog, saved: SavedSession | None
    ) -> None:
        super().__init__(target, descriptor)
        self.boundary = CHUNK // 4
        self.log = log
        self.saved = saved
        self.at = ""
        self.sent = 0

    @property
    def is_between_requests(self) -> bool:
        return len(self.data) % CHUNK == 0

    async def resume(self) -> tuple[int, str]:
        if self.saved is None:
            return 0, ""
        held = self.target.held.get(self.saved.location)
        if held is None:
            return 0, "it is gone"
        self.at, self.data = self.saved.location, held
        self.log.acknowledged(len(held), self.at, CHUNK, trust_range=True)
        return len(held), ""

    async def append(self, data: memoryview) -> None:
        if not self.at:
            self.at = f"/session/{len(self.target.held)}"
            self.target.held[self.at] = self.data
            self.log.opened(self.at, CHUNK, trust_range=True)
        await super().append(data)
        self.sent += len(data)
        if len(self.data) % CHUNK == 0 or len(self.data) == self.descriptor.size:
            self.log.acknowledged(len(self.data), self.at, CHUNK, trust_range=True)

    async def suspend(self) -> None:
        assert self.state == "open"
        self.state = "left"


class ResumableTarget(MemoryTarget):
    """A target whose sessions stay."""

    held: dict[str, bytearray]

    def may_resume(self) -> bool:
        return True

    async def resumable_upload(
        self, descriptor: Descriptor, chunk_size: int, log: SessionLog, saved: SavedSession | None
    ) -> ChunkedSession:
        session = ChunkedSession(self, descriptor, log, saved)
        self.sessions.append(session)
        return session


def a_target(held: dict[str, bytearray] | None = None) -> ResumableTarget:
    target = ResumableTarget()
    target.held = held if held is not None else {}
    return target


class World:
    """A blob with its source, target, journal and spool."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.blob, self.data = blob_of(algorithm=algorithm)
        self.source = MemorySource(blobs={self.blob.digest: self.data})
        self.target = a_target()
        self.journal = MemoryJournal()
        self.events: list[Event] = []
        self.tally = Tally(self.events.append)

    async def move(self, workshop: Workshop, above: int = CHUNK, keeps_states: bool = True) -> None:
        resuming = Resuming(above, CHUNK, self.journal, keeps_states)
        await BlobMove(self.blob, self.source, target_side(self.target), workshop, resuming, self.tally).run()
        assert self.target.blobs[self.blob.digest] == self.data

    async def fail(self, workshop: Workshop) -> CopyError:
        with pytest.raises(CopyError) as caught:
            await self.move(workshop)
        assert all(record.is_closed for record in self.journal.records)
        return caught.value

    async def interrupt(self, workshop: Workshop, offset: int, held: int | None = None) -> None:
        """Fail at `offset`; then the target holds `held` bytes, and everything but the journal is new."""

        def fail(session: MemorySession, count: int) -> None:
            if session.offset >= offset:
                raise ServerBusy("busy", status=503)

        self.target.on_append = fail
        await self.fail(workshop)
        for data in self.target.held.values():
            del data[held if held is not None else len(data) :]
        self.target = a_target(self.target.held)
        self.source.opened.clear()
        self.tally = Tally(self.events.append)

    @property
    def read_from(self) -> int:
        return min(start for start, _ in self.source.opened)

    @property
    def session(self) -> ChunkedSession:
        session = self.target.sessions[-1]
        assert isinstance(session, ChunkedSession)
        return session


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def workshop() -> AsyncIterator[Workshop]:
    shop = make_workshop(memory=MEMORY, part_slots=2)
    yield shop
    assert_nothing_left(shop)
    shop.hashing.close()
    shop.supply.budget.close()


async def test_a_blob_continues_from_the_last_state_and_sends_what_is_missing(
    world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 3 * CHUNK)
    assert world.target.held["/session/0"] == world.data[: 3 * CHUNK]
    await world.move(workshop)
    assert world.read_from == 3 * CHUNK
    assert world.session.sent == SIZE - 3 * CHUNK
    assert (world.tally.uploads_resumed, world.tally.bytes_resumed) == (1, 3 * CHUNK)
    assert world.journal.row is None
    told = [event for event in world.events if isinstance(event, UploadKept | UploadResumed)]
    assert told == [
        UploadKept(world.blob.digest, 3 * CHUNK, SIZE),
        UploadResumed(world.blob.digest, 3 * CHUNK, SIZE),
    ]


@pytest.mark.parametrize("more", [1, SLOT, CHUNK - 1])
async def test_bytes_that_the_target_has_beyond_the_journal_are_read_and_not_sent(
    more: int, world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 2 * CHUNK)
    world.target.held["/session/0"][:] = world.data[: 2 * CHUNK + more]
    await world.move(workshop)
    assert world.read_from == 2 * CHUNK
    assert world.session.sent == SIZE - 2 * CHUNK - more
    assert world.tally.bytes_resumed == 2 * CHUNK + more


@pytest.mark.parametrize(("held", "begin"), [(CHUNK, CHUNK), (CHUNK + 5, CHUNK), (CHUNK - 5, 0)])
async def test_where_the_target_has_less_it_goes_back_to_the_nearest_state(
    held: int, begin: int, world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 3 * CHUNK, held)
    await world.move(workshop)
    assert world.read_from == begin
    assert world.session.sent == SIZE - held


async def test_a_target_that_has_everything_gets_only_the_commit(world: World, workshop: Workshop) -> None:
    def fail(session: MemorySession) -> None:
        raise ServerBusy("busy", status=503)

    world.target.on_commit = fail
    await world.fail(workshop)
    world.target = a_target(world.target.held)
    world.source.opened.clear()
    await world.move(workshop)
    assert world.source.opened == []
    assert world.session.sent == 0


async def test_a_lost_session_is_reported_and_restarted(world: World, workshop: Workshop) -> None:
    await world.interrupt(workshop, 3 * CHUNK)
    world.target = a_target()
    await world.move(workshop)
    assert world.session.sent == SIZE
    assert world.tally.uploads_resumed == 0
    assert world.tally.warnings == [f"upload of {world.blob.digest} to target.test/repo: it is gone"]


async def test_a_digest_without_states_is_read_whole_and_sent_in_part(workshop: Workshop) -> None:
    world = World("sha512")
    await world.interrupt(workshop, 3 * CHUNK)
    await world.move(workshop)
    assert (world.read_from, world.session.sent) == (0, SIZE - 3 * CHUNK)


async def test_where_states_cost_too_much_it_is_read_whole_and_sent_in_part(
    world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 3 * CHUNK)
    await world.move(workshop, keeps_states=False)
    assert (world.read_from, world.session.sent) == (0, SIZE - 3 * CHUNK)


async def test_a_session_with_other_bytes_is_forgotten_and_the_blob_restarted(
    world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 3 * CHUNK)
    world.target.held["/session/0"][5] ^= 1
    rows: list[Row | None] = []

    def check(session: MemorySession) -> None:
        if Digest.of(bytes(session.data)) != world.blob.digest:
            raise UploadRejected("400", status=400, codes=("DIGEST_INVALID",))
        rows.append(world.journal.row)

    world.target.on_commit = check
    await world.move(workshop)
    assert [session.state for session in world.target.sessions] == ["cancelled", "committed"]
    assert world.session.saved is None
    assert (world.tally.uploads_resumed, world.tally.bytes_resumed, world.tally.retries) == (0, 0, 1)


async def test_a_state_of_other_bytes_is_forgotten_and_the_blob_restarted(
    world: World, workshop: Workshop
) -> None:
    await world.interrupt(workshop, 3 * CHUNK)
    assert world.journal.row is not None
    other = Sha256(resumable=True)
    other.update(bytes(3 * CHUNK))
    world.journal.row.states[3 * CHUNK] = other.export_state()
    await world.move(workshop)
    assert [session.state for session in world.target.sessions] == ["cancelled", "committed"]
    assert world.tally.uploads_resumed == 0


async def test_wrong_bytes_of_the_source_leave_nothing_to_continue_with(
    world: World, workshop: Workshop
) -> None:
    world.source.blobs[world.blob.digest] = world.data[:-1] + b"?"
    await world.fail(workshop)
    assert [session.state for session in world.target.sessions] == ["cancelled", "cancelled"]
    assert world.journal.row is None
    assert not [event for event in world.events if isinstance(event, UploadKept)]


@pytest.mark.parametrize("how", ["no journal", "others have it", "went off"])
async def test_sessions_that_cannot_be_found_again_are_dropped(
    how: str, world: World, workshop: Workshop
) -> None:
    world.journal.is_taken = how == "others have it"

    def fail(session: MemorySession, count: int) -> None:
        if session.offset >= 2 * CHUNK:
            world.journal.is_on = False
            raise ServerBusy("busy", status=503)

    world.target.on_append = fail
    journal = None if how == "no journal" else world.journal
    move = BlobMove(
        *(world.blob, world.source, target_side(world.target), workshop),
        Resuming(CHUNK, CHUNK, journal),
        world.tally,
    )
    with pytest.raises(CopyError):
        await move.run()
    assert world.session.state == "cancelled"


async def test_blobs_that_are_not_large_never_touch_the_journal(world: World, workshop: Workshop) -> None:
    await world.move(workshop, above=SIZE)
    assert world.journal.asked == []
    assert world.target.held == {}


async def test_trouble_with_the_journal_is_told_once(world: World, workshop: Workshop) -> None:
    world.journal.troubles = [StoreError("the journal is full", advice=Advice("free-space", "free space"))]
    await world.move(workshop)
    assert world.tally.warnings == ["the journal is full; the copy continues; free space"]


async def test_reading_stays_within_two_chunks_of_what_is_acknowledged(
    world: World, workshop: Workshop
) -> None:
    farthest: list[int] = []

    def look(session: MemorySession, count: int) -> None:
        asked = max(stop for _, stop in world.source.opened)
        farthest.append(asked - session.offset // CHUNK * CHUNK)

    world.target.on_append = look
    await world.move(workshop)
    assert CHUNK < max(farthest) <= CHUNKS_AHEAD * CHUNK


async def test_who_cancels_waits_for_the_end_of_the_chunk(world: World, workshop: Workshop) -> None:
    is_inside = asyncio.Event()

    def look(session: MemorySession, count: int) -> None:
        if CHUNK < session.offset < 2 * CHUNK:
            is_inside.set()

    world.target.on_append = look
    moving = asyncio.ensure_future(world.move(workshop))
    await is_inside.wait()
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert (world.session.state, world.session.offset) == ("left", 2 * CHUNK)
    assert world.journal.row is not None
    assert world.journal.row.acknowledged == 2 * CHUNK


async def test_a_cancelled_claim_gives_the_row_back(world: World, workshop: Workshop) -> None:
    world.journal.gate = threading.Event()
    moving = asyncio.ensure_future(world.move(workshop))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    moving.cancel()
    world.journal.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert not world.journal.is_taken


async def test_a_source_without_the_blob_keeps_what_there_is(world: World, workshop: Workshop) -> None:
    def gone(start: int, stop: int, number: int) -> None:
        if start >= 2 * CHUNK:
            raise NotFound("gone", status=404)

    world.source.on_open = gone
    error = await world.fail(workshop)
    assert error.side == "source"
    assert world.session.state == "left"
