"""Kept bytes of a blob are read back as written, or not at all; the folder's limits, locks and modes."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import Advice
from crossdock.kept.keeper import EXPIRY_S
from crossdock.kept.spool import Spool, SpooledBlob
from crossdock.kept.spoolfile import BLOCK, file_size, room_in
from crossdock.kept.spoolfolder import LEAST_ROOM, LOCK_FILE, SUFFIX, SpoolFolder, open_existing

SIZE = 40 * BLOCK + 777
DATA = random.Random(3).randbytes(SIZE)
DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
CAP = 1 << 30


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool that does not exist yet; a test takes the troubles that it expects."""
    spool = Spool(tmp_path / "spool", CAP)
    yield spool
    assert spool.take_troubles() == []


def claim(spool: Spool, digest: str = DIGEST, size: int = SIZE) -> SpooledBlob:
    blob = spool.claim(digest, size)
    assert blob is not None
    return blob


def put(blob: SpooledBlob, data: bytes = DATA, *cuts: int) -> None:
    """Write everything, in pieces that end at `cuts`."""
    stops = [*cuts, len(data)]
    for start, stop in zip([0, *cuts], stops, strict=True):
        blob.write(start, memoryview(data)[start:stop])


def get(blob: SpooledBlob, offset: int, size: int = SIZE) -> bytes:
    """The bytes from `offset` on."""
    into = bytearray(size)
    return bytes(into[: blob.read(offset, memoryview(into))])


def file_of(folder: Path, digest: str = DIGEST) -> Path:
    return folder / "spool" / (digest.replace(":", "-") + SUFFIX)


def data_at(size: int = SIZE) -> int:
    return file_size(size) - size


def kept_by(spool: Spool) -> None:
    """A process has kept all of it, and ended."""
    blob = claim(spool)
    put(blob)
    blob.close()


# -- bytes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (BLOCK,), (1, 2, BLOCK - 1, BLOCK + 1, 9 * BLOCK + 5), (SIZE - 1,)])
def test_written_entries_are_found_by_the_next_process(spool: Spool, cuts: tuple[int, ...]) -> None:
    blob = claim(spool)
    assert (blob.kept, blob.next_kept(0)) == (0, SIZE)
    put(blob, DATA, *cuts)
    blob.close()
    blob = claim(spool)
    assert blob.kept == SIZE
    assert get(blob, 0) == DATA
    assert get(blob, 40 * BLOCK) == DATA[40 * BLOCK :]
    blob.close()


def test_a_block_counts_when_its_last_byte_is_here(spool: Spool) -> None:
    blob = claim(spool)
    blob.write(0, memoryview(DATA)[: 2 * BLOCK - 1])
    assert (blob.kept, blob.has(BLOCK - 1), blob.has(BLOCK)) == (BLOCK, True, False)
    blob.write(2 * BLOCK - 1, memoryview(DATA)[2 * BLOCK - 1 : 2 * BLOCK])
    assert blob.kept == 2 * BLOCK
    blob.close()


def test_a_block_without_its_beginning_is_not_kept(spool: Spool) -> None:
    blob = claim(spool)
    blob.write(BLOCK // 2, memoryview(DATA)[BLOCK // 2 : 3 * BLOCK])
    assert (blob.next_kept(0), blob.kept) == (BLOCK, 2 * BLOCK)
    blob.write(5 * BLOCK, memoryview(DATA)[5 * BLOCK : 5 * BLOCK + 10])
    blob.write(5 * BLOCK + 11, memoryview(DATA)[5 * BLOCK + 11 : 6 * BLOCK])  # a byte is missing
    assert not blob.has(5 * BLOCK)
    assert get(blob, BLOCK) == DATA[BLOCK : 3 * BLOCK]
    blob.close()


@pytest.mark.parametrize("place", ["data", "mark", "last byte"])
def test_a_flipped_bit_takes_its_block_and_no_other(spool: Spool, tmp_path: Path, place: str) -> None:
    kept_by(spool)
    at = {"data": data_at() + 7 * BLOCK + 5, "mark": 4096 + 7 * 8, "last byte": file_size(SIZE) - 1}[place]
    with file_of(tmp_path).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))
    blob = claim(spool)
    damaged = 40 if place == "last byte" else 7
    assert get(blob, 0) == DATA[: damaged * BLOCK]
    assert not blob.has(damaged * BLOCK)
    assert blob.next_kept(damaged * BLOCK) == min(SIZE, (damaged + 1) * BLOCK)
    put(blob)
    assert get(blob, 0) == DATA
    blob.close()


