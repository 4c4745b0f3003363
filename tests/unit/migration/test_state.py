"""The state of a run: when it is written, what a second start finds, and who may use it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.errors import InvalidOption, NotFound
from crossdock.migration.runfile import FILE, Item, RunFile, StateUnavailable, kind_and_reason, open_existing
from crossdock.migration.state import RunState, open_state

PAIRS = [("team", "old.example/team", "new.example/team"), ("team", "old.example/team", "eu.example/team")]
DIGEST = "sha256:" + "ab" * 32
CONTENT = "sha256:" + "cd" * 32


def ignore(message: str) -> None:
    """Take a warning."""


def opened(folder: Path, *, content: str = CONTENT, failed: bool = False):  # type: ignore[no-untyped-def]
    return open_state(folder, "/m.yaml", content, PAIRS, failed=failed)


def a_run(folder: Path, status: str | None = "done", *, failing: str = "") -> str:
    """A run with one tag that was copied and perhaps one that failed. Without `status` it is left open."""
    with opened(folder) as state:
        state.note(Item(0, "app", "1", DIGEST, "copied"))
        state.totals[0]["copied"] += 1
        if failing:
            why = kind_and_reason(NotFound("no such blob\nsecond line"))
            state.note(Item(0, "app", failing, DIGEST, "failed", *why))
            state.totals[0]["failed"] += 1
        state.end(status or "interrupted")  # type: ignore[arg-type]
        return state.id


def settled(state: RunState, pair: int, repository: str) -> object:
    return state.settled(pair, repository)


def test_an_unfinished_run_resumes_and_knows_what_is_settled(tmp_path: Path) -> None:
    first = a_run(tmp_path, None, failing="2")
    with opened(tmp_path) as state:
        assert state.id == first
        assert state.is_resumed
        assert settled(state, 0, "app") == {"1": DIGEST}
        assert settled(state, 1, "app") == {}
        assert settled(state, 0, "other") == {}
        assert state.totals[0]["copied"] == 1


def test_failures_are_retried_by_the_next_start_and_counted_once(tmp_path: Path) -> None:
    a_run(tmp_path, None, failing="2")
    with opened(tmp_path) as state:
        assert state.totals[0]["failed"] == 0
        assert list(state.items("failed")) == []


@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_run_that_has_ended_starts_over(tmp_path: Path, status: str) -> None:
    first = a_run(tmp_path, status, failing="2")
    with opened(tmp_path) as state:
        assert state.id != first
        assert not state.is_resumed
        assert settled(state, 0, "app") == {}


def test_another_content_is_another_run(tmp_path: Path) -> None:
    first = a_run(tmp_path, None)
    with opened(tmp_path, content="sha256:" + "ef" * 32) as state:
        assert state.id != first


def test_a_repository_that_is_done_is_settled_as_a_whole(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        state.note_repository(1, "app")
        state.end("interrupted")
    with opened(tmp_path) as state:
        assert state.is_whole(1, "app")
        assert not state.is_whole(0, "app")


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    refused = pytest.raises(
        InvalidOption, match=r"run [0-9a-f]{8} of /m.yaml is under way in another process"
    )
    with opened(tmp_path), refused, opened(tmp_path):
        pass
    with opened(tmp_path):  # it was let go
        pass


def test_files_of_other_content_run_at_the_same_time(tmp_path: Path) -> None:
    with opened(tmp_path), opened(tmp_path, content="sha256:" + "ef" * 32):
        pass


def test_copies_that_failed_last_time_are_repeated(tmp_path: Path) -> None:
    first = a_run(tmp_path, "failed", failing="2")
    with opened(tmp_path, failed=True) as state:
        assert state.row.repeats == first
        assert [(item.repository, item.name) for item in state.to_repeat()] == [("app", "2")]
        state.end("interrupted")
    with opened(tmp_path, failed=True) as again:  # goes on
        assert again.id == state.id
        again.end("done")
    with opened(tmp_path, failed=True) as last:  # nothing failed in that one
        assert list(last.to_repeat()) == []


def test_without_a_run_nothing_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"no run of /m.yaml is known"), opened(tmp_path, failed=True):
        pass


def test_a_reason_is_one_line_with_the_class_of_the_error(tmp_path: Path) -> None:
    run = a_run(tmp_path, "failed", failing="2")
    file = RunFile(tmp_path)
    (row,) = file.find(run)
    (item,) = file.items(row.number, "failed")
    assert (item.name, item.kind, item.reason) == ("2", "NotFound", "no such blob")


def test_without_a_folder_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_state(None, "/m.yaml", CONTENT, PAIRS) as state:
        state.note(Item(0, "app", "1", DIGEST, "copied"))
        assert list(tmp_path.iterdir())
        state.end("done")
    assert list(tmp_path.iterdir()) == []


def test_more_items_than_a_page_are_read_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        names = [f"v{number:05}" for number in range(2500)]
        for pair in (0, 1):
            for name in names:
                state.note(Item(pair, "app", name, DIGEST, "failed"))
        state.end("failed")
        assert [(item.pair, item.name) for item in state.items("failed")] == [
            (pair, name) for pair in (0, 1) for name in names
        ]


# -- tags that are missing at the source ------------------------------------------------------------------


def missing(state: RunState, *tags: str) -> dict[str, float]:
    return dict(asyncio.run(state.missing_since("old/app", "new/app", frozenset(tags))))


def test_a_missing_tag_keeps_its_first_moment_across_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now, tags, wanted in (
        (1000.0, ("a",), {"a": 1000.0}),
        (2000.0, ("a", "b"), {"a": 1000.0, "b": 2000.0}),
        (3000.0, ("b",), {"b": 2000.0}),
        (4000.0, ("a", "b"), {"a": 4000.0, "b": 2000.0}),  # it had come back
    ):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        with opened(tmp_path) as state:
            assert missing(state, *tags) == wanted
            state.end("done")


# -- kills and disks -------------------------------------------------------------------------------------

_WRITER = f"""
import asyncio, sys, time
from pathlib import Path
from crossdock.migration.runfile import Item
from crossdock.migration.state import open_state

