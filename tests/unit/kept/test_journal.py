"""The journal as a copy uses it, in one process."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from crossdock.errors import JournalUnavailable
from crossdock.kept import keeper
from crossdock.kept.database import FILE, JournalDatabase, open_existing
from crossdock.kept.journal import BUSY_AT_MOST, RETRY_AFTER_S, Journal
from crossdock.kept.keeper import EXPIRY_S
from crossdock.kept.uploads import SAVED_STATES, UploadKey
from unit.kept.rows import (
    CHUNK,
    KEY,
    SIZE,
    SOURCE,
    a_journal,
    claim,
    claim_any,
    is_state_at,
    last_state,
    location_at,
    state_at,
    write_chunks,
)


def test_acknowledged_bytes_are_found_by_the_next_process(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is None
        assert not record.can_resume
        write_chunks(record, 1, 3)
        assert record.can_resume
    with a_journal(tmp_path) as journal, claim(journal) as record:
        found = record.saved
        assert record.can_resume
    assert found is not None
    assert (found.acknowledged, found.location, found.source) == (3 * CHUNK, location_at(3 * CHUNK), SOURCE)
    assert (found.size, found.chunk_size, found.trust_range, found.pid) == (SIZE, CHUNK, True, os.getpid())
    offset, state = last_state(found)
    assert offset == 3 * CHUNK
    assert is_state_at(state, offset)


def test_a_session_that_holds_nothing_yet_is_kept_too(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        record.opened(location_at(0), CHUNK, trust_range=False)
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is not None
        assert (record.saved.acknowledged, record.saved.states, record.saved.trust_range) == (0, {}, False)


def test_only_the_last_states_are_kept(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, SAVED_STATES + 5)
        assert record.saved is not None
        assert tuple(record.saved.states) == tuple(n * CHUNK for n in range(6, SAVED_STATES + 6))


def test_an_offset_without_a_state_keeps_the_states_before_it(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 2)
        record.acknowledged(250, location_at(250), None, CHUNK)
        assert record.saved is not None
        assert (record.saved.acknowledged, tuple(record.saved.states)) == (250, (CHUNK, 2 * CHUNK))


def test_an_upload_that_went_back_forgets_the_states_ahead_of_it(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 5)
        record.acknowledged(2 * CHUNK, location_at(2), state_at(2 * CHUNK), CHUNK)
        assert record.saved is not None
        assert tuple(record.saved.states) == (CHUNK, 2 * CHUNK)
        record.acknowledged(CHUNK, location_at(1), None, CHUNK)
        assert tuple(record.saved.states) == (CHUNK,)


def test_a_new_session_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 3)
        record.opened("https://registry.example:5000/new", CHUNK)
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is not None
        assert (record.saved.location, record.saved.acknowledged) == ("https://registry.example:5000/new", 0)
        assert record.saved.states == {}


def test_forgotten_runs_are_gone(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 3)
        record.forget()
        assert not record.can_resume
        assert record.saved is None
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is None


def test_a_row_of_another_size_is_not_this_blob(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 3)
    with a_journal(tmp_path) as journal:
        for size in (SIZE + 1, CHUNK):
            record = claim_any(journal, size=size)
            assert record is not None
            assert record.saved is None
            record.close()


def test_one_copy_at_a_time_has_a_row_and_another_blob_is_free(tmp_path: Path) -> None:
    other = UploadKey(KEY.registry, "team/other", KEY.digest)
    with a_journal(tmp_path) as journal, a_journal(tmp_path) as second:
        record = claim(journal)
        assert claim_any(journal) is None  # inside one journal …
        assert claim_any(second) is None  # … and between two
        claim(second, other).close()
        record.close()
        record.close()
        claim(second).close()


def test_rows_that_no_registry_honours_any_more_are_removed_at_the_next_start(tmp_path: Path) -> None:
    others = [UploadKey(KEY.registry, f"team/{n}", KEY.digest) for n in range(2)]
    with a_journal(tmp_path, clock=lambda: 1000.0) as journal:
        held = claim(journal, others[0])
        for record in (claim(journal), held):
            write_chunks(record, 1, 1)
            if record is not held:
                record.close()
        with a_journal(tmp_path, clock=lambda: 1000.0 + EXPIRY_S) as later:
            claim(later, others[1]).close()
            assert len(later.database.uploads()) == 2
        with a_journal(tmp_path, clock=lambda: 1001.0 + EXPIRY_S) as later:
            claim(later, others[1]).close()
            assert [row.key for row in later.database.uploads()] == [others[0]]  # a running copy has it
        held.close()


def test_results_of_a_run_are_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossdock.kept.database.FINISHED_ROWS", 3)
    with a_journal(tmp_path, clock=lambda: 5.0) as journal:
        journal.finished("blob", KEY.target, KEY.digest, 1)  # before the file is open: not noted
        claim(journal).close()
        for size in range(10, 15):
            journal.finished("manifest" if size == 14 else "blob", KEY.target, KEY.digest, size)
        done = journal.database.finished()
    assert [each.size for each in done] == [12, 13, 14]
    assert [each.kind for each in done] == ["blob", "blob", "manifest"]
    assert len({each.run for each in done}) == 1
    assert (done[0].target, done[0].digest, done[0].at) == (KEY.target, KEY.digest, 5.0)


def test_nothing_is_made_before_the_first_claim(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    with a_journal(folder) as journal:
        assert not folder.exists()
        claim(journal).close()
        assert folder.exists()


def test_folders_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    before = os.umask(0)
    try:
        with a_journal(folder) as journal, claim(journal) as record:
            write_chunks(record, 1, 1)
            files = list(folder.iterdir())
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys((FILE, f"{FILE}-wal", f"{FILE}-shm", "uploads.lock"), 0o600)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        claim(journal).close()
    (tmp_path / FILE).chmod(0o644)
    with a_journal(tmp_path) as journal:
        claim(journal).close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% #?ü ' \udcff"
    with a_journal(folder) as journal, claim(journal) as record:
        write_chunks(record, 1, 2)
    with a_journal(folder) as journal, claim(journal) as record:
        assert record.saved is not None


def test_a_lock_on_the_file_is_waited_out_and_the_next_write_holds_everything(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal, claim(journal) as record:
        write_chunks(record, 1, 1)
        blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        write_chunks(record, 2, 2)
        blocker.execute("ROLLBACK")
        blocker.close()
        with a_journal(tmp_path) as reader:
            claim(reader, UploadKey("other", "a", KEY.digest)).close()
            assert [row.acknowledged for row in reader.database.uploads()] == [CHUNK]
            write_chunks(record, 3, 3)
            assert [row.acknowledged for row in reader.database.uploads()] == [3 * CHUNK]
            assert tuple(reader.database.uploads()[0].states) == (CHUNK, 2 * CHUNK, 3 * CHUNK)


def test_a_lock_that_stays_switches_the_journal_off_with_one_warning(tmp_path: Path) -> None:
    with a_journal(tmp_path, may_fail=True) as journal, claim(journal) as record:
        write_chunks(record, 1, 1)
        blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        write_chunks(record, 2, BUSY_AT_MOST + 3)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert not journal.is_open
        assert not record.can_resume
        record.forget()
    (warning,) = journal.take_troubles()
    assert str(tmp_path / FILE) in str(warning)
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is not None
        assert record.saved.acknowledged == CHUNK


def test_a_lock_while_opening_ends_in_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossdock.kept.sqlitefile.OPEN_TIMEOUT_S", 0.01)
    with a_journal(tmp_path) as journal:
        claim(journal).close()
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    with a_journal(tmp_path, may_fail=True) as journal:
        assert claim_any(journal) is None
    blocker.close()
    assert [warning.busy for warning in journal.take_troubles()] == [True]


def test_looking_at_a_journal_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    assert open_existing(tmp_path / "state") is None
    assert list(tmp_path.iterdir()) == []


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = JournalDatabase(tmp_path)
    database.close()
    database.close()
    with pytest.raises(JournalUnavailable, match="it is closed"):
        database.uploads()


def test_whether_a_row_is_in_use_is_seen_without_taking_it(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        record = claim(journal)
        assert journal.database.in_use(KEY)
        record.close()
        assert not journal.database.in_use(KEY)
        claim(journal).close()


def test_a_journal_that_went_off_is_retried_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])
    folder = tmp_path / "state"
    folder.write_text("in the way")
    journal = Journal.at(folder)
    assert journal.claim(KEY.target, KEY.digest, 1, "s") is None
    (trouble,) = journal.take_troubles()
    assert "cannot be used" in str(trouble)
    folder.unlink()
    assert journal.claim(KEY.target, KEY.digest, 1, "s") is None
    now[0] = RETRY_AFTER_S
    record = journal.claim(KEY.target, KEY.digest, 1, "s")
    assert record is not None
    assert journal.take_troubles() == []
    record.close()
    journal.close()
    now[0] *= 9
    assert journal.claim(KEY.target, KEY.digest, 1, "s") is None  # closed is closed