@pytest.mark.parametrize("length", [0, 10, 4096, 4096 + 100, data_at() + 10 * BLOCK + 1, file_size(SIZE) - 1])
def test_a_file_that_was_cut_gives_what_is_left(spool: Spool, tmp_path: Path, length: int) -> None:
    kept_by(spool)
    os.truncate(file_of(tmp_path), length)
    blob = claim(spool)
    whole = max(0, length - data_at()) // BLOCK * BLOCK
    assert get(blob, 0) == DATA[:whole]
    put(blob)
    assert get(blob, 0) == DATA
    blob.close()
    assert file_of(tmp_path).stat().st_size == file_size(SIZE)


def test_damage_anywhere_never_gives_a_wrong_byte(spool: Spool, tmp_path: Path) -> None:
    kept_by(spool)
    whole = file_of(tmp_path).read_bytes()
    chance = random.Random(11)
    for _ in range(60):
        spoilt = bytearray(whole)
        start = chance.choice([0, 4096, data_at()]) + chance.randrange(300)
        spoilt[start : start + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(1, 9))
        file_of(tmp_path).write_bytes(spoilt)
        blob = claim(spool)
        given = get(blob, 0)
        assert given == DATA[: len(given)]
        blob.close()


def test_the_file_of_a_blob_of_another_size_is_restarted(spool: Spool) -> None:
    kept_by(spool)
    blob = claim(spool, size=SIZE - 1)
    assert blob.kept == 0
    blob.close()


def test_cleared_or_forgotten_entries_are_gone(spool: Spool, tmp_path: Path) -> None:
    blob = claim(spool)
    put(blob)
    blob.clear()
    assert (blob.kept, get(blob, 0)) == (0, b"")
    blob.forget()
    blob.close()
    assert not file_of(tmp_path).exists()


# -- the folder ------------------------------------------------------------------------------------------


def test_folder_and_files_are_their_owners_alone(spool: Spool, tmp_path: Path) -> None:
    kept_by(spool)
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").iterdir()}
    assert names == {LOCK_FILE: 0o600, file_of(tmp_path).name: 0o600}


def test_one_copy_at_a_time_has_a_blob(spool: Spool, tmp_path: Path) -> None:
    blob = claim(spool)
    other = Spool(tmp_path / "spool", CAP)
    assert other.claim(DIGEST, SIZE) is None
    second = other.claim(OTHER, SIZE)
    assert second is not None
    second.close()
    blob.close()
    claim(other).close()


def test_no_room_keeps_the_beginning_and_reports_it(tmp_path: Path) -> None:
    cap = file_size(20 * BLOCK) + 5
    spool = Spool(tmp_path / "spool", cap)
    blob = claim(spool)
    (told,) = spool.take_troubles()
    assert told.advice == Advice("raise-spool-size")
    put(blob)
    assert (blob.kept, blob.next_kept(20 * BLOCK)) == (20 * BLOCK, SIZE)
    assert get(blob, 0) == DATA[: 20 * BLOCK]
    assert file_of(tmp_path).stat().st_size <= cap
    assert spool.claim(OTHER, SIZE) is None, "there is no room, and the other one is in use"
    assert len(spool.take_troubles()) == 1
    blob.close()


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 2 * file_size(SIZE) + 100)
    digests = [f"sha256:{number:064x}" for number in range(3)]
    for age, digest in enumerate(digests[:2]):
        claim(spool, digest).close()
        os.utime(file_of(tmp_path, digest), (1e9 - age, 1e9 - age))
    claim(spool, digests[2]).close()
    left = [digest for digest in digests if file_of(tmp_path, digest).exists()]
    assert left == [digests[0], digests[2]]


