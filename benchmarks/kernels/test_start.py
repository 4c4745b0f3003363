"""The CPU time of a start of the command, compared with that of the bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.processes import cpu_of_children

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "crossdock --version": [str(Path(sys.executable).with_name("crossdock")), "--version"],
    "crossdock copy --help": [str(Path(sys.executable).with_name("crossdock")), "copy", "--help"],
}


# CPU time, because wall time depends on the load of the machine.
@pytest.mark.benchmark(group="start of the command", timer=cpu_of_children)
@pytest.mark.parametrize("words", list(COMMANDS))
def test_start(benchmark: BenchmarkFixture, words: str) -> None:
    benchmark.extra_info["by"] = words

    def turn() -> None:
        subprocess.run(COMMANDS[words], stdout=subprocess.DEVNULL, check=True)

    benchmark.pedantic(turn, rounds=40, warmup_rounds=2)  # type: ignore[no-untyped-call]
