"""One large blob, read and hashed once, and sent to several targets at their own pace.

Rules:

1. It is read when every target has said whether it needs the blob, and the uploads of those that do have
   begun. A target that waits for another copy to bring the blob, to mount it then, is not waited for.
2. Every target takes the pieces from a queue of its own. A slot is free when the last of them has sent it. A
   full queue stops the reading, so a slow target holds at most its queue.
3. A target that makes others wait, at the start or by full queues, is left behind when that adds up to more
   than `PATIENCE_S`: it sends what it has, and reads the rest for itself, from there on. With a spool
   (`sharedspool`) it finds there what is read for the others. Its queues must be full for all blobs that are
   being read: one alone may only show that other blobs get more of its bandwidth, as these do elsewhere.
4. So does one that comes too late, and one whose registry requests earlier bytes again. One that fails just
   leaves.
5. A target takes pieces only when its upload has begun, and needs neither slot nor permit to send them. So
   whoever holds slots can go on, as `budget.py` demands.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from crossdock.errors import CrossdockError
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tasks import ended
from crossdock.transfer.inline import blob_at
from crossdock.transfer.ranges import PIECES_AT_ONCE, RangedReader
from crossdock.transfer.seats import SharedPiece, Subscription
from crossdock.transfer.spooling import keep
from crossdock.transfer.supply import Piece
from crossdock.verify import BlobVerifier

if TYPE_CHECKING:
    from crossdock.content import BlobSource
    from crossdock.kept.spool import SpooledBlob
    from crossdock.transfer.fanout import SharedReads, TargetReads
    from crossdock.transfer.spoolreader import SpooledReader

    Reader = RangedReader | SpooledReader

PATIENCE_S = 3.0  # that the others wait for one target, in all
LOOK_S = 0.25  # between two looks at whether a full queue holds the others up
FORGIVEN = 0.25  # seconds of that are forgotten for each second without: a fifth slower is not left behind
QUEUE_PIECES = 16  # that wait to be sent to one target: some 16 MiB, which smooth out its pauses


class Patience:
    """How long one target has held the others up. What is longer ago counts less."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held_s = 0.0
        self._holds = 0  # blobs for which it does now
        self._since = clock()

    @property
    def left_s(self) -> float:
        """Seconds that it may still hold the others up."""
        now = self._clock()
        passed, self._since = now - self._since, now
        self._held_s = self._held_s + passed if self._holds else max(0.0, self._held_s - FORGIVEN * passed)
        return PATIENCE_S - self._held_s

    @contextmanager
    def holding(self) -> Iterator[None]:
        """The block in which it does."""
        _ = self.left_s
        self._holds += 1
        try:
            yield
        finally:
            _ = self.left_s
            self._holds -= 1


