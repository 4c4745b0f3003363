"""One source for several targets with a spool: what was read for one target is not read again for another."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from crossdock.errors import CopyError
from crossdock.kept.spool import Spool
from crossdock.kept.spoolfile import SpoolFile
from crossdock.kept.spoolfolder import SUFFIX
from crossdock.transfer.workshop import Resuming, Workshop
from unit.transfer.doubles import MemorySession
from unit.transfer.test_fanout import LARGE, Copies, impatient, interrupt, refuse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def copies(workshop: Workshop, folder: Path) -> Copies:
    return spooling(workshop, folder)


def spooling(workshop: Workshop, folder: Path) -> Copies:
    """New copies of the same content."""
    # However large a blob must be for a spool of a single copy.
    return Copies(workshop, Resuming(1 << 62, 1 << 26, spool=Spool(folder, 1 << 30)))


def files(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{SUFFIX}"))


def spooled(copies: Copies) -> list[int]:
    return [each.bytes_spooled for each in copies.tallies]


async def test_nothing_comes_from_the_spool_when_all_keep_up(copies: Copies, folder: Path) -> None:
    async with copies.under_way():
        pass
    copies.assert_whole(0, 1, 2)
    assert (copies.source_bytes, spooled(copies), files(folder)) == (copies.size, [0] * 3, [])


async def test_a_target_left_behind_goes_on_from_the_spool(
    copies: Copies, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    slow = copies.targets[0]
    slow.takes.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[1:])
        assert len(files(folder)) == 1, "the slow target still needs it"
        slow.takes.set()
    copies.assert_whole(0, 1, 2)
    assert copies.behind == [True, False, False]
    assert copies.source_bytes == copies.size
    assert 0 < spooled(copies)[0] <= LARGE
    assert (spooled(copies)[1:], files(folder)) == ([0, 0], [])


async def test_two_targets_left_behind_go_on_from_the_spool(
    copies: Copies, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    for slow in copies.targets[:2]:
        slow.takes.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[2:])
        for slow in copies.targets[:2]:
            slow.takes.set()
    copies.assert_whole(0, 1, 2)
    assert (copies.behind, copies.source_bytes) == ([True, True, False], copies.size)
    assert files(folder) == []


async def test_one_that_was_left_behind_before_it_needed_the_blob_takes_it_from_the_spool(
    copies: Copies, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    silent = copies.targets[2]
    silent.looks.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[:2])
        silent.looks.set()
    copies.assert_whole(0, 1, 2)
    assert (copies.source_bytes, spooled(copies)[2], files(folder)) == (copies.size, LARGE, [])


async def test_one_left_behind_does_not_wait_long_for_the_read_that_others_hold_up(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    slow, stuck = copies.targets[:2]
    del copies.targets[2:]
    slow.takes.clear()

    def stick(session: MemorySession, count: int) -> None:
        if session.descriptor.size == LARGE and copies.behind[0] and not slow.takes.is_set():
            stuck.takes.clear()
            slow.takes.set()

    stuck.on_append = stick
    async with copies.under_way():
        await asyncio.wait(copies.tasks[:1])
        copies.assert_whole(0)
        stuck.takes.set()
    copies.assert_whole(0, 1)
    # It reads the source for both: only what the other had requested already is requested twice.
    assert copies.source_bytes < copies.size + LARGE // 4


async def test_bytes_that_a_target_requests_again_come_from_the_spool(copies: Copies) -> None:
    copies.targets[1].on_append = interrupt
    async with copies.under_way():
        pass
    copies.assert_whole(0, 1, 2)
    assert copies.source_bytes == copies.size


async def test_what_a_failed_target_lacks_stays_for_the_next_run(
    copies: Copies, folder: Path, workshop: Workshop
) -> None:
    copies.targets[1].on_append = refuse
    async with copies.under_way():
        pass
    copies.assert_whole(0, 2)
    assert isinstance(copies.tasks[1].exception(), CopyError)
    assert len(files(folder)) == 1
    again = spooling(workshop, folder)
    async with again.under_way():
        pass
    again.assert_whole(0, 1, 2)
    assert (again.source_bytes, spooled(again)) == (again.size - LARGE, [LARGE] * 3)
    assert files(folder) == []


async def test_wrong_bytes_are_not_kept(copies: Copies, folder: Path, workshop: Workshop) -> None:
    right = copies.world.source.blobs[copies.large["digest"]]
    copies.world.source.blobs[copies.large["digest"]] = bytes(LARGE)
    async with copies.under_way():
        pass
    assert all(isinstance(task.exception(), CopyError) for task in copies.tasks)
    again = spooling(workshop, folder)
    assert again.world.source.blobs[again.large["digest"]] == right
    async with again.under_way():
        pass
    again.assert_whole(0, 1, 2)
    assert again.source_bytes == again.size


async def test_a_cancelled_run_leaves_the_spool_for_the_next(
    copies: Copies, folder: Path, workshop: Workshop
) -> None:
    began = asyncio.Event()

    def stop(session: MemorySession, count: int) -> None:
        if session.descriptor.size == LARGE:
            session.target.takes.clear()
            began.set()

    for target in copies.targets:
        target.on_append = stop
    async with copies.under_way():
        await began.wait()
        for task in copies.tasks:
            task.cancel()
    assert len(files(folder)) == 1
    again = spooling(workshop, folder)
    async with again.under_way():
        pass
    again.assert_whole(0, 1, 2)
    assert again.source_bytes + spooled(again)[0] == again.size
    assert files(folder) == []


@pytest.mark.parametrize("after", [0, 5])
async def test_a_full_disk_costs_only_what_the_spool_would_have_saved(
    after: int, copies: Copies, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    write, written = SpoolFile.write, list[int]()

    def write_some(self: SpoolFile, offset: int, data: memoryview) -> None:
        written.append(offset)
        if len(written) > after:
            raise OSError(errno.ENOSPC, "full")
        write(self, offset, data)

    monkeypatch.setattr(SpoolFile, "write", write_some)
    slow = copies.targets[0]
    slow.takes.clear()
    async with copies.under_way():
        await asyncio.wait(copies.tasks[1:])
        slow.takes.set()
    copies.assert_whole(0, 1, 2)
    assert copies.size < copies.source_bytes <= copies.size + LARGE
    assert files(folder) == []
    warnings = [warning for each in copies.tallies for warning in each.warnings]
    assert sum("cannot be used" in warning for warning in warnings) == 1
