"""Shared by the blob moves of a process: memory, connections, hashing, blobs under way, the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from crossdock._kernels import BACKEND
from crossdock.descriptors import affordable
from crossdock.errors import CopyError, Notice
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.options import Verify
from crossdock.tally import Tally
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.shares import Shares
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.supply import Supply

if TYPE_CHECKING:
    from crossdock.kept.journal import Journal
    from crossdock.kept.spool import Spool

SMALL_BLOBS_AT_ONCE = 64  # of all copies; each is two or three requests that wait, and holds one slot
MOST_READ_BACK = 20_000  # of some 300 bytes each
LEAST_SMALL_BLOBS = 4  # of the copies of one share from one registry, however many others there are
LARGE_BLOBS_AT_ONCE = 8  # of all copies: with more, uploads that wait for bytes would hold all connections


BlobKey = tuple[str, str]  # target and digest


class SharedBlobs:
    """The blobs that the copies of a process need at once: each is copied by one of them, the others wait."""

    def __init__(self) -> None:
        self._underway: dict[tuple[str, BlobKey], asyncio.Future[None]] = {}
        self._damaged: dict[BlobKey, CopyError] = {}
        self._read_back: set[BlobKey] = set()

    async def begin(self, registry: str, key: BlobKey) -> None:
        """Wait until no other copy is copying the blob from the source `registry`; `end` must follow.

        A copy does not wait for one that reads from another registry, which may stay slow. Raises the error
        of a copy that found the target damaging the blob.
        """
        while (other := self._underway.get((registry, key))) is not None:
            await asyncio.shield(other)  # bounded as a copy of the blob is; if it failed, it is our turn
        if (damage := self._damaged.get(key)) is not None:
            raise damage
        self._underway[registry, key] = asyncio.get_running_loop().create_future()

    def end(self, registry: str, key: BlobKey) -> None:
        """This copy has copied the blob, or failed."""
        self._underway.pop((registry, key)).set_result(None)

    def note_damage(self, key: BlobKey, error: CopyError) -> None:
        """The target has other bytes than it was sent: no other copy takes them for the blob."""
        self._damaged[key] = error

    def was_read_back(self, key: BlobKey) -> bool:
        """Whether a copy of this process read it back."""
        return key in self._read_back

    def note_read_back(self, key: BlobKey) -> None:
        """It was read back and is right. All are forgotten when there are too many."""
        if len(self._read_back) >= MOST_READ_BACK:
            self._read_back.clear()
        self._read_back.add(key)


def _shares(most: int, least: int) -> Shares:
    return Shares(affordable(most, per=4), least)


class Sharing:
    """State that all reads for several targets share (`fanout`)."""

    def __init__(self) -> None:
        self.reads = 0
        """How many sources are read for several targets now."""
        self.idle: dict[object, Callable[[], None]] = {}
        """Small blobs in memory that are not being sent, the oldest first, and how to give each up."""
        self.leads: dict[tuple[str, str, Digest], Any] = {}
        """By share, source registry and digest: the reads of several targets that needed a blob first."""


class Workshop(Struct, frozen=True):
    """Shared by every blob move of a process."""

    supply: Supply
    hashing: HashingService
    paranoid: bool
    verify: Verify = "stream"
    blobs: SharedBlobs = field(default_factory=SharedBlobs)
    check_blobs: bool = False
    small: Shares = field(default_factory=lambda: _shares(SMALL_BLOBS_AT_ONCE, LEAST_SMALL_BLOBS))
    large: Shares = field(default_factory=lambda: _shares(LARGE_BLOBS_AT_ONCE, 1))
    sharing: Sharing = field(default_factory=Sharing)
    share: str = ""  # the user whose part of it this is; empty: not divided

    def between(self, source: str, target: str) -> Workshop:
        """The workshop for blobs from the registry `source` to `target`, with their limits."""
        supply = self.supply.between(source, target)
        return self if supply is self.supply else replace(self, supply=supply)

    @property
    def checks_blobs(self) -> bool:
        """Whether a manifest that is at the target does not stand for its blobs."""
        return self.check_blobs or self.verify == "reread"

    def trusts(self, target: TargetSide, blob: Descriptor) -> bool:
        """Whether the blob is not hashed here, because the target compares its digest."""
        return self.verify == "target" and target.checks_digest(blob)


class Resuming(Struct, frozen=True):
    """Which uploads are resumable, and how. Sizes are in bytes."""

    above: int  # larger blobs, where the target permits
    chunk_size: int  # of one request
    journal: Journal | None = None
    # The pure kernels hash a thousand times slower when the state is to be exported. Without states, bytes
    # that were sent are read and hashed again, and not sent.
    keeps_states: bool = BACKEND == "compiled"
    spool: Spool | None = None
    keeps: Callable[[], bool] = lambda: True
    """Called when a blob fails: whether a later run will resume it. If not, its session is dropped."""

    def warn_of_trouble(self, tally: Tally) -> None:
        """Report what went wrong with journal and spool since the last call."""
        for kept in (self.spool, self.journal):
            for trouble in kept.take_troubles() if kept is not None else ():
                said = f"{trouble}; the copy continues"
                tally.warn(Notice(said, trouble.advice) if trouble.advice is not None else said)
