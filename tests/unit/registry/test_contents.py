"""The cache about a registry's repositories."""

from __future__ import annotations

import asyncio

import pytest

from crossdock.oci.descriptor import Descriptor
from crossdock.registry import contents
from crossdock.registry.contents import REFUSALS, TRIED_AGAIN, Contents
from unit.registry.scripted_registry import describe

BLOB = describe(b"content")


def test_content_known_of_one_repository_is_not_assumed_of_another() -> None:
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
        known.mounted(False, at_cost=True)
    tried = [known.elsewhere("b", BLOB) for _ in range(2 * TRIED_AGAIN)]
    assert tried.count("a") == 2, "now and then one is tried all the same"
    known.mounted(True)
    assert known.elsewhere("b", BLOB) == "a"


def test_a_refused_mount_that_begins_the_upload_costs_nothing_and_is_tried_again() -> None:
    known = Contents()
    known.add("a", BLOB)
    for _ in range(2 * REFUSALS):
        known.mounted(False)
        assert known.elsewhere("b", BLOB) == "a"


async def test_a_copy_waits_for_the_manifest_of_one_that_began_before() -> None:
    known = Contents()
    known.add("a", BLOB, rank=1)
    assert not known.is_referred("a", BLOB.digest)
    waiting = asyncio.ensure_future(known.referred("a", BLOB, rank=2))
    await asyncio.sleep(0)
    assert not waiting.done()
    known.refer("a", [BLOB.digest])
    assert await waiting
    assert known.is_referred("a", BLOB.digest)


async def test_a_copy_does_not_wait_for_one_that_began_later_or_has_failed() -> None:
    known = Contents()
    known.add("a", BLOB, rank=3)
    assert not await known.referred("a", BLOB, rank=2)
    waiting = asyncio.ensure_future(known.referred("a", BLOB, rank=4))
    await asyncio.sleep(0)
    known.forget("a")
    assert not await waiting


def test_content_below_a_manifest_is_offered_first() -> None:
    known = Contents()
    known.add("a", BLOB, rank=1)
    known.add("b", BLOB)
    assert known.elsewhere("c", BLOB) == "b"


def test_the_least_recently_used_entry_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_mount_looks_for_blobs_while_most_are_missing() -> None:
    known = Contents()
    assert known.looks_by_mount
    known.looked(True)
    assert not known.looks_by_mount
    for _ in range(100):
        known.looked(False)
    for _ in range(contents.LOOKS_COUNTED):
        assert known.looks_by_mount
        known.looked(True)
    assert known.looks_by_mount
    known.looked(True)
    assert not known.looks_by_mount


def test_no_mount_looks_for_blobs_where_that_is_refused_or_proves_nothing() -> None:
    known = Contents()
    for _ in range(contents.LOOKS_REFUSED - 1):
        known.looked_by_mount(False)
    known.looked_by_mount(True)
    for _ in range(contents.LOOKS_REFUSED):
        assert known.looks_by_mount
        known.looked_by_mount(False)
    assert not known.looks_by_mount
    assert not Contents("never").looks_by_mount
    assert not Contents("after_manifest").looks_by_mount


def test_a_repository_is_absent_until_it_is_seen() -> None:
    known = Contents()
    known.note_absent("a", True)
    assert known.is_absent("a")
    assert not known.is_absent("b")
    known.note_absent("a", False)
    assert not known.is_absent("a")
