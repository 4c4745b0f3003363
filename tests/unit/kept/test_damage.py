"""A journal that is damaged, foreign, newer or not writable: a warning that names it, and no wrong row."""

from __future__ import annotations

import os
import random
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.errors import JournalUnavailable
from crossdock.kept.database import FILE, VERSION, JournalDatabase
from unit.kept.rows import (
    CHUNK,
    KEY,
    SECRET,
    SIZE,
    a_journal,
    claim,
    claim_any,
    location_at,
    saved,
    state_at,
    write_chunks,
)

TESTS = Path(__file__).parents[2]


def make(folder: Path) -> bytes:
    """A journal with one row; the bytes of its file."""
    database = JournalDatabase(folder)
    database.write(saved())
    database.close()
    return (folder / FILE).read_bytes()


def run_without_it(folder: Path) -> JournalUnavailable:
    """Use the journal as a copy does. Nothing may be raised; the one warning is returned."""
    with a_journal(folder, may_fail=True) as journal:
        record = claim_any(journal)
        if record is not None:
            with record:
                write_chunks(record, 1, 3)
                record.forget()
        journal.finished("blob", KEY.target, KEY.digest, SIZE)
        assert not journal.is_open
    (warning,) = journal.take_troubles()
    assert str(folder / FILE) in str(warning)
    assert warning.advice
    return warning


def as_directory(path: Path) -> None:
    path.mkdir()


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def as_newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"not a database, but longer than its header is " * 100), "damaged"),
        (lambda path: path.write_bytes(random.Random(3).randbytes(9000)), "damaged"),
        (as_directory, "not a regular file"),
        (as_pipe, "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        (as_other_database, "something else"),
        (as_newer, "newer crossdock"),
    ],
    ids=["garbage", "random", "directory", "pipe", "symlink", "other database", "newer"],
)
def test_a_file_that_is_not_a_journal_is_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes() if (tmp_path / FILE).is_file() else b""
    warning = run_without_it(tmp_path)
    assert words in str(warning)
    if before:
        assert (tmp_path / FILE).read_bytes() == before


