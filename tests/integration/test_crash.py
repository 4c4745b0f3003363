"""SIGKILL at random places of a copy; the same command then resumes and completes it.

The proxies in front of both registries measure the traffic. ``CROSSDOCK_LONG=1`` makes that 50 runs
with distribution 3 and docker-registry, and 25 with the embedded registry.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossdock.kept.database import FILE, JournalDatabase
from crossdock_testing.faults import Break, Fault, Seen, error
from support.command import Finished
from support.interrupted import CHUNK, KINDS, LAYER, MIB, TO_THE_BYTE, Passage
from support.skopeo import copy_all

pytestmark = pytest.mark.real

SEEDS = range(25 if os.environ.get("CROSSDOCK_LONG") else 4)
KILLED = -signal.SIGKILL

Kill = Callable[[], None]


def run_and_kill(passage: Passage, plan: Callable[[Kill], None]) -> Finished:
    """Run the copy, which `plan` arranges to be killed somewhere; it may end before."""
    pids: list[int] = []

    def kill() -> None:
        while not pids:  # the request came before `start` returned
            time.sleep(0.001)
        os.kill(pids[0], signal.SIGKILL)

    plan(kill)
    with passage.start() as running:
        pids.append(running.pid)
        done = running.finish()
    for proxy in (passage.source, passage.target):
        proxy.settle()
        proxy.faults.clear()
    return done


def somewhere(passage: Passage, chance: random.Random) -> Callable[[Kill], None]:
    """A place in the copy, chosen by `chance`."""
    offset = chance.randrange(LAYER)
    in_chunk = passage.chunk_with(offset)
    at_target: dict[str, dict[str, Any]] = {
        "in a chunk": {"on": in_chunk, "breaks": Break("reset", "request", offset % CHUNK)},
        "before a chunk is acknowledged": {"on": in_chunk, "breaks": Break("reset", "head", 0)},
        "between chunks": {"on": in_chunk, "answer": error(503)},
        "before the commit": {"on": passage.is_commit, "answer": error(503)},
        "after the commit": {"on": passage.is_commit, "breaks": Break("reset", "head", 0)},
        "before the manifest": {"on": "PUT */manifests/v1", "answer": error(503)},
    }
    place = chance.choice([*at_target, "in a chunk", "in a chunk", "in the source"])

    def plan(kill: Kill) -> None:
        if place == "in the source":

            def in_range(seen: Seen) -> bool:
                return seen.is_blob_get(passage.layer) and is_inside(seen.range, offset)

            passage.source.add(Fault(in_range, breaks=Break("reset", at=0), when_reached=kill))
        else:
            passage.target.add(Fault(**at_target[place], when_reached=kill))

    return plan


def is_inside(range_header: str, offset: int) -> bool:
    first, _, last = range_header.removeprefix("bytes=").partition("-")
    return int(first or 0) <= offset <= int(last or LAYER)


def finish(passage: Passage) -> dict[str, Any]:
    """Run the copy to its end; the result."""
    return passage.command.ok(*passage.words).result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_copy_resumes(kind: str, seed: int, passage: Passage, tmp_path: Path) -> None:
    chance = random.Random(f"{kind} {seed}")
    kills = 0
    for _ in range(1 + seed % 3):
        done = run_and_kill(passage, somewhere(passage, chance))
        if done.code != KILLED:  # the place was behind already
            assert done.code == 0, str(done)
            break
        kills += 1
    finish(passage)
    passage.check()
    copy_all(f"docker://{passage.references[1]}", f"oci:{tmp_path / 'verified'}:v1")
    if kind in TO_THE_BYTE:
        assert passage.sent_again() <= kills * CHUNK
        assert passage.read_again() <= kills * 2 * CHUNK
    else:
        assert passage.sent_again() <= kills * LAYER  # at most one restart for each
    assert finish(passage)["blobs_moved"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_between_chunks_costs_no_byte_of_the_target(kind: str, passage: Passage) -> None:
    def plan(kill: Kill) -> None:
        between = passage.chunk_with(3 * CHUNK)
        passage.target.add(Fault(between, answer=error(503), when_reached=kill))

    done = run_and_kill(passage, plan)
    assert done.code == KILLED, str(done)
    result = finish(passage)
    passage.check()
    assert (result["uploads_resumed"], result["bytes_resumed"]) == (1, 3 * CHUNK)
    assert result["warnings"] == []
    assert passage.sent_again() == 0
    assert result["bytes_requested"] < LAYER - 3 * CHUNK + MIB, "what was hashed is not read again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_inside_a_chunk_costs_a_chunk_or_is_announced(kind: str, passage: Passage) -> None:
    def plan(kill: Kill) -> None:
        inside = passage.chunk_with(3 * CHUNK)
        passage.target.add(Fault(inside, breaks=Break("reset", "request", CHUNK // 2), when_reached=kill))

    done = run_and_kill(passage, plan)
    assert done.code == KILLED, str(done)
    result = finish(passage)
    passage.check()
    if kind in TO_THE_BYTE:
        assert result["uploads_resumed"] == 1
        assert 3 * CHUNK <= result["bytes_resumed"] <= 3 * CHUNK + CHUNK // 2
        assert passage.sent_again() <= CHUNK
        assert result["bytes_requested"] <= LAYER - 3 * CHUNK + MIB
    else:
        assert (result["uploads_resumed"], result["bytes_resumed"]) == (0, 0)
        (warning,) = result["warnings"]
        assert passage.layer in warning
        assert "starts again at byte 0" in warning
        assert passage.sent_again() <= 3 * CHUNK + CHUNK // 2


# -- the journal after a kill ----------------------------------------------------------------------------


def flip_bits(path: Path, chance: random.Random) -> None:
    """Invert some bits of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    """Lose the end of a file."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def jump(passage: Passage, seconds: float) -> None:
    """Let the clock have been wrong by so much when the rows were written."""
    database = JournalDatabase(passage.state)
    try:
        for row in database.uploads():
            database.write(replace(row, created=row.created + seconds, updated=row.updated + seconds))
    finally:
        database.close()


# Only how much is sent again may differ; what arrives may not.
JOURNALS: dict[str, Callable[[Passage, random.Random], None]] = {
    "bits of the file": lambda passage, chance: flip_bits(passage.state / FILE, chance),
    "bits of the log": lambda passage, chance: flip_bits(passage.state / f"{FILE}-wal", chance),
    "the end of the file": lambda passage, chance: cut(passage.state / FILE, chance),
    "the end of the log": lambda passage, chance: cut(passage.state / f"{FILE}-wal", chance),
    "no log": lambda passage, chance: (passage.state / f"{FILE}-wal").unlink(),
    "a clock ten years ahead": lambda passage, chance: jump(passage, 10 * 365 * 86400.0),
    "a clock ten years behind": lambda passage, chance: jump(passage, -10 * 365 * 86400.0),
}


@pytest.mark.parametrize("seed", range(10 if os.environ.get("CROSSDOCK_LONG") else 1))
@pytest.mark.parametrize("damage", JOURNALS)
@pytest.mark.parametrize("kind", ["distribution-3"])
def test_a_journal_damaged_after_a_kill_makes_no_wrong_copy(
    kind: str, damage: str, seed: int, passage: Passage, tmp_path: Path
) -> None:
    def plan(kill: Kill) -> None:
        between = passage.chunk_with(3 * CHUNK)
        passage.target.add(Fault(between, answer=error(503), when_reached=kill))

    assert run_and_kill(passage, plan).code == KILLED
    JOURNALS[damage](passage, random.Random(f"{damage} {seed}"))
    result = finish(passage)
    passage.check()
    copy_all(f"docker://{passage.references[1]}", f"oci:{tmp_path / 'verified'}:v1")
    assert passage.sent_again() <= 3 * CHUNK
    if damage == "a clock ten years ahead":
        assert (result["bytes_resumed"], passage.sent_again()) == (3 * CHUNK, 0)
    elif not result["uploads_resumed"]:
        assert passage.sent_again() == 3 * CHUNK
