"""The start-up time of the command, compared with the bare interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "crossdock --version": [str(Path(sys.executable).with_name("crossdock")), "--version"],
    "crossdock copy --help": [str(Path(sys.executable).with_name("crossdock")), "copy", "--help"],
}


@pytest.mark.benchmark(group="start of the command", timer=time.perf_counter)
@pytest.mark.parametrize("words", list(COMMANDS))
def test_start(benchmark: BenchmarkFixture, words: str) -> None:
    benchmark.extra_info["by"] = words

    def turn() -> None:
        subprocess.run(COMMANDS[words], stdout=subprocess.DEVNULL, check=True)

    benchmark(turn)
