"""Every cell of the fault grid, once and with a fault that does not end. See `grid.cells`.

A test is a row of the table, whose runs go on at once: most wait most of the time.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
import trustme
import uvloop

from crossdock import errors
from crossdock_testing.tokens import TokenServer
from grid.cells import CELLS, FAULTS, IN_CHUNKS, KINDS, PLACES, SIDES, Cell, Fails, NotApplicable
from grid.document import document
from grid.runner import Bench, Run, make_bench
from support.docker_registry import DockerRegistry

AT_ONCE = 10


def rows() -> dict[str, list[Run]]:
    """The runs of each row: a cell once, and for ever unless it has ended at once."""
    found: dict[str, list[Run]] = {}
    for cell in CELLS:
        if isinstance(cell.outcome, NotApplicable):
            continue
        row = found.setdefault(f"{cell.way}-{cell.fault}".replace(" ", "_"), [])
        row.append(Run(cell, persists=False))
        if not (isinstance(cell.outcome, Fails) and cell.outcome.at_once):
            row.append(Run(cell, persists=True))
    return found


def held() -> Counter[str]:
    """Open files, sockets and threads of this process."""
    found = Counter(thread.name for thread in threading.enumerate())
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists the others
            found[re.sub(r":\[\d+\]", "", os.readlink(f"/proc/self/fd/{fd}"))] += 1
    return found


@pytest.fixture(scope="module")
def bench(
    shared_registries: tuple[DockerRegistry, DockerRegistry], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Two registries, an image in the source, and a service that gives tokens."""
    uvloop.new_event_loop().close()  # libuv keeps a pipe of its own for all loops
    with TokenServer() as service:
        home = tmp_path_factory.mktemp("grid")
        yield make_bench(*shared_registries, home, trustme.CA(), service.realm)


@pytest.mark.real
@pytest.mark.parametrize("row", rows())
def test_row(row: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = held()
    runs = rows()[row]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="grid") as pool:
        results = [pool.submit(bench.run, run) for run in runs]
    failures = []
    for run, result in zip(runs, results, strict=True):
        if (failure := result.exception()) is not None:
            failure.add_note(f"the run was {run}")
            failures.append(failure)
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(runs)} runs", failures)
    assert held() - before == Counter()
    assert list(tmp_path.iterdir()) == []


def test_every_combination_is_in_the_table_exactly_once() -> None:
    def key(cell: Cell) -> tuple[str, str, str]:
        return cell.place, cell.fault, cell.side

    whole = [key(cell) for cell in CELLS if not cell.in_chunks]
    assert sorted(whole) == sorted(product(PLACES, FAULTS, SIDES))
    in_chunks = [key(cell) for cell in CELLS if cell.in_chunks]
    assert sorted(in_chunks) == sorted(product(IN_CHUNKS, FAULTS, ["target"]))


def test_outcomes_are_classes_of_errors() -> None:
    for kind in "|".join(KINDS.values()).split("|"):
        assert issubclass(getattr(errors, kind), errors.CrossdockError)


def test_the_page_for_people_is_written_from_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "faults.md"
    assert page.read_text() == document() + "\n", "PYTHONPATH=tests python -m grid.document > docs/faults.md"
