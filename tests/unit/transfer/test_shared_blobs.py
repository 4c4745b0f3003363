"""A blob that several copies of a run need at one registry is read once and mounted by the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import pytest
from msgspec.structs import replace

from crossdock.content import UploadSession
from crossdock.errors import CopyError, UploadRejected
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.registry.contents import REFUSALS, WAITS, Contents
from crossdock.tally import Tally
from crossdock.transfer.image import ImageCopy
from crossdock.transfer.request import CopyRequest
from crossdock.transfer.workshop import LARGE_BLOBS_AT_ONCE, Workshop
from unit.transfer.doubles import MemorySession, MemorySource, MemoryTarget
from unit.transfer.shop import WHOLE, assert_nothing_left
from unit.transfer.test_image import Entry, World

COPIES = 4  # no more than the workshop has connections
SMALL, LARGE = 30_000, 400_000  # one slot of the workshop, and several


class Registry:
    """Repositories that know of each other, as those of `crossdock.registry` do."""

    def __init__(self, host: str = "target.test", mounts: bool = True) -> None:
        self.host = host
        self.mounts = mounts
        self.contents = Contents()
        self.repositories: dict[str, Repository] = {}
        self.sessions: list[MemorySession] = []

    def repository(self, name: str) -> Repository:
        if name not in self.repositories:
            self.repositories[name] = Repository(self, name)
        return self.repositories[name]


class Repository(MemoryTarget):
    def __init__(self, registry: Registry, repository: str) -> None:
        super().__init__(name=f"{registry.host}/{repository}")
        self.registry, self.repository = registry, repository
        self.mounts_tried = 0
        self.gates: dict[str, asyncio.Event] = {}
        """What the responses to HEAD wait for, by digest."""

    async def has_blob(self, descriptor: Descriptor) -> bool:
        if (gate := self.gates.get(str(descriptor.digest))) is not None:
            await gate.wait()
        found = await super().has_blob(descriptor)
        if found:
            self.registry.contents.add(self.repository, descriptor)
        return found

    def knows(self, descriptor: Descriptor) -> bool:
        return self.registry.contents.has(self.repository, descriptor)

    def other_repository(self, descriptor: Descriptor) -> str | None:
        return self.registry.contents.elsewhere(self.repository, descriptor)

    def claim(self, blobs: Iterable[Descriptor], source: str) -> AbstractContextManager[None]:
        return self.registry.contents.claim(self.repository, blobs, source)

    def turn(self, descriptor: Descriptor, source: str) -> AbstractAsyncContextManager[None]:
        return self.registry.contents.turn(self.repository, descriptor, source)

    async def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        self.mounts_tried += 1
        await asyncio.sleep(0)
        self.registry.contents.mounted(self.registry.mounts)
        if self.registry.mounts:
            self.blobs[descriptor.digest] = self.registry.repositories[from_repository].blobs[
                descriptor.digest
            ]
            self.registry.contents.add(self.repository, descriptor)
        return self.registry.mounts

    async def start_upload(self, descriptor: Descriptor) -> UploadSession:
        session = _Session(self, descriptor)
        self.registry.sessions.append(session)
        return session


class _Session(MemorySession):
    target: Repository

    async def commit(self) -> None:
        await super().commit()
        self.target.registry.contents.add(self.target.repository, self.descriptor, rank=1)


class Run:
    """Images ``v0``, ``v1``, … that share layers, for repositories of the same names."""

    def __init__(self, workshop: Workshop, *sizes: int, mounts: bool = True) -> None:
        self.workshop = workshop
        self.registry = Registry(mounts=mounts)
        self.world = World()
        self.shared: list[Entry] = [self.world.blob(size) for size in sizes]
        for number in range(COPIES):
            self.world.source.tags[f"v{number}"] = self.world.image(None, self.shared)["digest"]

    def copy(
        self, name: str, registry: Registry | None = None, source: MemorySource | None = None
    ) -> asyncio.Task[Tally]:
        return asyncio.ensure_future(self._copy(name, registry or self.registry, source or self.world.source))

    def all(self) -> list[asyncio.Task[Tally]]:
        return [self.copy(f"v{number}") for number in range(COPIES)]

    def sessions(self, entry: Entry) -> list[MemorySession]:
        """The uploads of a layer in the order of their beginning, in whatever repository."""
        return [each for each in self.registry.sessions if each.descriptor.digest == entry["digest"]]

    async def _copy(self, name: str, registry: Registry, source: MemorySource) -> Tally:
        tally = Tally(lambda event: None)
        request = CopyRequest(name, name, name, None, "v1", None, (), ())
        copy = ImageCopy(request, source, registry.repository(name), self.workshop, WHOLE, tally)
        await copy.run()
        return tally


def outcomes(ended: Sequence[asyncio.Task[Tally]]) -> list[dict[Any, int]]:
    return [task.result().blobs for task in ended]


class Reads:
    """The reads of layers, held after their first bytes until they are let go."""

    def __init__(self, source: MemorySource) -> None:
        self._source = source
        self._begun: asyncio.Queue[None] = asyncio.Queue()
        self.count = 0
        source.pause_at = (0, source.piece)  # configs are smaller
        source.on_open = self._on_open

    def _on_open(self, start: int, stop: int, number: int) -> None:
        if start == 0 and stop > self._source.piece:
            self.count += 1
            self._begun.put_nowait(None)

    async def begun(self, count: int = 1) -> None:
        """Wait for the next ones to begin, and see that no more follow."""
        for _ in range(count):
            await self._begun.get()
        await settled()
        assert self._begun.empty()

    def let_go(self) -> None:
        self._source.go_on.set()


async def settled() -> None:
    """Let everything that can continue do so."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_copies_at_once_read_a_shared_blob_once_and_the_others_mount_it(
    size: int, workshop: Workshop
) -> None:
    run = Run(workshop, size, size)
    done = await asyncio.gather(*run.all())
    assert [len(run.sessions(entry)) for entry in run.shared] == [1, 1]
    assert sum(tally.bytes_requested for tally in done) == sum(map(len, run.world.source.blobs.values()))
    assert sum(tally.blobs["mounted"] for tally in done) == 2 * (COPIES - 1)
    assert sum(tally.blobs["moved"] for tally in done) == COPIES + 2
    for number in range(COPIES):
        assert set(run.registry.repository(f"v{number}").tags) == {"v1"}


