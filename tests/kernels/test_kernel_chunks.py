"""Chunks against a model that is too simple to be wrong, for any sequence of calls."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kernels.backends import BACKENDS, load

GiB = 1 << 30
MiB = 1 << 20


@dataclass
class Chunk:
    start: int
    stop: int
    position: int
    taken: bool = False
    known: bool = False  # given out once, or made by a split: may be split


class Model:
    """The same interface on plain lists, with a set of every byte that arrived."""

    def __init__(self, start: int, stop: int, chunk_size: int) -> None:
        self.start, self.stop = start, stop
        self.chunks = [Chunk(at, min(at + chunk_size, stop), at) for at in range(start, stop, chunk_size)]
        self.arrived: set[int] = set()

    def _chunk(self, index: int) -> Chunk:
        if not 0 <= index < len(self.chunks):
            raise ValueError
        return self.chunks[index]

    def _taken(self, index: int) -> Chunk:
        chunk = self._chunk(index)
        if not chunk.taken:
            raise ValueError
        return chunk

    def take(self) -> int:
        free = [c for c in self.chunks if not c.taken and c.position < c.stop]
        if not free:
            return -1
        chunk = min(free, key=lambda c: c.position)
        chunk.taken = chunk.known = True
        return self.chunks.index(chunk)

    def bounds(self, index: int) -> tuple[int, int]:
        return self._chunk(index).start, self._chunk(index).stop

    def position(self, index: int) -> int:
        return self._chunk(index).position

    def advance(self, index: int, count: int) -> int:
        chunk = self._taken(index)
        if not 0 <= count <= chunk.stop - chunk.position:
            raise ValueError
        self.arrived |= set(range(chunk.position, chunk.position + count))
        chunk.position += count
        chunk.taken = chunk.position < chunk.stop
        return self.frontier

    def give_back(self, index: int) -> None:
        self._taken(index).taken = False

    def split(self, index: int, at: int) -> int:
        chunk = self._chunk(index)
        if not chunk.known or not chunk.position < at < chunk.stop:
            raise ValueError
        self.chunks.append(Chunk(at, chunk.stop, at, known=True))
        chunk.stop = at
        return len(self.chunks) - 1

    @property
    def frontier(self) -> int:
        return next((at for at in range(self.start, self.stop) if at not in self.arrived), self.stop)

    @property
    def received(self) -> int:
        return len(self.arrived)

    @property
    def missing(self) -> int:
        return self.stop - self.start - len(self.arrived)

    @property
    def done(self) -> bool:
        return self.missing == 0

    @property
    def taken(self) -> int:
        return sum(chunk.taken for chunk in self.chunks)


class AnySequence(RuleBasedStateMachine):
    """Every backend does what the model does: same results, same errors, same state after every step."""

    @initialize(start=st.integers(0, 50), size=st.integers(0, 60), chunk_size=st.integers(1, 25))
    def begin(self, start: int, size: int, chunk_size: int) -> None:
        self.model = Model(start, start + size, chunk_size)
        self.kernels = [load(backend).Chunks(start, start + size, chunk_size) for backend in BACKENDS]

    def same(self, method: str, *arguments: int) -> Any:
        results = []
        for one in (self.model, *self.kernels):
            try:
                results.append(getattr(one, method)(*arguments))
            except ValueError:
                results.append(ValueError)
        assert results == [results[0]] * len(results), method
        return results[0]

    def some_index(self, data: st.DataObject) -> int:
        """Mostly a taken chunk; also any other, and indices of no chunk."""
        taken = [index for index, chunk in enumerate(self.model.chunks) if chunk.taken]
        anything = st.integers(-1, len(self.model.chunks))
        return data.draw(st.one_of(st.sampled_from(taken), anything) if taken else anything)

    @rule()
    def take(self) -> None:
        self.same("take")

    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        self.same("advance", self.some_index(data), data.draw(st.integers(-1, 26)))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        index = self.some_index(data)
        if 0 <= index < len(self.model.chunks):
            chunk = self.model.chunks[index]
            self.same("advance", index, chunk.stop - chunk.position)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.same("give_back", self.some_index(data))

    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        index = self.some_index(data)
        at = st.integers(self.model.start - 1, self.model.stop + 1)
        if 0 <= index < len(self.model.chunks):
            chunk = self.model.chunks[index]
            at = st.one_of(st.integers(chunk.position, chunk.stop), at)
        self.same("split", index, data.draw(at))

    @invariant()
    def all_is_equal(self) -> None:
        for one in self.kernels:
            for name in ("frontier", "received", "missing", "done", "taken"):
                assert getattr(one, name) == getattr(self.model, name), name
        for index in range(-1, len(self.model.chunks) + 1):
            self.same("bounds", index)
            self.same("position", index)

    def teardown(self) -> None:
        # Whatever happened, fetching the rest in order of `take` completes the blob.
        while (index := self.same("take")) >= 0 or self.model.taken:
            for number in [index] if index >= 0 else range(len(self.model.chunks)):
                chunk = self.model.chunks[number]
                if chunk.taken:
                    self.same("advance", number, chunk.stop - chunk.position)
        assert all(one.done and one.frontier == self.model.stop for one in (self.model, *self.kernels))


AnySequence.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase


def test_chunks_come_lowest_offset_first(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(10, 35, 10)
    assert [chunks.take() for _ in range(4)] == [0, 1, 2, -1]
    assert [chunks.bounds(i) for i in range(3)] == [(10, 20), (20, 30), (30, 35)]
    assert chunks.taken == 3
    assert (chunks.frontier, chunks.missing, chunks.done) == (10, 25, False)


def test_the_frontier_waits_for_the_first_gap(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(0, 30, 10)
    for _ in range(3):
        chunks.take()
    assert chunks.advance(2, 10) == 0
    assert chunks.advance(1, 4) == 0
    assert chunks.advance(0, 7) == 7
    assert chunks.advance(0, 3) == 14
    assert chunks.advance(1, 6) == 30
    assert chunks.done
    assert chunks.taken == 0
    assert chunks.take() == -1


def test_a_failed_chunk_comes_again_from_its_own_position(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(0, 30, 10)
    assert [chunks.take(), chunks.take()] == [0, 1]
    chunks.advance(0, 6)
    chunks.give_back(0)
    assert chunks.taken == 1
    assert chunks.take() == 0  # before the fresh chunk 2
    assert chunks.position(0) == 6
    assert chunks.take() == 2


def test_the_tail_of_a_split_is_handed_to_somebody_else(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(0, 200, 100)
    assert chunks.take() == 0
    chunks.advance(0, 20)
    tail = chunks.split(0, 60)
    assert tail == 2
    assert (chunks.bounds(0), chunks.bounds(tail)) == ((0, 60), (60, 100))
    assert chunks.take() == tail  # offset 60 is before the fresh chunk at 100
    assert chunks.advance(tail, 40) == 20
    with pytest.raises(ValueError, match="do not fit"):
        chunks.advance(0, 41)
    assert chunks.advance(0, 40) == 100


def test_nothing_to_fetch_is_done_at_once(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(5, 5, 10)
    assert chunks.done
    assert chunks.frontier == 5
    assert chunks.take() == -1
    with pytest.raises(ValueError, match="no chunk"):
        chunks.bounds(0)


@pytest.mark.parametrize(
    "arguments",
    [(-1, 5, 1), (6, 5, 1), (0, 5, 0), (0, 5, -3), (0, 1 << 63, 1), (1 << 64, 1 << 65, 1), (0, 5, 1 << 63)],
)
def test_impossible_ranges_are_refused(kernels: SimpleNamespace, arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        kernels.Chunks(*arguments)


def test_numbers_beyond_64_bits_are_refused_and_change_nothing(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(0, 10, 5)
    chunks.take()
    for huge in (1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1, 1 << 200):
        with pytest.raises(ValueError):
            chunks.advance(0, huge)
        with pytest.raises(ValueError):
            chunks.advance(huge, 1)
        with pytest.raises(ValueError):
            chunks.bounds(huge)
        with pytest.raises(ValueError):
            chunks.split(0, huge)
        with pytest.raises(ValueError):
            chunks.give_back(huge)
    assert (chunks.taken, chunks.received) == (1, 0)


def test_words_and_fractions_are_no_offsets(kernels: SimpleNamespace) -> None:
    for wrong in ("1", 1.5, None):
        with pytest.raises(TypeError):
            kernels.Chunks(0, wrong, 1)
    chunks = kernels.Chunks(0, 10, 5)
    chunks.take()
    with pytest.raises(TypeError):
        chunks.advance(0, 1.5)


def test_offsets_reach_to_the_end_of_63_bits(kernels: SimpleNamespace) -> None:
    last = (1 << 63) - 1
    chunks = kernels.Chunks(last - 10, last, 1 << 62)
    assert chunks.bounds(chunks.take()) == (last - 10, last)
    assert chunks.advance(0, 10) == last
    wide = kernels.Chunks(0, last, 1 << 62)
    assert [wide.take(), wide.take(), wide.take()] == [0, 1, -1]
    assert wide.bounds(1) == (1 << 62, last)


def test_a_huge_blob_in_small_chunks_costs_little_until_taken(kernels: SimpleNamespace) -> None:
    tracemalloc.start()
    try:
        chunks = kernels.Chunks(0, 200 * GiB, 1 * MiB)
        first = chunks.take()
        assert chunks.bounds(200 * 1024 - 1) == (200 * GiB - MiB, 200 * GiB)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert chunks.advance(first, MiB) == MiB


def test_a_blob_of_many_chunks_completes_in_reverse(kernels: SimpleNamespace) -> None:
    chunks = kernels.Chunks(0, 100_000, 7)
    taken = []
    while (index := chunks.take()) >= 0:
        taken.append(index)
    assert taken == list(range(len(taken)))
    for index in reversed(taken[1:]):
        start, stop = chunks.bounds(index)
        assert chunks.advance(index, stop - start) == 0
    assert chunks.advance(0, 7) == 100_000
