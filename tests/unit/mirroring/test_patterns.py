"""Patterns of names."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.patterns import Patterns, matcher


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("app", ["app"], ["app-a", "my/app", "App"]),
        ("app-*", ["app-a", "app-", "app-a/b"], ["app", "my/app-a"]),
        ("*-tmp", ["a-tmp", "a/b-tmp"], ["a-tmp-b"]),
        ("v?.[0-9]", ["v1.2", "vx.0"], ["v1.a", "v10.2"]),
        ("*", ["", "a", "a/b/c"], []),
        ("/^lib-(a|b)$/", ["lib-a", "lib-b"], ["lib-c", "my/lib-a", "lib-ab"]),
        ("/-rc[0-9]+$/", ["v1-rc1", "v1-rc22"], ["v1-rc", "v1-rc1-a"]),
        ("/b/", ["abc", "b", "a/b"], ["ac", "B"]),
        ("/^a/b$/", ["a/b"], ["a"]),
        ("/[[a]/", ["a", "["], ["b"]),
    ],
)
def test_a_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = matcher(pattern)
    assert [each for each in matching if not matches(each)] == []
    assert [each for each in others if matches(each)] == []


@pytest.mark.parametrize("pattern", ["/", "//", "/a", "/(/", "/a/i", "/[z-a]/", "/(?P<x>a/"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match=r"pattern|regular expression"):
        Patterns((), (pattern,)).check()


def test_excluded_names_are_not_wanted() -> None:
    patterns = Patterns(("app-*", "/^lib-(a|b)$/"), ("*-tmp",))
    names = ["app-a", "app-tmp", "lib-a", "lib-c", "other"]
    assert [name for name in names if patterns.wants(name)] == ["app-a", "lib-a"]
    assert [name for name in names if patterns.includes(name)] == ["app-a", "app-tmp", "lib-a"]


def test_without_include_every_name_is_wanted_that_is_not_excluded() -> None:
    assert Patterns().wants("anything")
    assert Patterns().wants_all
    assert Patterns(("*",)).wants_all
    assert not Patterns((), ("a",)).wants_all
    assert not Patterns(("a*",)).wants_all
    assert Patterns((), ("a",)).wants("b")
    assert not Patterns((), ("a",)).wants("a")


def test_names_without_patterns_need_no_catalog() -> None:
    assert Patterns(("a", "b/c", "a")).names == ("a", "b/c")
    assert Patterns(("a", "b*")).names is Patterns(("/a/",)).names is Patterns().names is None


def test_patterns_that_match_nothing_are_told() -> None:
    assert Patterns(("a*", "/b/", "c")).unmatched(["abc"]) == ["c"]
