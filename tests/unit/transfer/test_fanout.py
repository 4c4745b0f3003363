"""One source for several targets: blobs are read once, and no target depends on another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import pytest

from crossdock.errors import CopyError, Denied
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.transfer import fanout, sharedread
from crossdock.transfer.fanout import SharedReads
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.sharedread import FORGIVEN, PATIENCE_S, Patience
from crossdock.transfer.workshop import Resuming, Workshop
from unit.transfer.doubles import MemorySession, MemoryTarget
from unit.transfer.shop import WHOLE
from unit.transfer.test_image import World

SMALL, LARGE = 30_000, 2_000_000  # one slot of the workshop, and more than a target's queue


class Target(MemoryTarget):
    """Waits before it takes bytes, looks for a blob, or lets a copy have its turn, until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name=f"{name}.test/repo")
        self.takes, self.looks, self.has_turn = (asyncio.Event() for _ in range(3))
        for event in (self.takes, self.looks, self.has_turn):
            event.set()
        self.waiting = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}  # for the bytes of single blobs

    async def _wait(self, event: asyncio.Event) -> None:
        if not event.is_set():
            self.waiting.set()
        await event.wait()

    async def has_blob(self, descriptor: Descriptor) -> bool:
        if descriptor.size > SMALL:
            await self._wait(self.looks)
        return await super().has_blob(descriptor)

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        return self._turn(descriptor)

    @asynccontextmanager
    async def _turn(self, descriptor: Descriptor) -> AsyncIterator[None]:
        if descriptor.size > SMALL:
            await self._wait(self.has_turn)
        yield

    async def start_upload(self, descriptor: Descriptor) -> Session:
        session = Session(self, descriptor)
        self.sessions.append(session)
        return session


class Session(MemorySession):
    target: Target

    async def append(self, data: memoryview) -> None:
        await self.target._wait(self.target.takes)
        if (gate := self.target.gates.get(self.descriptor.digest)) is not None:
            await self.target._wait(gate)
        await super().append(data)


class Copies:
    """An image with a small and a large layer, for the targets ``a``, ``b`` and ``c``."""

    def __init__(self, workshop: Workshop, resuming: Resuming = WHOLE) -> None:
        self.workshop = workshop
        self.resuming = resuming
        self.world = World()
        self.small, self.large = self.world.blob(SMALL), self.world.blob(LARGE)
        self.world.source.tags["v1"] = self.world.image(None, [self.small, self.large])["digest"]
        self.targets = [Target(name) for name in "abc"]
        self.tallies = [Tally(lambda event: None) for _ in self.targets]
        self.reads: SharedReads | None = None
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(map(len, self.world.source.blobs.values()))

    @property
    def source_bytes(self) -> int:
        """Bytes that the source was asked for."""
        assert self.reads is not None
        return sum(each.bytes_requested for each in self.tallies) - self.reads.shared_bytes

    @property
    def behind(self) -> list[bool]:
        """Which targets were left behind."""
        assert self.reads is not None
        return [each.is_behind for each in self.reads.targets]

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """The copies have begun; they have ended when the block is left."""
        registries = [target.name.partition("/")[0] for target in self.targets]
        async with (
            asyncio.timeout(60),
            SharedReads(self.world.source, registries, self.workshop, self.resuming) as self.reads,
        ):
            self.tasks = [asyncio.ensure_future(self._copy(number)) for number in range(len(self.targets))]
            yield
            await asyncio.wait(self.tasks)

    async def _copy(self, number: int) -> None:
        assert self.reads is not None
        target, reads = self.targets[number], self.reads.targets[number]
        request = CopyRequest("s:v1", f"{target.name}:v1", "v1", None, "v1", None, (), ())
        copy = ImageCopy(
            request, self.world.source, target, self.workshop, self.resuming, self.tallies[number], reads
        )
        try:
            await copy.run()
        finally:
            reads.end()

    def assert_whole(self, *numbers: int) -> None:
        """These targets have everything, and their copies have not failed."""
        for number in numbers:
            assert self.tasks[number].result() is None
            assert self.targets[number].blobs == self.world.source.blobs
            assert set(self.targets[number].tags) == {"v1"}


