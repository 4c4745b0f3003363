"""Names of repositories and tags."""

from __future__ import annotations

import pytest

from crossdock.oci.reference import is_repository, is_tag


@pytest.mark.parametrize(
    "name",
    ["..", "a/..", "a//b", "/a", "a/", "A", "a_", "-a", "a..b", "a/.b", "a" * 256, "a\n", "", "a b", "ä"],
)
def test_an_invalid_name_is_refused(name: str) -> None:
    assert not is_repository(name)


@pytest.mark.parametrize("name", ["a", "a/b", "a.b_c__d-e---f", "0", "blobs", "a" * 255])
def test_valid_names_are_accepted(name: str) -> None:
    assert is_repository(name)


def test_a_tag_has_at_most_128_characters_and_no_dot_first() -> None:
    assert is_tag("_x.y-Z")
    assert is_tag("a" * 128)
    assert not any(map(is_tag, ("a" * 129, ".a", "-a", "", "a/b", "a\n")))
