"""Tags as versions, and ranges of versions."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidInput
from crossdock.mirroring.versions import Range, Version


def version(tag: str) -> Version:
    found = Version.find(tag)
    assert found is not None, tag
    return found


@pytest.mark.parametrize(
    ("tag", "numbers"),
    [
        ("1.2.3", (1, 2, 3)),
        ("v1.2.3", (1, 2, 3)),
        ("1.2", (1, 2, 0)),
        ("16", (16, 0, 0)),
        ("V2", (2, 0, 0)),
        ("2026.01.31", (2026, 1, 31)),
        ("1.2.3_build.5", (1, 2, 3)),
        ("1.2.3+build.5", (1, 2, 3)),
    ],
)
def test_a_tag_that_is_a_release(tag: str, numbers: tuple[int, int, int]) -> None:
    assert version(tag) == Version(numbers)


@pytest.mark.parametrize(
    "tag", ["1.2.3-rc.1", "v1.2.3-rc1+build", "16-alpine", "3.19-alpine_2", "1.0.0-0.3.7"]
)
def test_a_tag_that_is_a_prerelease(tag: str) -> None:
    assert not version(tag).is_release


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "main",
        "1.2.3.4",
        "v",
        "1.",
        ".1",
        "a1.2.3",
        "1.2.3-",
        "1.2.3-a..b",
        "7f3c2a1",
        "1.2.3rc1",
        "",
    ],
)
def test_a_tag_that_is_not_a_version(tag: str) -> None:
    assert Version.find(tag) is None


def test_precedence_is_that_of_semver() -> None:
    # The example of Semantic Versioning 2.0.0, section 11, with releases around it.
    ordered = [
        "0.9.9",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1-rc.1",
        "1.0.1",
        "1.2",
        "1.10",
        "2",
    ]
    assert sorted(ordered, key=version) == ordered
    assert version("1.2") == version("v1.2.0") == version("1.2.0_7")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2 <3", "1.2 1.2.0 2.9.9", "1.1.9 3 3.0.0-rc.1 1.2.0-rc.1 1.5.0-rc.1"),
        (">=1.2<3", "1.2 2.9.9", "3.0"),
        (">=1.2, <3", "1.2 2.9.9", "3.0"),
        (">= 1.2.0 , < 3.0.0", "1.2 2.9.9", "3.0"),
        ("^1.2", "1.2 1.9.9", "1.1 2.0 2.0.0-rc.1"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0.0", "0.0.0 0.0.9", "0.1"),
        ("^0", "0.0.1 0.9", "1"),
        ("^1.2.3-rc.2", "1.2.3-rc.2 1.2.3-rc.10 1.2.3 1.9", "1.2.3-rc.1 1.2.4-rc.3 2.0"),
        ("~1.2", "1.2.0 1.2.9", "1.3 1.1.9"),
        ("~>1.2.3", "1.2.3 1.2.9", "1.3 1.2.2"),
        ("~1", "1.0 1.9", "2 0.9"),
        ("1.x", "1.0 1.9.9", "2.0 0.9 1.0.0-rc.1"),
        ("1.2.*", "1.2.0 1.2.7", "1.3.0"),
        ("1.2", "1.2.0 1.2.7", "1.3.0"),
        ("=1.2.3", "1.2.3 v1.2.3_5", "1.2.4"),
        ("v1.2.3", "1.2.3", "1.2.4"),
        ("*", "0.0.0 1.2.3 99", "1.0.0-rc.1"),
        (">1.2", "1.3 2", "1.2.0 1.2.9"),
        ("<=1.2", "1.2.9 0.1", "1.3"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<1.2", "1.1.9", "1.2.0 1.2.0-rc.1"),
        ("1.2 - 2.3", "1.2 2.3.9", "2.4 1.1"),
        ("1.2.3 - 2.3.4", "1.2.3 2.3.4", "2.3.5"),
        ("^1 || ^3", "1.5 3.5", "2.5 4"),
        (">=1 !=1.3", "1.2.9 1.4", "1.3.0 1.3.5"),
        (">=1.3.0-rc.1 <1.3.0", "1.3.0-rc.1 1.3.0-rc.2", "1.3.0 1.2.9 1.3.0-alpha"),
        ("=1.0.0-rc.1", "1.0.0-rc.1", "1.0.0 1.0.0-rc.2"),
        (">1.2.3 <1.2.4-rc.2", "1.2.4-rc.1 1.2.4-0", "1.2.4 1.2.4-rc.2"),
    ],
)
def test_versions_in_a_range(text: str, inside: str, outside: str) -> None:
    found = Range.parse(text)
    assert [each for each in inside.split() if not found.admits(version(each))] == []
    assert [each for each in outside.split() if found.admits(version(each))] == []


@pytest.mark.parametrize(
    "text", [">2 <1", ">1.2.3 <1.2.4", "=1.2 =1.3", "<0", "<0.0.0", "!=*", ">=1 !=1.x <2", "<*"]
)
def test_a_range_that_no_version_is_in_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no version is in the range"):
        Range.parse(text)


@pytest.mark.parametrize(
    "text", ["", "abc", ">=", ">=1.2 <", "1.2.3.4", "^1 ||", "1.x-rc", ">>1", "1.2;3", "1.2.3-a..b"]
)
def test_an_invalid_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a range of versions"):
        Range.parse(text)
