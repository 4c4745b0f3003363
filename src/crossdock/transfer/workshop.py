"""What the blob moves of a process share: memory, connections, hashing, and what they know of each other."""

from __future__ import annotations

import asyncio

from msgspec import Struct, field

from crossdock.descriptors import affordable
from crossdock.errors import CopyError
from crossdock.oci.descriptor import Descriptor
from crossdock.options import Verify
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.ranges import Supply
from crossdock.transfer.shares import Shares
from crossdock.transfer.sides import TargetSide

SMALL_BLOBS_AT_ONCE = 64  # of all copies; each is two or three requests that wait, and holds one slot
MOST_READ_BACK = 20_000  # of some 300 bytes each
LEAST_SMALL_BLOBS = 4  # of the copies of one share from one registry, however many others there are
LARGE_BLOBS_AT_ONCE = 8  # of all copies: with more, uploads that wait for bytes would hold all connections


Underway = dict[tuple[str, str, str], "asyncio.Future[None]"]
"""The blobs that some copy is copying, by source registry, target and digest; done when that copy has
succeeded or failed. A copy does not wait for one that reads from another registry, which may stay slow."""


class ReadBack(set[tuple[str, str]]):
    """The blobs that were read back, by target and digest; all are forgotten when there are too many."""

    def add(self, key: tuple[str, str]) -> None:
        """Add one."""
        if len(self) >= MOST_READ_BACK:
            self.clear()
        super().add(key)


def _shares(most: int, least: int) -> Shares:
    return Shares(affordable(most, per=4), least)


class Workshop(Struct, frozen=True):
    """What every blob move of a process shares."""

    supply: Supply
    hashing: HashingService
    paranoid: bool
    verify: Verify = "stream"
    underway: Underway = field(default_factory=dict)
    damaged: dict[tuple[str, str], CopyError] = field(default_factory=dict)  # found when read back
    read_back: set[tuple[str, str]] = field(default_factory=ReadBack)
    check_blobs: bool = False
    small: Shares = field(default_factory=lambda: _shares(SMALL_BLOBS_AT_ONCE, LEAST_SMALL_BLOBS))
    large: Shares = field(default_factory=lambda: _shares(LARGE_BLOBS_AT_ONCE, 1))
    share: str = ""  # the user whose part of it this is; empty: not divided

    @property
    def checks_blobs(self) -> bool:
        """Whether a manifest that is at the target does not stand for its blobs."""
        return self.check_blobs or self.verify == "reread"

    def trusts(self, target: TargetSide, blob: Descriptor) -> bool:
        """Whether the blob is not hashed here, because the target compares its digest."""
        return self.verify == "target" and target.checks_digest(blob)
