"""Bytes of a plan: each blob is moved once to a registry and mounted elsewhere, unless it is there."""

from __future__ import annotations

from crossdock.migration.costs import BlobSums, HostBlobs, settle

A, B = b"a" * 32, b"b" * 32


def test_a_blob_is_moved_once_and_mounted_elsewhere() -> None:
    host = HostBlobs()
    first, second = BlobSums(host), BlobSums(host)
    for sums in (second, first, first):
        sums.add(A, 10, is_here=False)
    settle([first, second])
    assert (first.to_move, first.to_mount, first.moves, first.mounts) == (10, 10, 1, 1)
    assert (second.to_move, second.to_mount) == (0, 10)


def test_a_blob_that_some_repository_has_is_mounted() -> None:
    host = HostBlobs()
    lacks, has = BlobSums(host), BlobSums(host)
    lacks.add(A, 10, is_here=False)
    lacks.add(B, 5, is_here=False)
    has.add(A, 10, is_here=True)
    settle([lacks, has])
    assert (lacks.to_move, lacks.to_mount) == (5, 10)
    assert (has.present, has.to_move) == (10, 0)


def test_each_registry_gets_its_own() -> None:
    sums = [BlobSums(HostBlobs()) for _ in range(2)]
    for each in sums:
        each.add(A, 10, is_here=False)
    settle(sums)
    assert [each.to_move for each in sums] == [10, 10]
