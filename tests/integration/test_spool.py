"""Source bytes are not read again when an upload restarts at the target; damaged and full spools.

The proxies in front of both registries measure the traffic.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crossdock.kept.spoolfile import BLOCK, file_size
from crossdock.kept.spoolfolder import LOCK_FILE, SUFFIX
from crossdock_testing.faults import Break, Fault, error
from support.command import TARGET
from support.interrupted import CHUNK, LAYER, MIB, Passage
from support.process import require

pytestmark = pytest.mark.real

KILLED = -signal.SIGKILL
KILL_AT = 3 * CHUNK + CHUNK // 2
NO_CHUNKS = "no chunks"  # what such a registry answers to each PATCH
REFUSED = error(405, "UNSUPPORTED")


@pytest.fixture
def kind() -> str:
    """A cut chunk ends its session there."""
    return "docker-registry-2.8"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The folder, which does not exist yet."""
    return tmp_path / "spool"


def words(passage: Passage, spool: Path) -> tuple[str, ...]:
    return *passage.words, "--spool", str(spool)


def file_in(spool: Path) -> Path:
    (path,) = spool.glob(f"*{SUFFIX}")
    return path


def data_at(spool: Path) -> int:
    return file_in(spool).stat().st_size - LAYER


def refuse_chunks(passage: Passage) -> None:
    passage.target.add(Fault(passage.is_chunk, times=None, answer=REFUSED))


def run_and_kill(passage: Passage, spool: Path, way: str = "") -> int:
    """Run the copy and kill it at `KILL_AT` of the layer; returns the bytes that the source had sent."""
    pids: list[int] = []

    def kill() -> None:
        while not pids:  # the request came before `start` returned
            time.sleep(0.001)
        os.kill(pids[0], signal.SIGKILL)

    at = Break("reset", "request", KILL_AT if way == NO_CHUNKS else KILL_AT % CHUNK)
    on = passage.is_commit if way == NO_CHUNKS else passage.chunk_with(KILL_AT)
    passage.target.add(Fault(on, breaks=at, when_reached=kill))
    with passage.command.start(*words(passage, spool)) as running:
        pids.append(running.pid)
        done = running.finish()
    assert done.code == KILLED, str(done)
    passage.source.settle()
    passage.target.settle()
    passage.target.faults.clear()
    return sum(seen.sent for seen in passage.source.seen if seen.is_blob_get(passage.layer))


def run_again(passage: Passage, spool: Path) -> dict[str, Any]:
    """The copy, which must succeed and leave nothing in the spool; its result."""
    result = passage.command.ok(*words(passage, spool)).result
    passage.check()
    assert [path.name for path in spool.iterdir()] == [LOCK_FILE]
    return result


# -- what it is for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["", NO_CHUNKS])
def test_a_kill_where_the_target_restarts_costs_the_source_two_chunks(
    way: str, passage: Passage, spool: Path
) -> None:
    if way == NO_CHUNKS:
        refuse_chunks(passage)
    before = run_and_kill(passage, spool, way)
    assert before > KILL_AT
    if way == NO_CHUNKS:
        refuse_chunks(passage)
    result = run_again(passage, spool)
    assert passage.read_again() <= 2 * CHUNK
    assert result["bytes_spooled"] >= KILL_AT - MIB
    assert result["bytes_requested"] <= LAYER - KILL_AT + MIB
    assert result["bytes_resumed"] == 0


def test_each_kill_leaves_more_in_the_spool(passage: Passage, spool: Path) -> None:
    for _ in range(3):
        run_and_kill(passage, spool)
    run_again(passage, spool)
    assert passage.read_again() <= 3 * 2 * CHUNK


@pytest.mark.parametrize("kind", ["embedded"])
def test_where_the_target_resumes_the_spool_takes_nothing_away(
    kind: str, passage: Passage, spool: Path
) -> None:
    run_and_kill(passage, spool)
    result = run_again(passage, spool)
    assert result["uploads_resumed"] == 1
    assert passage.sent_again() <= CHUNK
    assert passage.read_again() <= 2 * CHUNK


@pytest.mark.parametrize("kind", ["embedded"])
def test_a_target_that_takes_no_chunks_gets_the_beginning_from_the_spool(
    kind: str, passage: Passage, spool: Path
) -> None:
    passage.target.add(Fault(passage.chunk_with(2 * CHUNK), times=None, answer=REFUSED))
    result = run_again(passage, spool)
    assert result["bytes_spooled"] >= CHUNK
    assert passage.read_again() <= 2 * CHUNK


def test_a_failed_copy_says_what_the_spool_has_and_what_to_paste(passage: Passage, spool: Path) -> None:
    refuse_chunks(passage)
    passage.target.add(Fault(passage.is_commit, times=None, answer=error(503), answer_after=None))
    done = passage.command(*words(passage, spool), "--retries", "0")
    assert done.code == TARGET, str(done)
    assert "from the spool" in done.error
    listed = passage.command.ok("state", "list", "--spool", spool, "--state", passage.state).stdout
    assert passage.layer in listed
    passage.target.faults.clear()
    pasted = done.error.partition("run again: crossdock ")[2].partition(" (")[0]
    again = passage.command(*shlex.split(pasted))
    assert again.code == 0, str(again)
    assert again.result["bytes_spooled"] == LAYER
    assert again.result["bytes_requested"] <= MIB  # the layer not at all
    passage.check()