def test_the_advice_about_a_damaged_file_removes_it(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    (folder / FILE).write_bytes(b"garbage" * 1000)
    command = str(run_without_it(folder).advice).partition(": ")[2]
    assert shlex.split(command)[0] == "rm"
    subprocess.run(["sh", "-c", command], check=True)
    with a_journal(folder) as journal:
        claim(journal).close()


def test_an_empty_file_is_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is None
        write_chunks(record, 1, 1)


@pytest.mark.parametrize("where", ["a file", "below a file", "nowhere to be made", "no name"])
def test_a_folder_that_cannot_be_is_a_warning(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    run_without_it(
        {
            "a file": tmp_path / "file",
            "below a file": tmp_path / "file" / "state",
            "nowhere to be made": Path("/proc/crossdock/state"),
            "no name": Path("/a\0b"),
        }[where]
    )


@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_that_is_read_only_is_a_warning(tmp_path: Path, existing: bool) -> None:
    if existing:
        make(tmp_path)
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere (root)")
    try:
        run_without_it(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def rows_after(folder: Path) -> None:
    """Open and use a damaged journal: it returns rows as written, or nothing."""
    try:
        database = JournalDatabase(folder)
    except JournalUnavailable:
        return
    try:
        assert database.uploads() in ([], [saved()])
        assert database.read(KEY) in (None, saved())
        later = saved(
            acknowledged=3 * CHUNK, location=location_at(3 * CHUNK), states={3 * CHUNK: state_at(3 * CHUNK)}
        )
        database.write(later)
        assert database.read(KEY) in (None, later)
        assert all(upload in (saved(), later) for upload in database.uploads())
        database.delete(KEY)
        assert database.read(KEY) is None
    except JournalUnavailable:
        pass
    finally:
        database.close()


def remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_a_truncated_file_gives_its_row_or_nothing(tmp_path: Path) -> None:
    whole = make(tmp_path)
    for size in {*range(0, len(whole), 509), 1, 99, 100, 101, len(whole) - 1}:
        remove_all(tmp_path)
        (tmp_path / FILE).write_bytes(whole[:size])
        rows_after(tmp_path)


def test_flipped_bits_give_the_row_or_nothing(tmp_path: Path) -> None:
    whole = make(tmp_path)
    row = whole.index(SECRET.encode())
    chance = random.Random(11)
    places = [*range(0, 110, 7), *range(row - 350, row + 250, 9), *chance.sample(range(len(whole)), 40)]
    for place in places:
        remove_all(tmp_path)
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << chance.randrange(8)
        (tmp_path / FILE).write_bytes(spoilt)
        rows_after(tmp_path)


def test_a_damaged_log_gives_an_older_row_or_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    written = []
    database = JournalDatabase(folder)
    for number in range(2, 7):
        written.append(saved(acknowledged=number * CHUNK, location=location_at(number)))
        database.write(written[-1])
    files = {path.name: path.read_bytes() for path in folder.iterdir()}  # as a kill would leave them
    database.close()
    log = files[f"{FILE}-wal"]
    chance = random.Random(7)
    for place in chance.sample(range(len(log)), 40):
        remove_all(folder)
        spoilt = bytearray(log)
        spoilt[place] ^= 1 << chance.randrange(8)
        for name, data in {**files, f"{FILE}-wal": bytes(spoilt)}.items():
            if not name.endswith("-shm"):  # it is lost with the machine, and rebuilt
                (folder / name).write_bytes(data)
        try:
            database = JournalDatabase(folder)
        except JournalUnavailable:
            continue
        assert database.read(KEY) in (None, *written)
        database.close()


FILLING = f"""
import resource, signal, sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from unit.kept.rows import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with a_journal(Path(sys.argv[1]), may_fail=True) as journal:
    record = claim(journal)
    write_chunks(record, 1, 3)
    size = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    for number in range(4, 90):
        write_chunks(record, number, number)
    journal.finished("blob", KEY.target, KEY.digest, SIZE)
    record.close()
    assert not journal.is_open
(warning,) = journal.take_troubles()
print(warning)
"""


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_full_disk_ends_in_a_warning_and_the_last_whole_row_stays(tmp_path: Path, size: int) -> None:
    # The limit on file sizes stands for the disk: both end a write in the middle.
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path), str(size)], capture_output=True, text=True, check=True
    )
    assert str(tmp_path / FILE) in done.stdout
    with a_journal(tmp_path) as journal, claim(journal) as record:
        assert record.saved is not None
        assert record.saved.acknowledged >= 3 * CHUNK
        assert record.saved.location == location_at(record.saved.acknowledged)


def test_a_file_that_was_removed_meanwhile_fails_nothing(tmp_path: Path) -> None:
    with a_journal(tmp_path, may_fail=True) as journal, claim(journal) as record:
        write_chunks(record, 1, 1)
        remove_all(tmp_path)
        write_chunks(record, 2, 3)
        record.forget()


def test_no_message_holds_a_location(tmp_path: Path) -> None:
    make(tmp_path)
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("DROP TABLE upload")
    connection.execute("CREATE TABLE upload (registry, repository, digest, updated)")
    connection.close()
    warning = run_without_it(tmp_path)
    assert "damaged" in str(warning)
    assert SECRET not in f"{warning!r} {warning} {warning.advice!s}"


def test_rows_of_other_types_than_were_written_are_left_out(tmp_path: Path) -> None:
    """One bit of a record's header makes a blob of a text; SQLite finds nothing wrong with that."""
    make(tmp_path)
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("UPDATE upload SET registry = CAST(registry AS BLOB)")
    columns = "(run, kind, target, digest, size, at)"
    connection.execute(f"INSERT INTO finished {columns} VALUES (x'00', 'blob', 't', 'd', 1, 1.0)")
    connection.execute(f"INSERT INTO finished {columns} VALUES ('r', 'blob', 't', 'd', 1, 1e300)")
    connection.commit()
    connection.close()
    database = JournalDatabase(tmp_path)
    assert (database.uploads(), database.finished()) == ([], [])
    assert database.prune(1e9).removed == 0
    database.close()