async def test_the_copy_that_comes_first_brings_all_that_the_target_lacks(workshop: Workshop) -> None:
    """Not the one whose check is answered first: two that each bring some cannot both wait for the other."""
    run = Run(workshop, LARGE, LARGE)
    gate = asyncio.Event()
    run.registry.repository("v0").gates[run.shared[0]["digest"]] = gate
    copies = run.all()
    await settled()
    assert run.sessions(run.shared[0]) == []
    gate.set()
    await asyncio.gather(*copies)
    assert [[each.target.name for each in run.sessions(entry)] for entry in run.shared] == [
        ["target.test/v0"],
        ["target.test/v0"],
    ]


async def test_a_blob_that_the_first_copy_finds_there_is_mounted_by_the_others_at_once(
    workshop: Workshop,
) -> None:
    run = Run(workshop, LARGE, LARGE)
    reads = Reads(run.world.source)
    there = Digest.parse(run.shared[0]["digest"])
    run.registry.repository("v0").blobs[there] = run.world.source.blobs[there]
    copies = run.all()
    await reads.begun()
    assert {each.mounts_tried for each in run.registry.repositories.values()} == {0, 1}
    reads.let_go()
    await asyncio.gather(*copies)
    assert [len(run.sessions(entry)) for entry in run.shared] == [0, 1]


async def test_more_shared_blobs_than_move_at_once_end_all_the_same(workshop: Workshop) -> None:
    """Whoever waits holds no place, no connection and no memory that the one it waits for needs."""
    run = Run(workshop, *[LARGE] * (LARGE_BLOBS_AT_ONCE + 3))
    copies = run.all()
    async with asyncio.timeout(60):
        await asyncio.wait(copies)
    assert {len(run.sessions(entry)) for entry in run.shared} == {1}
    assert sum(each["mounted"] for each in outcomes(copies)) == len(run.shared) * (COPIES - 1)


@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_one_that_fails_or_is_cancelled_is_followed_by_one(
    size: int, cancelled: bool, workshop: Workshop
) -> None:
    run = Run(workshop, size)
    reads = Reads(run.world.source)
    failed: list[str] = []

    def on_append(session: MemorySession, count: int) -> None:
        if session.descriptor.digest == run.shared[0]["digest"] and not failed:
            failed.append(session.target.name)
            raise UploadRejected("full")

    copies = run.all()
    await reads.begun()
    [first] = run.sessions(run.shared[0])
    failing = copies[int(first.target.name[-1])]
    if cancelled:
        failing.cancel()
        await reads.begun()
    else:
        for number in range(COPIES):
            run.registry.repository(f"v{number}").on_append = on_append
    reads.let_go()
    await asyncio.wait(copies)
    assert failing.cancelled() == cancelled
    assert cancelled or isinstance(failing.exception(), CopyError)
    copies.remove(failing)
    assert sum(each["mounted"] for each in outcomes(copies)) == COPIES - 2
    assert [session.state for session in run.sessions(run.shared[0])] == ["cancelled", "committed"]
    assert reads.count == 2
    assert_nothing_left(workshop)


