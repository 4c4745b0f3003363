"""The bytes of a plan: which blobs would be read and pushed, which are there, which can be mounted.

A registry mounts blobs between its repositories, so each is pushed to it once: to the repository of the first
entry that needs it. The others get it by mounts.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from crossdock.migration.images import Key


class HostBlobs(Struct):
    """The blobs at one target registry. Sizes are bytes."""

    sizes: dict[Key, int] = field(default_factory=dict)  # of those that some repository lacks
    present: set[Key] = field(default_factory=set)  # in some repository, as far as it was asked
    asked: int = 0  # questions whether a blob is there


class BlobSums(Struct):
    """The sums of one entry and target."""

    host: HostBlobs
    lacking: dict[Key, int] = field(default_factory=dict)  # how many of its repositories lack the blob
    present: int = 0
    to_move: int = 0
    to_mount: int = 0
    moves: int = 0
    mounts: int = 0

    def add(self, key: Key, size: int, *, is_here: bool) -> None:
        """One blob that one repository needs: whether it has it."""
        if is_here:
            self.present += size
            self.host.present.add(key)
        else:
            self.lacking[key] = self.lacking.get(key, 0) + 1
            self.host.sizes.setdefault(key, size)


def settle(sums: Iterable[BlobSums]) -> None:
    """Decide what is moved and what is mounted, once everything was added. In the order of the entries."""
    moved: dict[int, set[Key]] = {}
    for each in sums:
        brought = moved.setdefault(id(each.host), set())
        for key, count in each.lacking.items():
            size = each.host.sizes[key]
            if key not in each.host.present and key not in brought:
                brought.add(key)
                each.to_move += size
                each.moves += 1
                count -= 1
            each.to_mount += size * count
            each.mounts += count
        each.lacking.clear()
