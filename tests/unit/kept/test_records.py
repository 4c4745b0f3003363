"""Rows as values: they are read back as stored, or not at all."""

from __future__ import annotations

import hashlib
import random

import pytest

from crossdock._ext import digest as compiled
from crossdock._kernels import digest as pure
from crossdock.kept.uploads import UploadKey, from_row, to_row
from unit.kept.rows import CHUNK, KEY, SECRET, content, saved, state_at


@pytest.mark.parametrize(
    "changes",
    [{}, {"states": {}}, {"trust_range": False}, {"acknowledged": 2 * CHUNK + 5}, {"source": "ü\ud800"}],
)
def test_a_row_comes_back_as_it_was(changes: dict[str, object]) -> None:
    upload = saved(**changes)
    assert from_row(to_row(upload)) == upload


def test_no_repr_shows_the_permission_in_a_location() -> None:
    assert SECRET not in repr(saved())


@pytest.mark.parametrize("column", range(14))
def test_a_row_with_one_changed_column_is_not_a_row(column: int) -> None:
    row = list(to_row(saved()))
    value = row[column]
    row[column] = value + 1 if isinstance(value, int | float) else value[:-1]
    assert from_row(tuple(row)) is None


def test_a_column_of_another_type_is_not_a_row() -> None:
    row = list(to_row(saved()))
    for column, value in enumerate(row):
        for other in (None, 3, b"x", "text"):
            if value != other:
                assert from_row((*row[:column], other, *row[column + 1 :])) is None


def test_states_that_the_kernel_does_not_take_are_left_out() -> None:
    newer = bytearray(state_at(2 * CHUNK))
    newer[7] += 1  # the version
    upload = saved(states=dict(enumerate((state_at(CHUNK), bytes(newer), b"nonsense", b""))))
    found = from_row(to_row(upload))
    assert found is not None
    assert found.states == {CHUNK: state_at(CHUNK)}


def test_states_beyond_the_offset_or_out_of_order_are_left_out() -> None:
    upload = saved(states=dict(enumerate(map(state_at, (2 * CHUNK, CHUNK, 3 * CHUNK)))))
    found = from_row(to_row(upload))
    assert found is not None
    assert tuple(found.states) == (2 * CHUNK,)


def test_every_kernel_takes_the_states_of_every_other() -> None:
    makers = [pure.Sha256]
    makers += [lambda name=name: compiled._with_implementation(name) for name in compiled._implementations()]
    data = content(0, 5 * CHUNK)
    states = set()
    for make in makers:
        hasher = make()
        hasher.update(data[:123])
        states.add(hasher.export_state())
    assert len(states) == 1
    (state,) = states
    for take in (pure.Sha256, compiled.Sha256):
        hasher = take(state)
        hasher.update(data[123:])
        assert hasher.digest() == hashlib.sha256(data).digest()


def test_equal_keys_have_equal_numbers_and_others_do_not() -> None:
    chance = random.Random(5)
    keys = {UploadKey(f"r{chance.random()}", f"a{n}", KEY.digest) for n in range(1000)}
    keys |= {UploadKey("a", "b/c", "d"), UploadKey("a/b", "c", "d"), UploadKey("a", "b", "c/d")}
    numbers = {key.number() for key in keys}
    assert len(numbers) == len(keys)
    assert all(0 <= number < 1 << 62 for number in numbers)
    assert KEY.number() == UploadKey(KEY.registry, KEY.repository, KEY.digest).number()