async def test_nobody_waits_for_a_third_that_may_fail_as_two_did(workshop: Workshop) -> None:
    run = Run(workshop, SMALL)
    reads = Reads(run.world.source)
    copies = run.all()
    for _ in range(WAITS):
        await reads.begun()
        copies[int(run.sessions(run.shared[0])[-1].target.name[-1])].cancel()
    await reads.begun(COPIES - WAITS)
    reads.let_go()
    await asyncio.wait(copies)


async def test_one_that_waits_can_be_cancelled_alone(workshop: Workshop) -> None:
    run = Run(workshop, SMALL)
    reads = Reads(run.world.source)
    copies = [run.copy("v0")]
    await reads.begun()
    copies += [run.copy("v1"), run.copy("v2")]
    await settled()
    copies[1].cancel()
    await asyncio.wait([copies[1]])
    reads.let_go()
    assert copies.pop(1).cancelled()
    await asyncio.wait(copies)
    assert [each["mounted"] for each in outcomes(copies)] == [0, 1]


async def test_registries_that_do_not_mount_are_not_waited_for_twice(workshop: Workshop) -> None:
    run = Run(workshop, SMALL, mounts=False)
    await asyncio.gather(*run.all())
    assert len(run.sessions(run.shared[0])) == COPIES
    again = run.world.blob(SMALL)
    for number in range(COPIES):
        run.world.source.tags[f"w{number}"] = run.world.image(None, [again])["digest"]
    reads = Reads(run.world.source)
    copies = [run.copy(f"w{number}") for number in range(COPIES)]
    await reads.begun(COPIES)
    reads.let_go()
    await asyncio.wait(copies)
    assert [each["moved"] for each in outcomes(copies)] == [2] * COPIES
    assert sum(each.mounts_tried for each in run.registry.repositories.values()) == COPIES - 1


async def test_who_waits_is_told_when_a_registry_turns_out_not_to_mount(workshop: Workshop) -> None:
    run = Run(workshop, SMALL)
    reads = Reads(run.world.source)
    copies = run.all()
    await reads.begun()
    for _ in range(REFUSALS):
        run.registry.contents.mounted(False)
    await reads.begun(COPIES - 1)
    reads.let_go()
    await asyncio.wait(copies)
    assert [each["moved"] for each in outcomes(copies)] == [2] * COPIES


async def test_copies_to_another_registry_and_from_another_do_not_wait(workshop: Workshop) -> None:
    run = Run(workshop, SMALL)
    reads = Reads(run.world.source)
    first = run.copy("v0")
    await reads.begun()
    waits = run.copy("v1")
    elsewhere = run.copy("v1", registry=Registry("elsewhere.test"))
    await reads.begun()
    source = MemorySource(
        blobs=run.world.source.blobs,
        manifests=run.world.source.manifests,
        tags=run.world.source.tags,
        name="other.test/repo",
    )
    other = await run.copy("v2", source=source)
    assert other.blobs == {"moved": 2, "skipped": 0, "mounted": 0}
    assert not waits.done()
    reads.let_go()
    await asyncio.wait([first, waits, elsewhere])
    assert [each["mounted"] for each in outcomes([first, waits, elsewhere])] == [0, 1, 0]


async def test_a_blob_found_damaged_when_read_back_is_not_mounted(workshop: Workshop) -> None:
    run = Run(replace(workshop, verify="reread"), SMALL)

    def on_commit(session: MemorySession) -> None:
        if session.descriptor.digest == run.shared[0]["digest"] and len(run.sessions(run.shared[0])) == 1:
            target = session.target
            target.on_read = lambda data: bytes(len(data)) if len(data) == SMALL else data

    for number in range(COPIES):
        run.registry.repository(f"v{number}").on_commit = on_commit
    copies = run.all()
    await asyncio.wait(copies)
    failed = [task for task in copies if task.exception() is not None]
    assert len(failed) == 1
    assert isinstance(failed[0].exception(), CopyError)
    copies.remove(failed[0])
    assert sum(each["mounted"] for each in outcomes(copies)) == COPIES - 2
    assert len(run.sessions(run.shared[0])) == 2
