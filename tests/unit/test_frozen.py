"""Comparison, hash and repr by `Frozen` are those that `dataclass` writes."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass

import pytest

from crossdock.frozen import Frozen


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Login(Frozen):
    user: str
    port: int = 1
    secret: str = field(default="", repr=False)
    file: str = field(default="", compare=False)


Generated = make_dataclass(
    "Login",
    [
        ("user", str),
        ("port", int, 1),
        ("secret", str, field(default="", repr=False)),
        ("file", str, field(default="", compare=False)),
    ],
    frozen=True,
    slots=True,
)

VALUES = [("a",), ("b",), ("a", 2), ("a", 1, "s"), ("a", 1, "", "f"), ("b", 1, "", "f")]


@pytest.mark.parametrize("first", VALUES)
@pytest.mark.parametrize("second", VALUES)
def test_values_compare_and_hash_by_the_fields_that_count(first, second):
    assert (Login(*first) == Login(*second)) == (Generated(*first) == Generated(*second))
    assert hash(Login(*first)) == hash(Generated(*first))
    assert len({Login(*first), Login(*second)}) == len({Generated(*first), Generated(*second)})


@pytest.mark.parametrize("values", VALUES)
def test_repr_shows_no_field_that_hides_itself(values):
    assert repr(Login(*values)) == repr(Generated(*values))


def test_another_class_with_the_same_fields_is_not_equal():
    assert Login("a") != Generated("a")
    assert Login("a") != ("a", 1, "")
