"""Chunks: the bookkeeping of one blob fetched by ranges."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

MiB = 1 << 20
ADVANCE = 256 << 10  # what one read of a socket brings


def fetch(make: type, size: int, chunk_size: int, in_flight: int) -> int:
    """Take, advance and finish every range of a blob, several at once in a seeded order."""
    chunks = make(0, size, chunk_size)
    order = random.Random(3)
    taken: list[int] = []
    while not chunks.done:
        while len(taken) < in_flight and (index := chunks.take()) >= 0:
            taken.append(index)
        index = order.choice(taken)
        chunks.advance(index, min(ADVANCE, chunks.bounds(index)[1] - chunks.position(index)))
        if chunks.position(index) == chunks.bounds(index)[1]:
            taken.remove(index)
    frontier: int = chunks.frontier
    return frontier


@pytest.mark.benchmark(group="chunks: 1 GiB by ranges of 16 MiB, 8 in flight")
def test_fetch(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    assert benchmark(fetch, kernels.Chunks, 1024 * MiB, 16 * MiB, 8) == 1024 * MiB


@pytest.mark.benchmark(group="chunks: 64 MiB split until ranges are 64 KiB")
def test_split(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    def split() -> int:
        chunks = kernels.Chunks(0, 64 * MiB, 64 * MiB)
        pending, made = [chunks.take()], 1
        while pending:
            index = pending.pop()
            start, stop = chunks.bounds(index)
            if stop - start > 64 << 10:
                pending += [index, chunks.split(index, (start + stop) // 2)]
                made += 1
        return made

    assert benchmark(split) == 1024