@pytest.fixture
def copies(workshop: Workshop) -> Copies:
    return Copies(workshop)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharedread, "PATIENCE_S", 0.05)


def refuse(session: MemorySession, count: int) -> None:
    """A target's `on_append` that fails within the large layer."""
    if session.descriptor.size == LARGE and session.data:
        raise Denied("no")


def interrupt(session: MemorySession, count: int) -> None:
    """A target's `on_append` that requests the bytes of the large layer again, once."""
    if session.descriptor.size == LARGE and session.offset > LARGE // 2 and not session.interruptions:
        session.interrupt(0)


async def test_every_blob_is_read_once_for_all_targets(copies: Copies) -> None:
    async with copies.under_way():
        pass
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size
    assert sum(stop - start for start, stop in copies.world.source.opened) == copies.size
    assert [each.bytes_requested for each in copies.tallies] == [copies.size] * 3
    assert copies.behind == [False] * 3


async def test_a_target_that_has_a_blob_takes_no_part_in_its_reading(copies: Copies) -> None:
    digest = copies.large["digest"]
    copies.targets[1].blobs[digest] = copies.world.source.blobs[digest]
    async with copies.under_way():
        pass
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size
    assert [each.blobs["skipped"] for each in copies.tallies] == [0, 1, 0]


async def test_a_late_target_is_waited_for(copies: Copies) -> None:
    late = copies.targets[2]
    late.looks.clear()
    async with copies.under_way():
        await late.waiting.wait()
        late.looks.set()
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size


async def test_a_target_that_does_not_say_whether_it_needs_a_blob_is_left_behind(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    silent = copies.targets[2]
    silent.looks.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[:2])
        copies.assert_whole(0, 1)
        assert copies.source_bytes == copies.size
        silent.looks.set()
    copies.assert_whole(2)
    assert copies.source_bytes == copies.size + LARGE
    assert copies.behind == [False, False, True]


async def test_a_slow_target_is_left_behind_and_reads_on_where_it_stood(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    slow = copies.targets[0]
    slow.takes.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[1:])
        copies.assert_whole(1, 2)
        budget = copies.workshop.supply.budget
        held = budget.slots - budget.free
        assert 0 < held * budget.slot_size < LARGE
        slow.takes.set()
    copies.assert_whole(0)
    assert copies.behind == [True, False, False]
    # It held a queue of the large blob: only what follows is read again.
    assert copies.size < copies.source_bytes < copies.size + LARGE


