"""Real processes that are killed, and that want the same rows at the same time."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from crossdock.kept.database import FILE, JournalDatabase
from unit.kept.rows import CHUNK, SIZE, a_journal, claim, claim_any, is_state_at, last_state, location_at

TESTS = Path(__file__).parents[2]

START = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from unit.kept.rows import *
folder = Path(sys.argv[1])
"""

# Acknowledges offset after offset for ever, and tells each when its call has returned.
WRITER = f"""{START}
with a_journal(folder) as journal, claim(journal) as record:
    start = record.saved.acknowledged // CHUNK if record.saved else 0
    while True:
        for number in range(start + 1, SIZE // CHUNK + 1):
            write_chunks(record, number, number)
            os.write(1, number.to_bytes(4, "big"))
        start = 0
"""

# The same through a journal that is opened and closed for each, so that kills fall into that as well.
OPENER = f"""{START}
while True:
    with a_journal(folder) as journal, claim(journal) as record:
        number = record.saved.acknowledged // CHUNK if record.saved else 0
        number = number + 1 if number < SIZE // CHUNK else 1
        write_chunks(record, number, number)
    os.write(1, number.to_bytes(4, "big"))
"""


def run_and_kill(program: str, folder: Path, count: int) -> Iterator[int]:
    """The output of the program, which is killed before it continues after `count` numbers."""
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        told = process.stdout.read(4 * count)
        assert len(told) == 4 * count, "the program ended by itself"
        process.kill()
        told += process.stdout.read()
    process.wait()
    for (number,) in struct.iter_unpack(">I", told[: len(told) // 4 * 4]):
        yield number


def test_a_killed_writer_leaves_its_last_row_whole_and_its_lock_free(tmp_path: Path) -> None:
    chance = random.Random(1)
    for round_ in range(10):
        program, most = ((WRITER, 60), (OPENER, 9))[round_ % 2]
        last = list(run_and_kill(program, tmp_path, chance.randint(1, most)))[-1]
        with a_journal(tmp_path) as journal, claim(journal) as record:
            found = record.saved
        assert found is not None
        number, rest = divmod(found.acknowledged, CHUNK)
        # What was told is there. What came after it may be: the next row, or the session that follows.
        assert rest == 0
        assert number in (last, last + 1, 0 if last == SIZE // CHUNK else last, 1)
        assert number >= last or last == SIZE // CHUNK
        assert found.location == location_at(found.acknowledged)
        if number:
            offset, state = last_state(found)
            assert offset == found.acknowledged
            assert is_state_at(state, offset)


def test_a_kill_while_the_journal_is_made_leaves_one_that_opens(tmp_path: Path) -> None:
    told = (
        f"{START}os.write(1, bytes(4))\nwith a_journal(folder) as journal:\n    claim(journal)\n    input()\n"
    )
    for round_ in range(6):
        folder = tmp_path / str(round_)
        list(run_and_kill(told, folder, 1))  # killed somewhere between its first word and a whole journal
        with a_journal(folder) as journal:
            claim(journal).close()


# Adds one chunk at a time to each of several rows, and is sure to be alone while it has one.
CONTENDER = f"""{START}
import random
from crossdock.kept.uploads import UploadKey
chance = random.Random(int(sys.argv[2]))
keys = [UploadKey("registry.example", f"team/{{n}}", KEY.digest) for n in range(3)]
added = refused = 0
while added < 60:
    with a_journal(folder) as journal:
        for key in chance.sample(keys, len(keys)):
            record = claim_any(journal, key)
            assert journal.is_open
            if record is None:
                refused += 1
                continue
            alone = folder / f"alone-{{key.repository[5:]}}"
            os.close(os.open(alone, os.O_CREAT | os.O_EXCL))
            with record:
                done = record.saved.acknowledged // CHUNK if record.saved else 0
                write_chunks(record, done + 1, done + 1)
                row = journal.database.read(key)  # as before, when the file was locked for too long
                added += row is not None and row.acknowledged == (done + 1) * CHUNK
                alone.unlink()
print(added, refused)
"""


def test_processes_that_want_the_same_rows_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    tmp_path.joinpath("state").mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(tmp_path / "state"), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    added = 0
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        added += int(out.split()[0])
    database = JournalDatabase(tmp_path / "state")
    try:
        assert sum(upload.acknowledged for upload in database.uploads()) == added * CHUNK
    finally:
        database.close()


def test_a_copy_of_a_killed_process_finds_the_row_while_another_blob_is_in_use(tmp_path: Path) -> None:
    list(run_and_kill(WRITER, tmp_path, 3))
    assert (tmp_path / FILE).exists()
    with a_journal(tmp_path) as journal, claim(journal) as record, a_journal(tmp_path) as second:
        assert record.saved is not None
        assert claim_any(second) is None
