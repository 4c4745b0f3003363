"""Buffers: acquiring and releasing a slot, touching it first, and marking it (XXH3)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

MiB = 1 << 20


@pytest.mark.benchmark(group="buffers: a slot taken and given back")
def test_acquire_release(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(64 * MiB, MiB)

    def turn() -> None:
        arena.acquire().release()

    benchmark(turn)
    arena.close()


@pytest.mark.benchmark(group="buffers: all of 64 slots, taken and given back")
def test_all_slots(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    arena = kernels.Arena(64 * MiB, MiB)

    def turn() -> None:
        for slot in [arena.acquire() for _ in range(64)]:
            slot.release()

    benchmark(turn)
    arena.close()


@pytest.mark.benchmark(group="buffers: a new arena of 64 MiB, every page written once")
def test_first_touch(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    benchmark.extra_info["bytes"] = 64 * MiB
    data = bytes(MiB)

    def turn() -> None:
        arena = kernels.Arena(64 * MiB, MiB)
        slots = [arena.acquire() for _ in range(64)]
        for slot in slots:
            view = slot.view
            view[:] = data
            view.release()
            slot.release()
        arena.close()

    benchmark(turn)


@pytest.mark.benchmark(group="XXH3: a slot of 1 MiB marked and checked")
def test_mark(benchmark: BenchmarkFixture, kernels: SimpleNamespace) -> None:
    benchmark.extra_info["bytes"] = 2 * MiB  # read twice
    arena = kernels.Arena(4 * MiB, MiB)
    slot = arena.acquire()

    def turn() -> None:
        slot.mark(MiB)
        slot.check()

    benchmark(turn)
    slot.release()
    arena.close()
