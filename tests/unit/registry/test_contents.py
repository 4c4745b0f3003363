"""The cache about a registry's repositories."""

from __future__ import annotations

import pytest

from crossdock.oci.descriptor import Descriptor
from crossdock.registry import contents
from crossdock.registry.contents import REFUSALS, Contents
from unit.registry.scripted_registry import describe

BLOB = describe(b"content")


def test_what_a_repository_has_is_known_of_it_alone() -> None:
    known = Contents()
    known.add("a", BLOB)
    assert known.has("a", BLOB)
    assert not known.has("b", BLOB)
    assert not known.has("a", describe(b"other"))


def test_another_size_is_another_blob() -> None:
    known, other = Contents(), Descriptor(BLOB.media_type, BLOB.digest, BLOB.size + 1)
    known.add("a", BLOB)
    known.add("b", other)
    assert not known.has("a", other)
    assert not known.has("b", BLOB)
    assert not known.has("b", other)
    assert known.elsewhere("c", other) is None


def test_a_blob_is_offered_from_another_repository_until_mounts_are_refused() -> None:
    known = Contents()
    assert known.elsewhere("b", BLOB) is None
    known.add("a", BLOB)
    assert known.elsewhere("a", BLOB) is None
    assert known.elsewhere("b", BLOB) == "a"
    for _ in range(REFUSALS - 1):
        known.mounted(False)
    known.mounted(True)
    for _ in range(REFUSALS):
        assert known.elsewhere("b", BLOB) == "a"
        known.mounted(False)
    assert known.elsewhere("b", BLOB) is None


def test_what_was_used_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_DIGESTS", 2)
    known = Contents()
    first, second, third = (describe(data) for data in (b"1", b"2", b"3"))
    for blob in (first, second, first, third):
        known.add("a", blob)
    assert [known.has("a", blob) for blob in (first, second, third)] == [True, False, True]


def test_a_repository_is_forgotten_alone() -> None:
    known = Contents()
    known.add("a", BLOB)
    known.add("b", BLOB)
    known.forget("a")
    assert not known.has("a", BLOB)
    assert known.has("b", BLOB)