def test_old_entries_are_removed_at_the_next_start_whatever_the_clock_says(tmp_path: Path) -> None:
    now = 2e9
    for clock, is_left in ((now + EXPIRY_S + 10, False), (now - 1e9, True), (now + 1e6, False), (0.0, True)):
        kept_by(Spool(tmp_path / "spool", CAP))
        os.utime(file_of(tmp_path), (now, now))
        spool = Spool(tmp_path / "spool", CAP, clock=lambda clock=clock: clock)  # type: ignore[misc]
        spool.open()
        assert file_of(tmp_path).exists() == is_left


def test_pruning_leaves_what_a_copy_has(spool: Spool, tmp_path: Path) -> None:
    kept_by(spool)
    blob = claim(spool, OTHER)
    folder = open_existing(tmp_path / "spool")
    assert folder is not None
    assert [(kept.digest, kept.in_use) for kept in folder.files()] == [(DIGEST, False), (OTHER, True)]
    pruned = folder.prune(float("inf"))
    assert (pruned.removed, pruned.in_use) == (1, 1)
    blob.close()
    assert open_existing(tmp_path) is None


# -- trouble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/proc/none/here", "file", "file/below"])
def test_a_folder_that_cannot_be_is_a_warning(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / where, CAP)
    assert spool.claim(DIGEST, SIZE) is None
    assert spool.claim(OTHER, SIZE) is None
    (told,) = spool.take_troubles()
    assert str(tmp_path / where) in str(told)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_files_of_others_are_not_opened(make: object, spool: Spool, tmp_path: Path) -> None:
    spool.open()
    assert callable(make)
    make(file_of(tmp_path))
    assert spool.claim(DIGEST, SIZE) is None
    assert len(spool.take_troubles()) == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from crossdock.kept.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool(Path(sys.argv[1]), 1 << 30)
blob = spool.claim("sha256:" + "ab" * 32, 1 << 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for offset in range(0, 1 << 20, 65536):
    blob.write(offset, memoryview(bytes(65536)))
assert (blob.kept, blob.has(0), blob.read(0, memoryview(bytearray(65536)))) == (0, False, 0)
blob.forget()
blob.close()
(warning,) = spool.take_troubles()
print(warning)
"""


def test_a_full_disk_is_one_warning_and_gets_its_room_back(tmp_path: Path) -> None:
    # The limit on file sizes stands for the disk: both end a write in the middle.
    folder = tmp_path / "spool"
    done = subprocess.run([sys.executable, "-c", FULL, folder], capture_output=True, text=True, check=True)
    assert str(folder) in done.stdout
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]


def test_a_read_that_fails_gives_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_by(spool)
    blob = claim(spool)

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    assert get(blob, 0) == b""
    assert (blob.kept, blob.next_kept(0)) == (0, SIZE)
    blob.close()
    assert len(spool.take_troubles()) == 1


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, SIZE, 5 << 30])
def test_room_never_makes_a_file_longer_than_allowed(size: int) -> None:
    for most in (0, 4096, file_size(LEAST_ROOM), 10 * BLOCK, file_size(size) - 1, file_size(size), 1 << 40):
        room = room_in(most, size)
        assert room == 0 or file_size(room) <= most
        assert room == size or room % BLOCK == 0


def test_a_folder_is_listed_without_being_made(tmp_path: Path) -> None:
    assert open_existing(tmp_path / "none") is None
    assert SpoolFolder(tmp_path, 0).files() == []
