"""The CPU time of a start of the command, compared with that of the bare interpreter."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "crossdock --version": [str(Path(sys.executable).with_name("crossdock")), "--version"],
    "crossdock copy --help": [str(Path(sys.executable).with_name("crossdock")), "copy", "--help"],
}


def children() -> float:
    """CPU seconds of all ended children: a wall clock would count what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.benchmark(group="start of the command", timer=children)
@pytest.mark.parametrize("words", list(COMMANDS))
def test_start(benchmark: BenchmarkFixture, words: str) -> None:
    benchmark.extra_info["by"] = words

    def turn() -> None:
        subprocess.run(COMMANDS[words], stdout=subprocess.DEVNULL, check=True)

    benchmark.pedantic(turn, rounds=40, warmup_rounds=2)  # type: ignore[no-untyped-call]
