"""Interrupted copies: leftovers, messages, requests on resume; unusable and wrong journals."""

from __future__ import annotations

import json
import shlex
import signal
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossdock.kept.database import FILE, JournalDatabase
from crossdock.kept.uploads import SavedUpload
from crossdock_testing.faults import Break, Fault, error
from support.command import CANCELLED, SOURCE, TARGET, Finished
from support.faults import wait_set
from support.interrupted import (
    CHUNK,
    KINDS,
    LAYER,
    RESUMING,
    TO_THE_BYTE,
    Passage,
)
from support.process import require
from support.push import Remote

pytestmark = pytest.mark.real


@pytest.fixture
def kind() -> str:
    """The default target of tests."""
    return "embedded"


def stop_between_chunks(passage: Passage, offset: int = 3 * CHUNK) -> Finished:
    """Run the copy until the target fails for good before the chunk at `offset`."""
    passage.target.add(Fault(passage.chunk_with(offset), times=None, answer=error(503)))
    done = passage.command(*passage.words, "--retries", "0")
    assert done.code == TARGET, str(done)
    passage.target.faults.clear()
    return done


def run_again(passage: Passage) -> dict[str, object]:
    """The copy, which must succeed; its result."""
    result: dict[str, object] = passage.command.ok(*passage.words).result
    passage.check()
    return result


def paste(passage: Passage, done: Finished) -> dict[str, Any]:
    """Run the command that the copy printed at its end, in a shell; returns its result."""
    pasted = done.error.partition("run again: crossdock ")[2].partition(" (")[0]
    result = passage.command.ok(*shlex.split(pasted)).result
    passage.check()
    return result


def saved(passage: Passage) -> list[SavedUpload]:
    """The rows of the journal."""
    database = JournalDatabase(passage.state)
    try:
        return database.uploads()
    finally:
        database.close()


def overwrite(passage: Passage, row: SavedUpload) -> None:
    """Put a row into the journal."""
    database = JournalDatabase(passage.state)
    try:
        database.write(row)
    finally:
        database.close()


# -- failures and signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_copy_keeps_its_session_and_says_what_to_paste(kind: str, passage: Passage) -> None:
    done = stop_between_chunks(passage)
    assert "12.0 MiB of 22.0 MiB" in done.error
    result = paste(passage, done)
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (1, 3 * CHUNK)
    assert result["bytes_moved"] >= LAYER
    passage.check()
    assert passage.sent_again() == 0
    assert passage.target.count(lambda seen: seen.method == "DELETE") == 0
    assert saved(passage) == []


def test_state_list_shows_what_was_kept(passage: Passage) -> None:
    stop_between_chunks(passage)
    listed = passage.command.ok("state", "list", "--state", passage.state, "--output", "json").result
    (upload,) = listed["uploads"]
    assert upload["target"] == f"{passage.target.host}/{passage.repository}"
    assert (upload["digest"], upload["offset"], upload["size"]) == (passage.layer, 3 * CHUNK, LAYER)
    assert not upload["in_use"]
    for file in passage.state.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_source_that_fails_for_good_leaves_the_session_too(passage: Passage) -> None:
    passage.source.add(
        Fault(
            lambda seen: seen.is_blob_get(passage.layer) and not seen.range.startswith("bytes=0-"),
            times=None,
            answer=error(500),
        )
    )
    done = passage.command(*passage.words, "--retries", "0", "--chunk-size", "4MiB")
    assert done.code == SOURCE, str(done)
    assert "to resume at" in done.error
    passage.source.faults.clear()
    assert run_again(passage)["uploads_resumed"] == 1
    assert passage.sent_again() <= CHUNK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_lets_the_chunk_end_and_the_copy_resumes_later(
    kind: str, number: signal.Signals, passage: Passage
) -> None:
    in_chunk = Fault(passage.chunk_with(2 * CHUNK), rate=2 * CHUNK)
    passage.target.add(in_chunk)
    with passage.start() as running:
        wait_set(in_chunk.reached, "the third chunk")
        running.interrupt(number)
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    assert "cancelled" in done.error
    assert "to resume at 12.0 MiB of 22.0 MiB, run again: crossdock copy" in done.error
    result = paste(passage, done)
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (1, 3 * CHUNK)
    assert passage.sent_again() == 0


@pytest.mark.parametrize("kind", TO_THE_BYTE)
def test_a_signal_does_not_wait_for_ever_for_a_chunk(kind: str, passage: Passage) -> None:
    stalled = passage.target.add(Fault(passage.chunk_with(2 * CHUNK), breaks=Break("stall", "request", 77)))
    with passage.start() as running:
        wait_set(stalled.reached, "the third chunk")
        running.interrupt()
        done = running.finish()
    assert done.code == CANCELLED, str(done)
    passage.target.close()