def test_prune_empties_the_spool(passage: Passage, spool: Path) -> None:
    run_and_kill(passage, spool)
    prune = ("state", "prune", "--spool", spool, "--state", passage.state, "--output", "json")
    assert passage.command.ok(*prune).result["spooled"] == 0
    assert passage.command.ok(*prune, "--all").result["spooled"] == 1
    assert [path.name for path in spool.iterdir()] == [LOCK_FILE]


def test_two_processes_with_one_spool_both_succeed(passage: Passage, spool: Path) -> None:
    stalled = passage.target.add(Fault(passage.chunk_with(CHUNK), breaks=Break("stall", "request", 77)))
    with passage.command.start(*words(passage, spool), "--timeout", "6s") as first:
        assert stalled.reached.wait(30)
        second = passage.command.ok(*words(passage, spool)).result
        assert (second["bytes_spooled"], second["warnings"]) == (0, [])
        done = first.finish()
    assert done.code == 0, str(done)
    passage.check()
    assert [path.name for path in spool.iterdir()] == [LOCK_FILE]


# -- spools that are damaged -----------------------------------------------------------------------------


def flip(spool: Path) -> None:
    with file_in(spool).open("r+b") as file:
        file.seek(data_at(spool) + CHUNK + 5)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def cut(spool: Path) -> None:
    os.truncate(file_in(spool), data_at(spool) + CHUNK + 5)


def spoil_header(spool: Path) -> None:
    with file_in(spool).open("r+b") as file:
        file.write(bytes(8))


def of_nothing(spool: Path) -> None:
    file_in(spool).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "lost"),
    [(flip, BLOCK), (cut, KILL_AT - CHUNK + BLOCK), (spoil_header, LAYER), (of_nothing, LAYER)],
)
def test_damaged_content_alone_is_fetched_again(
    damage: Callable[[Path], None], lost: int, passage: Passage, spool: Path
) -> None:
    run_and_kill(passage, spool)
    damage(spool)
    result = run_again(passage, spool)
    assert result["retries"] == 0
    assert passage.read_again() <= 2 * CHUNK + lost


def test_a_wrong_block_with_a_right_mark_is_found_by_the_digest(
    passage: Passage, spool: Path, tmp_path: Path
) -> None:
    run_and_kill(passage, spool)
    import xxhash

    wrong = bytes(BLOCK)
    with file_in(spool).open("r+b") as file:
        file.seek(data_at(spool) + 7 * BLOCK)
        file.write(wrong)
        file.seek(4096 + 7 * 8)
        file.write(xxhash.xxh3_64_intdigest(wrong, seed=7).to_bytes(8, "little"))
    result = run_again(passage, spool)
    assert result["retries"] == 1
    assert result["bytes_requested"] >= LAYER, "the second try has everything from the source"


# -- spools that cannot be used, or are full -------------------------------------------------------------


@pytest.mark.parametrize("where", ["/proc/nothing/here", "file", "file/below"])
def test_a_folder_that_cannot_be_used_is_named(where: str, passage: Passage, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = passage.command.ok(*words(passage, tmp_path / where)).result
    passage.check()
    (warning,) = result["warnings"]
    assert str(tmp_path / where) in warning
    assert result["bytes_spooled"] == 0


def test_a_spool_that_is_too_small_keeps_the_beginning(passage: Passage, spool: Path) -> None:
    size = ("--spool-size", "8MiB")
    passage.target.add(Fault(passage.chunk_with(3 * CHUNK), times=None, answer=REFUSED))
    result = passage.command.ok(*words(passage, spool), *size).result
    passage.check()
    assert any("--spool-size" in warning for warning in result["warnings"])
    assert 7 * MIB <= result["bytes_spooled"] <= 8 * MIB
    assert passage.read_again() <= LAYER - 7 * MIB


def test_a_spool_on_a_disk_that_fills_up_does_not_end_the_copy(passage: Passage, spool: Path) -> None:
    prefix = (require("prlimit"), f"--fsize={file_size(LAYER) - CHUNK}")
    result = passage.command.ok(*words(passage, spool), prefix=prefix).result
    passage.check()
    assert any(str(spool) in warning for warning in result["warnings"])
    assert [path.name for path in spool.iterdir()] == [LOCK_FILE]


def test_on_a_small_disk_half_of_what_is_free_is_used(passage: Passage, tmp_path: Path) -> None:
    if subprocess.run([require("unshare"), "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may make no mount namespace")
    spool = tmp_path / "disk"
    spool.mkdir()
    script = f'mount -t tmpfs -o size=16m none {shlex.quote(str(spool))} && exec "$@"'
    prefix = (require("unshare"), "-m", "sh", "-c", script, "sh")
    passage.target.add(Fault(passage.chunk_with(3 * CHUNK), times=None, answer=REFUSED))
    result = passage.command.ok(*words(passage, spool), prefix=prefix).result
    passage.check()
    assert any(str(spool) in warning for warning in result["warnings"])
    assert 6 * MIB <= result["bytes_spooled"] <= 8 * MIB