class SharedBlob:
    """One large blob: first the targets meet, then it is read."""

    def __init__(self, reads: SharedReads, blob: Descriptor) -> None:
        self.blob = blob
        self._reads = reads
        self._name = f"{reads.source.name}@{blob.digest}"
        self._undecided = {
            target for target in reads.targets if target.shares and blob.digest not in target.settled
        }
        self._coming: set[TargetReads] = set()  # they need it, and their uploads are to begin
        self._here: list[Subscription] = []
        self.placed = asyncio.Event()
        """Set when the blob is read next: the uploads may begin."""
        self._has_begun = False
        self._given = 0
        self._is_over = False
        self._passed = asyncio.Event()  # set when more was given, and replaced
        self._kept: SpooledBlob | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        budget = reads.workshop.supply.budget
        most = min(QUEUE_PIECES, budget.slots // 16) // max(1, reads.workshop.sharing.reads)
        self._most_queued = max(PIECES_AT_ONCE, most)

    # -- for the targets ---------------------------------------------------------------------------------

    def need(self, target: TargetReads) -> bool:
        """The target needs the blob. False: it is too late to share it."""
        self._undecided.discard(target)
        if self._has_begun or not target.shares:
            self.changed()
            return False
        self._coming.add(target)
        if self._task is None:
            self._task = self._reads.spawn(self._run())
        self.changed()
        return True

    def decline(self, target: TargetReads) -> None:
        """The target has the blob, or will not have it, or reads it for itself."""
        self._undecided.discard(target)
        self._coming.discard(target)
        self.changed()

    def step_aside(self, target: TargetReads) -> None:
        """The others do not wait for the target for now."""
        self._undecided.discard(target)
        self.changed()

    def step_back(self, target: TargetReads) -> None:
        """The others may wait for it again, if it is not too late."""
        if not self._has_begun and target.shares:
            self._undecided.add(target)

    def leave(self, target: TargetReads) -> None:
        """The target is left behind."""
        self.decline(target)
        for subscription in self._here:
            if subscription.target is target:
                subscription.is_leaving = True

    def join(self, subscription: Subscription) -> bool:
        """The upload has begun. False: it is too late, the target reads for itself."""
        target = subscription.target
        is_expected = target in self._coming
        self._coming.discard(target)
        if self._has_begun or not is_expected or subscription.begin == self.blob.size:
            self.changed()
            return False
        self._here.append(subscription)
        self.changed()
        return True

    def left(self, subscription: Subscription) -> None:
        """The subscription was closed."""
        if subscription in self._here:
            self._here.remove(subscription)
            if self._has_begun and not self._here and self._task is not None:
                self._task.cancel()
            self.changed()

    def is_full(self, target: TargetReads) -> bool:
        """Whether nothing may be read on the target's account. One that takes no part does not count."""
        own = [each for each in self._here if each.target is target]
        return all(each.is_full(self._given, self._most_queued) for each in own)

    def changed(self) -> None:
        """Something happened that the reader may be waiting for."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def goes_on(self, stop: int) -> bool:
        """Wait until more is read. False: all before `stop` was read, or nothing more is, or not soon."""
        passed = self._passed
        if not self._has_begun or self._is_over or stop <= self._given:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(passed.wait(), PATIENCE_S)
        return passed.is_set()

    # -- the reading -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._has_begun:
                async with self._reads.place():
                    self.placed.set()
                    if await self._meet():
                        self._has_begun = True
                        self._reads.reading.add(self)
                        await self._read()
                        return
                self.placed.clear()
                while not self._coming and not self._here:
                    await self._change(())
        except Exception as failure:
            error = failure
        finally:
            self._has_begun = self._is_over = True
            self._reads.reading.discard(self)
            self._advance(self._given)
            self.placed.set()
            if self._given < self.blob.size:
                for subscription in self._here:
                    subscription.end(None, error or RuntimeError("the blob is read no further"))
            self._here.clear()

    async def _meet(self) -> bool:
        """Wait for the targets; False: no target needs the blob at present."""
        while self._coming or self._here:
            awaited = self._undecided | self._coming
            if not awaited:
                return True
            await self._change(awaited if self._here else ())
        return False

    async def _change(self, holding: Iterable[TargetReads], most_s: float = math.inf) -> None:
        """Wait until something happens, `most_s` at most. Meanwhile the targets `holding` the others up lose
        their patience.
        """
        holding = tuple(holding)
        self._wake = asyncio.get_running_loop().create_future()
        left_s = min([most_s, *(target.patience.left_s for target in holding)])
        try:
            with ExitStack() as stack:
                for target in holding:
                    stack.enter_context(target.patience.holding())
                await asyncio.wait({self._wake}, timeout=None if left_s == math.inf else left_s)
        finally:
            self._wake = None
        for target in holding:
            if target.patience.left_s <= 0:
                self._reads.leave(target)

    async def _read(self) -> None:
        """Read and hash the blob, and pass it to the targets that have joined."""
        size = self.blob.size
        if (file := self._reads.spool_file(self.blob)) is not None:
            self._kept = await file.claim(self._here[0].tally)
        boundary = self._common_boundary()
        start, verifier = self._start()
        self._given = start
        with during("fetch blob from", "source", self._name):
            source = blob_at(self._reads.source, self.blob)
        reader = self._reader(source, start, boundary)
        try:
            while self._given < size and await self._has_room(verifier):
                reader.allow(self._limit())
                with during("fetch blob from", "source", self._name):
                    pieces = await reader.next_pieces()  # network
                await self._pass_on(pieces, verifier, boundary)
        finally:
            await reader.close()

    def _reader(self, source: BlobSource, start: int, boundary: int | None) -> Reader:
        """The blob's bytes from `start` on: the source's, and those that the spool has."""
        supply, size = self._reads.workshop.supply, self.blob.size

        def read_source(start: int, limit: int | None) -> RangedReader:
            return RangedReader(
                source,
                size,
                supply,
                start=start,
                boundary=boundary,
                limit=limit,
                on_requested=self._requested,
                on_retry=self._read_failed,
            )

        if self._kept is None:
            return read_source(start, self._limit())
        from crossdock.transfer.spoolreader import SpooledReader  # only a copy with a spool loads it

        return SpooledReader(
            self._kept,
            read_source,
            supply,
            size,
            start=start,
            boundary=boundary,
            limit=self._limit(),
            chunk_size=self._reads.resuming.chunk_size,
            on_given=self._spooled,
        )

    def _start(self) -> tuple[int, BlobVerifier | None]:
        """The offset to begin at, and the digest's state there."""
        first = min(self._here, key=lambda each: each.begin)
        if not any(each.is_hashed for each in self._here):
            return first.begin, None
        can_resume = self._reads.resuming.keeps_states
        if not first.is_hashed and first.begin:
            return 0, BlobVerifier(self.blob, resumable=can_resume)
        return first.begin, BlobVerifier(self.blob, resumable=can_resume, state=first.state)

    def _common_boundary(self) -> int | None:
        """The boundary that no piece may cross. Targets with another boundary read for themselves."""
        found = {each.boundary for each in self._here if each.boundary is not None}
        if not found:
            return None
        common = math.gcd(*found)
        if common >= self._reads.workshop.supply.budget.slot_size or len(found) == 1:
            return common
        kept = min(found)
        for each in tuple(self._here):
            if each.boundary not in (None, kept):
                self._here.remove(each)
                each.end((each.begin, each.state))
        return kept

    def _limit(self) -> int | None:
        limit = min(each.limit for each in self._here)
        return None if limit == math.inf else int(limit)

    async def _has_room(self, verifier: BlobVerifier | None) -> bool:
        """Wait until every target can take more; False: no target is left."""
        while True:
            self._part_from_leaving(verifier)
            if not self._here:
                return False
            full = [each for each in self._here if each.is_full(self._given, self._most_queued)]
            if not full:
                return True
            is_awaited = any(each.is_waiting for each in self._here if each not in full)
            holding = [each.target for each in full if is_awaited and self._reads.is_full(each.target)]
            await self._change(holding, LOOK_S if is_awaited else math.inf)

    def _part_from_leaving(self, verifier: BlobVerifier | None) -> None:
        for each in tuple(self._here):
            if each.is_leaving:
                self._here.remove(each)
                rest: tuple[int, bytes | None] = self._given, None
                if each.is_hashed and verifier is not None:
                    rest = (self._given, verifier.export_state()) if verifier.can_export else (0, None)
                each.end(rest)

    async def _pass_on(
        self, pieces: Sequence[Piece], verifier: BlobVerifier | None, boundary: int | None
    ) -> None:
        workshop = self._reads.workshop
        state: bytes | None = None
        try:
            if workshop.paranoid:
                for piece in pieces:
                    piece.slot.mark(piece.slot_stop)
            keeping = keep(self._kept, pieces)
            try:
                if verifier is not None:
                    await workshop.hashing.update(verifier, *(piece.view for piece in pieces))
            finally:
                if keeping is not None:
                    await ended(keeping)
            if verifier is not None:
                state = self._state_after(pieces[-1].stop, verifier, boundary)
        except BaseException:
            for piece in pieces:
                workshop.supply.release(piece)
            raise
        self._advance(pieces[-1].stop)
        takers = tuple(self._here)
        for piece in pieces:
            shared = SharedPiece(piece, len(takers), workshop.supply)
            if not takers:
                workshop.supply.release(piece)
            for each in takers:
                is_end = piece.stop == self.blob.size or not (each.boundary and piece.stop % each.boundary)
                each.give(shared, state if piece is pieces[-1] and is_end else None)

    def _advance(self, given: int) -> None:
        """Everything before `given` has been read."""
        self._given = given
        passed, self._passed = self._passed, asyncio.Event()
        passed.set()

    def _state_after(self, stop: int, verifier: BlobVerifier, boundary: int | None) -> bytes | None:
        """The digest's state at a boundary or at the end, where it is compared."""
        is_last = stop == self.blob.size
        if is_last:
            with during("fetch blob from", "source", self._name):
                verifier.check()
        is_kept = boundary is not None and verifier.can_export and (stop % boundary == 0 or is_last)
        return verifier.export_state() if is_kept else None

    def _requested(self, count: int) -> None:
        for each in self._here:
            each.tally.requested(count)
        self._reads.shared_bytes += count * max(0, len(self._here) - 1)

    def _spooled(self, count: int) -> None:
        for each in self._here:
            each.tally.spooled(count)

    def _read_failed(self, error: CrossdockError) -> None:
        if self._here:
            self._here[0].tally.retried("source", "fetch blob", str(error))