def test_a_later_signal_ends_at_once(passage: Passage) -> None:
    stalled = passage.target.add(Fault(passage.chunk_with(2 * CHUNK), breaks=Break("stall", "request", 77)))
    with passage.start() as running:
        wait_set(stalled.reached, "the third chunk")
        running.interrupt()
        done = running.insist(signal.SIGTERM)
    assert done.code == CANCELLED, str(done)


def test_a_session_that_is_gone_is_announced_and_restarted(passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    reply = Remote(passage.target.upstream).request("DELETE", row.location)
    assert reply.status == 204
    result = run_again(passage)
    (warning,) = result["warnings"]  # type: ignore[misc]
    assert "starts again at byte 0" in warning
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (0, 0)
    assert saved(passage) == []


# -- a list of copies ----------------------------------------------------------------------------------


def test_copies_of_a_list_resume_too(passage: Passage, tmp_path: Path) -> None:
    stop_between_chunks(passage)
    source, target = passage.references
    pairs = tmp_path / "list"
    pairs.write_text(f"{source} {target}\n{source} {target.replace('v1', 'v2')}\n")
    done = passage.command.ok(
        *("copy", "--from-file", pairs, "--state", passage.state, *RESUMING),
        *("--output", "json", "--progress", "none"),
    )
    assert done.result["totals"]["uploads_resumed"] == 1
    assert done.result["totals"]["bytes_resumed"] == 3 * CHUNK
    passage.check()


# -- journals that cannot be used ----------------------------------------------------------------------


def test_without_state_nothing_is_written_and_no_session_stays(passage: Passage) -> None:
    passage.target.add(Fault(passage.chunk_with(3 * CHUNK), times=None, answer=error(503)))
    words = ("copy", *passage.references, *RESUMING, "--state", "none", "--progress", "none")
    done = passage.command(*words, "--retries", "0")
    assert done.code == TARGET, str(done)
    assert "to resume" not in done.error
    assert list(passage.command.home.iterdir()) == []
    opened = passage.target.count(lambda seen: seen.is_upload_start())
    deleted = passage.target.count(lambda seen: seen.method == "DELETE")
    assert deleted == opened == 1 or deleted >= 1
    passage.target.faults.clear()
    passage.command.ok(*words)
    passage.check()
    assert list(passage.command.home.iterdir()) == []


def test_the_default_journal_is_in_xdg_state_home(passage: Passage, tmp_path: Path) -> None:
    passage.target.add(Fault(passage.chunk_with(CHUNK), times=None, answer=error(503)))
    words = ("copy", *passage.references, *RESUMING, "--progress", "none")
    environment = {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    assert passage.command(*words, "--retries", "0", env=environment).code == TARGET
    assert (tmp_path / "xdg" / "crossdock" / FILE).exists()
    passage.target.faults.clear()
    result = passage.command.ok(*words, "--output", "json", env=environment).result
    assert result["uploads_resumed"] == 1


def spoil_by_bytes(state: Path) -> None:
    (state / FILE).write_bytes(b"this is no database, and it never was" * 1000)
    for name in (f"{FILE}-wal", f"{FILE}-shm"):
        (state / name).unlink(missing_ok=True)


def spoil_by_version(state: Path) -> None:
    with sqlite3.connect(state / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(("spoil", "word"), [(spoil_by_bytes, "damaged"), (spoil_by_version, "newer")])
def test_a_journal_that_cannot_be_read_is_named_and_left_alone(
    spoil: object, word: str, passage: Passage
) -> None:
    stop_between_chunks(passage)
    assert callable(spoil)
    spoil(passage.state)
    result = run_again(passage)
    (warning,) = result["warnings"]  # type: ignore[misc]
    assert str(passage.state / FILE) in warning
    assert word in warning
    assert result["uploads_resumed"] == 0


@pytest.mark.parametrize("state", ["/proc/nothing/here", "file", "file/below"])
def test_a_folder_that_cannot_be_used_is_named(state: str, passage: Passage, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    passage.state = tmp_path / state  # an absolute path stays what it is
    result = run_again(passage)
    (warning,) = result["warnings"]  # type: ignore[misc]
    assert str(passage.state) in warning


def test_a_chosen_folder_that_cannot_be_used_is_named_for_small_blobs_too(
    passage: Passage, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    words = ("copy", *passage.references, "--state", tmp_path / "file")
    done = passage.command.ok(*words, "--progress", "plain")
    assert f"warning: the journal {tmp_path / 'file'}" in done.stderr


def test_a_journal_that_may_not_grow_does_not_end_the_copy(passage: Passage) -> None:
    prefix = (require("prlimit"), "--fsize=8192")
    result = passage.command.ok(*passage.words, prefix=prefix).result
    passage.check()
    (warning,) = result["warnings"]
    assert str(passage.state / FILE) in warning


@pytest.mark.parametrize("free_kib", [0, 24, 64])
def test_a_journal_on_a_full_disk_does_not_end_the_copy(free_kib: int, passage: Passage) -> None:
    if subprocess.run([require("unshare"), "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may make no mount namespace")
    passage.state.mkdir()
    state = shlex.quote(str(passage.state))
    script = (
        f"mount -t tmpfs -o size=128k none {state} && head -c {128 - free_kib}k /dev/zero > {state}/other;"
        ' exec "$@"'
    )
    prefix = (require("unshare"), "-m", "sh", "-c", script, "sh")
    result = passage.command.ok(*passage.words, prefix=prefix).result
    passage.check()
    (warning,) = result["warnings"]
    assert str(passage.state / FILE) in warning
    assert "no space is left" in warning.lower() or "No space left" in warning


def test_two_processes_that_copy_the_same_blob_both_succeed(passage: Passage) -> None:
    stalled = passage.target.add(Fault(passage.chunk_with(CHUNK), breaks=Break("stall", "request", 77)))
    with passage.command.start(*passage.words, "--timeout", "6s") as first:
        wait_set(stalled.reached, "the first to be on its way")
        second = passage.command.ok(*passage.words).result
        assert (second["uploads_resumed"], second["warnings"]) == (0, [])
        assert second["bytes_moved"] >= LAYER, "the second has the blob moved by itself"
        done = first.finish()
    assert done.code == 0, str(done)
    passage.check()
    assert saved(passage) == []


# -- journals and sessions that lie --------------------------------------------------------------------


def test_a_session_with_other_bytes_than_ours_is_refused_and_restarted(passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    start = row.acknowledged
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"{start}-{start + 999}",
        "Content-Length": "1000",
    }
    reply = Remote(passage.target.upstream).request("PATCH", row.location, bytes(1000), headers)
    assert reply.status == 202
    result = run_again(passage)
    assert result["retries"] == 1
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (0, 0)


def test_a_state_of_other_bytes_is_found_out_and_the_blob_restarted(passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    wrong = {offset: bytearray(state) for offset, state in row.states.items()}
    for state in wrong.values():
        state[-20] ^= 1
    overwrite(passage, replace(row, states={offset: bytes(state) for offset, state in wrong.items()}))
    (kept,) = saved(passage)
    result = run_again(passage)
    if kept.states:  # else the kernel saw that they are none
        assert result["retries"] == 1
        assert result["uploads_resumed"] == 0


def test_the_session_of_another_blob_is_refused_and_the_blob_restarted(passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    remote = Remote(passage.target.upstream)
    other = remote.request("POST", f"/v2/{passage.repository}/blobs/uploads/", b"").headers["location"]
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"0-{row.acknowledged - 1}",
        "Content-Length": str(row.acknowledged),
    }
    assert remote.request("PATCH", other, bytes(row.acknowledged), headers).status == 202
    location = row.location.partition("/v2/")[0] + "/v2/" + other.partition("/v2/")[2]
    overwrite(passage, replace(row, location=location))
    result = run_again(passage)
    assert result["retries"] == 1


YEAR = 365.25 * 24 * 3600


@pytest.mark.parametrize("years", [-60, -1, 1, 1000], ids=lambda years: f"{years} years")
def test_a_clock_that_jumped_costs_at_most_the_resumption(years: int, passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    then = row.updated + years * YEAR
    overwrite(passage, replace(row, created=then, updated=then))
    for action in ("list", "show"):
        shown = passage.command.ok("state", action, "--state", passage.state, "--output", "json").result
        assert [upload["digest"] for upload in shown["uploads"]] == [passage.layer]
        passage.command.ok("state", action, "--state", passage.state)
    passage.command.ok("state", "prune", "--older-than", "100000d", "--state", passage.state)
    result = run_again(passage)
    assert result["uploads_resumed"] == (1 if years > 0 else 0), "a row seems old, or of the future"
    assert saved(passage) == []


def test_a_location_that_is_none_is_not_asked(passage: Passage) -> None:
    stop_between_chunks(passage)
    (row,) = saved(passage)
    overwrite(passage, replace(row, location="ftp://127.0.0.1/uploads/1"))
    result = run_again(passage)
    assert result["uploads_resumed"] == 0
    assert "not a usable URL" in json.dumps(result["warnings"])


def test_an_upload_resumes_with_another_chunk_size(passage: Passage) -> None:
    stop_between_chunks(passage)
    words = [word.replace("4MiB", "3MiB") for word in passage.words]
    result = passage.command.ok(*words).result
    passage.check()
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (1, 3 * CHUNK)