async def test_targets_that_are_all_slow_are_not_left_behind(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    for target in copies.targets:
        target.takes.clear()
    async with copies.under_way():
        await copies.targets[0].waiting.wait()
        await asyncio.sleep(0.2)  # longer than their patience
        for target in copies.targets:
            target.takes.set()
    copies.assert_whole(0, 1, 2)
    assert (copies.behind, copies.source_bytes) == ([False] * 3, copies.size)


async def test_targets_that_divide_their_bandwidth_differently_are_not_left_behind(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    world = copies.world
    other = world.blob(LARGE)
    world.source.tags["v1"] = world.image(None, [copies.large, other])["digest"]
    del copies.targets[2:]
    first, second = copies.targets
    first.gates[other["digest"]] = second.gates[copies.large["digest"]] = gate = asyncio.Event()
    async with copies.under_way():
        await first.waiting.wait()
        await second.waiting.wait()
        await asyncio.sleep(0.2)  # longer than their patience
        gate.set()
    assert all(task.result() is None for task in copies.tasks)
    assert copies.behind == [False] * 2


async def test_a_target_that_fails_in_mid_blob_does_not_end_the_others(copies: Copies) -> None:
    copies.targets[1].on_append = refuse
    async with copies.under_way():
        pass
    copies.assert_whole(0, 2)
    assert isinstance(copies.tasks[1].exception(), CopyError)
    assert copies.source_bytes == copies.size


async def test_a_target_that_requests_earlier_bytes_reads_them_for_itself(copies: Copies) -> None:
    copies.targets[1].on_append = interrupt
    async with copies.under_way():
        pass
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size + LARGE
    assert copies.behind == [False] * 3


async def test_a_target_that_waits_for_a_mount_is_not_waited_for(copies: Copies) -> None:
    second = copies.targets[2]
    second.has_turn.clear()
    second.elsewhere["a"] = copies.targets[0].blobs
    second.seen.append("a")
    async with copies.under_way():
        await asyncio.wait(copies.tasks[:2])
        second.has_turn.set()
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size
    assert copies.tallies[2].bytes["mounted"] >= LARGE
    assert copies.behind == [False] * 3


async def test_wrong_bytes_reach_no_target(copies: Copies) -> None:
    digest = copies.large["digest"]
    copies.world.source.blobs[digest] = bytes(LARGE)
    async with copies.under_way():
        pass
    for task, target in zip(copies.tasks, copies.targets, strict=True):
        assert isinstance(task.exception(), CopyError)
        assert digest not in target.blobs
        assert not target.tags


async def test_a_cancelled_copy_leaves_the_others_and_nothing_of_itself(copies: Copies) -> None:
    stuck = copies.targets[1]
    stuck.takes.clear()
    async with copies.under_way():
        await stuck.waiting.wait()
        copies.tasks[1].cancel()
    copies.assert_whole(0, 2)
    assert {session.state for session in stuck.sessions} == {"cancelled"}
    assert copies.source_bytes == copies.size


async def test_all_copies_cancelled_leave_nothing(copies: Copies) -> None:
    for target in copies.targets:
        target.takes.clear()
    async with copies.under_way():
        await copies.targets[0].waiting.wait()
        for task in copies.tasks:
            task.cancel()
    assert all(task.cancelled() for task in copies.tasks)
    assert {session.state for target in copies.targets for session in target.sessions} == {"cancelled"}


async def test_one_target_alone_is_never_left_behind(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    del copies.targets[1:]
    copies.targets[0].takes.clear()
    async with copies.under_way():
        await copies.targets[0].waiting.wait()
        await asyncio.sleep(0.2)
        copies.targets[0].takes.set()
    copies.assert_whole(0)
    assert (copies.behind, copies.source_bytes) == ([False], copies.size)


async def test_copies_of_other_images_let_the_first_begin_a_blob_at_every_registry(copies: Copies) -> None:
    """Else one copy would read it for one target, and another copy for the other."""
    a, b, c = "a.test", "b.test", "c.test"
    blob = Descriptor("", Digest(copies.large["digest"]), LARGE)
    source, workshop, resuming = copies.world.source, copies.workshop, copies.resuming
    async with (
        asyncio.timeout(60),
        SharedReads(source, [a, b], workshop, resuming) as first,
        SharedReads(source, [a, b, c], workshop, resuming) as second,
    ):
        await first.targets[0].follow(blob)
        waiting = [asyncio.ensure_future(each.follow(blob)) for each in second.targets]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [each.done() for each in waiting] == [False, False, True]
        async with first.targets[0].in_turn(blob, nullcontext()):
            await waiting[0]
        assert not waiting[1].done()
        first.targets[1].end()
        await waiting[1]
        assert not workshop.sharing.leads
        await second.targets[0].follow(blob)
        assert workshop.sharing.leads
    assert not workshop.sharing.leads


async def test_a_copy_waits_for_the_first_one_for_a_short_time_alone(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies may wait for each other."""
    monkeypatch.setattr(fanout, "PATIENCE_S", 0.01)
    blob = Descriptor("", Digest(copies.large["digest"]), LARGE)
    source, workshop, resuming = copies.world.source, copies.workshop, copies.resuming
    async with (
        asyncio.timeout(60),
        SharedReads(source, ["a.test"], workshop, resuming) as first,
        SharedReads(source, ["a.test"], workshop, resuming) as second,
    ):
        await first.targets[0].follow(blob)
        await second.targets[0].follow(blob)


def test_patience_counts_the_time_of_several_blobs_once_and_forgets() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    with patience.holding(), patience.holding():
        now = 2.0
    assert patience.left_s == PATIENCE_S - 2.0
    now = 4.0
    assert patience.left_s == PATIENCE_S - 2.0 + 2.0 * FORGIVEN
    now = 100.0
    assert patience.left_s == PATIENCE_S
    with patience.holding():
        now += PATIENCE_S
        assert patience.left_s <= 0