async def work(state):
    async with state.written(print):
        number = 0
        while True:
            state.note(Item(0, "app", f"v{{number}}", "{DIGEST}", "copied"))
            state.totals[0]["copied"] += 1
            print(number, time.monotonic(), flush=True)
            number += 1
            await asyncio.sleep(0.002)

with open_state(Path(sys.argv[1]), "/m.yaml", "{CONTENT}", {PAIRS!r}) as state:
    asyncio.run(work(state))
"""


def test_tags_done_a_second_before_a_kill_are_on_disk(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(700)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    lines += writer.stdout.readlines()
    writer.stdout.close()
    noted = [float(line.split()[1]) for line in lines if line.endswith("\n")]
    old = sum(at < noted[-1] - 1.0 for at in noted)
    with opened(tmp_path) as state:
        found = settled(state, 0, "app")
        assert isinstance(found, dict)
        assert old > 100
        assert len(found) >= old
        assert state.totals[0]["copied"] == len(found)  # written with the tags that they count


def test_a_killed_run_is_shown_as_interrupted(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    file = open_existing(tmp_path)
    assert file is not None
    assert [row.status for row in file.runs()] == ["interrupted"]


def test_a_run_continues_when_its_state_cannot_be_written(tmp_path: Path) -> None:
    warnings: list[str] = []

    async def work(state: RunState) -> None:
        other = sqlite3.connect(tmp_path / FILE)
        async with state.written(warnings.append):
            other.execute("BEGIN IMMEDIATE")
            other.execute("DROP TABLE item")
            other.execute("COMMIT")
            state.note(Item(0, "app", "1", DIGEST, "copied"))
            await asyncio.sleep(0.6)
        other.close()

    with opened(tmp_path) as state:
        asyncio.run(work(state))
    assert len(warnings) == 1
    assert "would be looked at again" in warnings[0]


def fail_writes(folder: Path) -> None:
    """What is done can not be written any more, and what was written can be read, as on a full disk."""
    RunFile(folder).close()
    with closing(sqlite3.connect(folder / FILE)) as other:
        other.execute("CREATE TRIGGER no_space BEFORE INSERT ON item BEGIN SELECT RAISE(ABORT, 'full'); END")
        other.commit()


def test_failures_are_known_even_if_they_cannot_be_written(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        for name in ("1", "2"):
            state.note(Item(0, "app", name, DIGEST, "left"))
        state.end("interrupted")
        fail_writes(tmp_path)
        state.note(Item(0, "app", "1", DIGEST, "copied"))
        state.note(Item(0, "app", "3", DIGEST, "failed", *kind_and_reason(NotFound("no such blob"))))
        with pytest.raises(StateUnavailable):
            state.end("failed")
        assert [(item.name, item.outcome) for item in state.items("failed", "left")] == [
            ("2", "left"),
            ("3", "failed"),
        ]


def test_a_file_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    identity = a_run(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("ALTER TABLE item DROP COLUMN tag")
        other.execute("ALTER TABLE item DROP COLUMN previous")
        other.execute("PRAGMA user_version = 1")
        other.commit()
    with opened(tmp_path, content="sha256:" + "ef" * 32) as state:
        state.note(Item(0, "app", "2", DIGEST, "copied", tag="moved", previous=CONTENT))
        state.end("done")
        (item,) = state.items("copied")
        assert (item.tag, item.previous) == ("moved", CONTENT)
    file = open_existing(tmp_path)
    assert file is not None
    (before,) = (row for row in file.runs() if row.id == identity)
    assert [(item.name, item.tag) for item in file.items(before.number, "copied")] == [("1", "")]
