"""One source for several targets: a blob's bytes are read and hashed once, for every target that lacks it.

Each target has a copy of its own (`image.ImageCopy`), which runs beside the others and differs from a single
one in where the bytes of a blob come from: large blobs from a `sharedread.SharedBlob`, blobs that fit a slot
from here (`TargetReads.whole`).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from crossdock.content import Source
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.tally import Tally
from crossdock.tasks import stop
from crossdock.transfer.blobcopy import LARGE_BLOBS_OF_A_COPY
from crossdock.transfer.budget import Memory
from crossdock.transfer.seats import Seat
from crossdock.transfer.sharedread import PATIENCE_S, Patience, SharedBlob
from crossdock.transfer.workshop import Resuming, Workshop

if TYPE_CHECKING:
    from crossdock.transfer.sharedspool import SharedFile, SharedSpool
    from crossdock.transfer.spooling import Spooling

KEPT_WHOLE = 32  # small blobs in memory that some target may still want, beside those being sent


class SharedReads:
    """The reads of one source for several targets. Use it in an ``async with`` block."""

    def __init__(
        self, source: Source, registries: Sequence[str], workshop: Workshop, resuming: Resuming
    ) -> None:
        """`registries` are those of the targets, one for each."""
        self.source = source
        registry = source.name.partition("/")[0]
        self.workshop = workshop.between(registry, "")
        self.resuming = resuming
        self.shared_bytes = 0
        """Bytes that were requested once and are counted by several targets: once too often for each."""
        self.targets = tuple(TargetReads(self, each) for each in registries)
        self._blobs: dict[Digest, SharedBlob] = {}
        self.reading: set[SharedBlob] = set()
        """Blobs that are being read."""
        self._wholes: dict[Digest, _Whole] = {}
        self._leads: dict[Digest, _Lead] = {}
        self._spool: SharedSpool | None = None
        if resuming.spool is not None:
            from crossdock.transfer.sharedspool import SharedSpool  # only a copy with a spool loads it

            self._spool = SharedSpool(resuming)
        self._most_kept = min(KEPT_WHOLE, workshop.supply.budget.slots // 8)
        limits = workshop.supply.limits
        connections = [limits.connections(each) if limits is not None else None for each in registries]
        # No more than every target can take at once.
        self._large = asyncio.Semaphore(
            min([LARGE_BLOBS_OF_A_COPY, *(each for each in connections if each is not None)])
        )
        self._owner = workshop.share, registry
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()  # reads belong to the run, not to one of its copies

    async def __aenter__(self) -> SharedReads:
        self.workshop.sharing.reads += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.workshop.sharing.reads -= 1
        try:
            await stop(*self._tasks)
        finally:
            for digest in tuple(self._wholes):
                self._forget(digest)
            for target in self.targets:
                target.is_over = True
            for digest in tuple(self._leads):
                self.arrived(digest)
            if self._spool is not None:
                await self._spool.close()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside the copies, until the block is left."""
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, since no task may be awaiting it any more

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """The block that reads a large blob, beside as many others as a single copy would read."""
        async with self._large, self.workshop.large.place(self._owner):
            yield

    def is_full(self, target: TargetReads) -> bool:
        """Whether the target's queues are full for every blob that is being read."""
        return all(blob.is_full(target) for blob in self.reading)

    def leave(self, target: TargetReads) -> None:
        """The target has held the others up for too long: from now on it reads for itself."""
        target.is_behind = True
        for blob in self._blobs.values():
            blob.leave(target)

    def blob(self, blob: Descriptor) -> SharedBlob:
        """The read of a large blob."""
        shared = self._blobs.get(blob.digest)
        if shared is None:
            shared = self._blobs[blob.digest] = SharedBlob(self, blob)
        return shared

    # -- blobs that other copies need as well --------------------------------------------------------------

    async def follow(self, target: TargetReads, digest: Digest) -> None:
        """Return when the copy that needs the blob before all others has begun it at the target's registry.

        Else one copy might bring it to one target, and another copy to the other: then it is read twice.
        """
        leads = self.workshop.sharing.leads
        lead = leads.get((*self._owner, digest))
        if lead is None:
            lead = leads[(*self._owner, digest)] = self._leads[digest] = _Lead(self, digest)
        if lead.reads is not self:
            await lead.begun(target.registry)

    def arrived(self, digest: Digest) -> None:
        """A target has begun the blob, or will not need it."""
        lead = self._leads.get(digest)
        if lead is not None and lead.is_over():
            del self._leads[digest], self.workshop.sharing.leads[(*self._owner, digest)]

    def spool_file(self, blob: Descriptor) -> SharedFile | None:
        """The file of a large blob in the spool; None: it is not kept there."""
        if self._spool is None:
            return None
        lacking = {each for each in self.targets if not each.is_over and blob.digest not in each.settled}
        return self._spool.file(self.blob(blob), lacking)

    def spooling(self, target: TargetReads, blob: Descriptor, tally: Tally) -> Spooling | None:
        """As `TargetReads.spooling`."""
        file = self.spool_file(blob)
        return file.use(target, tally) if file is not None else None

    def unspool(self, target: TargetReads, digest: Digest | None = None) -> None:
        """The target has the blob, or will not have it; without a digest: any blob."""
        if self._spool is not None and self._spool.settled(target, digest):
            self.spawn(self._spool.close_ended())

    # -- blobs that fit a slot -----------------------------------------------------------------------------

    @asynccontextmanager
    async def whole(
        self, target: TargetReads, tally: Tally, blob: Descriptor, read: Callable[[], Awaitable[Memory]]
    ) -> AsyncIterator[Memory]:
        """The block in which the slot with the blob's bytes may be read; the first target calls `read`."""
        whole = self._wholes.get(blob.digest)
        if whole is None:
            wanting = {each for each in self.targets if each.shares and blob.digest not in each.settled}
            whole = self._wholes[blob.digest] = _Whole(wanting)
            whole.task = self.spawn(self._read_whole(whole, blob.digest, read))
        else:
            tally.requested(blob.size)
            self.shared_bytes += blob.size
        whole.users += 1
        self.workshop.sharing.idle.pop(whole, None)
        try:
            assert whole.task is not None
            yield await asyncio.shield(whole.task)
        finally:
            whole.users -= 1
            whole.wanting.discard(target)
            self._keep(blob.digest, whole)
            whole.end_if_unused(self.workshop)

    async def _read_whole(
        self, whole: _Whole, digest: Digest, read: Callable[[], Awaitable[Memory]]
    ) -> Memory:
        try:
            slot = whole.slot = await read()
        except BaseException:
            if self._wholes.get(digest) is whole:  # who tries again reads it again
                self._forget(digest)
            raise
        whole.end_if_unused(self.workshop)
        return slot

    def settled(self, target: TargetReads, digest: Digest) -> None:
        """The target has the small blob, or will not have it."""
        whole = self._wholes.get(digest)
        if whole is not None:
            whole.wanting.discard(target)
            if not whole.wanting and not whole.users:
                self._forget(digest)

    def _keep(self, digest: Digest, whole: _Whole) -> None:
        """Keep what some target may still want, within the bound for all reads; forget the oldest."""
        if whole.users or self._wholes.get(digest) is not whole:
            return
        if not whole.wanting:
            self._forget(digest)
            return
        idle = self.workshop.sharing.idle
        idle[whole] = partial(self._forget, digest)
        while len(idle) > self._most_kept:
            next(iter(idle.values()))()

    def _forget(self, digest: Digest) -> None:
        whole = self._wholes.pop(digest)
        self.workshop.sharing.idle.pop(whole, None)
        whole.is_forgotten = True
        whole.end_if_unused(self.workshop)


class _Lead:
    """The copies to several targets that needed a blob first. Copies of other images let them begin it."""

    def __init__(self, reads: SharedReads, digest: Digest) -> None:
        self.reads = reads
        self._digest = digest
        self._waiting: dict[str, asyncio.Future[None]] = {}  # by the target's registry

    async def begun(self, registry: str) -> None:
        """Wait for that at one registry. The wait is short, since two copies may wait for each other."""
        if registry in self._lacking():
            found = self._waiting.get(registry) or asyncio.get_running_loop().create_future()
            self._waiting[registry] = found
            await asyncio.wait({found}, timeout=PATIENCE_S)

    def is_over(self) -> bool:
        """Whether it has begun everywhere. Those who need not wait any more are woken."""
        lacking = self._lacking()
        for registry in [each for each in self._waiting if each not in lacking]:
            self._waiting.pop(registry).set_result(None)
        return not lacking

    def _lacking(self) -> set[str]:
        return {
            each.registry for each in self.reads.targets if each.shares and self._digest not in each.begun
        }


class _Whole:
    """A small blob in a slot, or on its way there."""

    __slots__ = ("is_forgotten", "slot", "task", "users", "wanting")

    def __init__(self, wanting: set[TargetReads]) -> None:
        self.wanting = wanting  # may still ask for it
        self.users = 0
        self.is_forgotten = False
        self.slot: Memory | None = None
        self.task: asyncio.Task[Memory] | None = None

    def end_if_unused(self, workshop: Workshop) -> None:
        """Give the slot back when no target uses it and no other can request it."""
        if self.users or not self.is_forgotten:
            return
        slot, self.slot = self.slot, None
        if slot is not None:
            workshop.supply.budget.release(slot)
        elif self.task is not None and not self.task.done():
            self.task.cancel()


class TargetReads:
    """One target's part in the shared reads."""

    def __init__(self, reads: SharedReads, registry: str) -> None:
        self.registry = registry
        self.patience = Patience()
        self.is_behind = False
        """Whether it held the others up, and reads for itself."""
        self.is_over = False
        """Whether its copy has ended."""
        self.settled: set[Digest] = set()
        self.begun: set[Digest] = set()
        """Blobs whose turn it has waited for, or that it has."""
        self._reads = reads

    @property
    def shares(self) -> bool:
        """Whether it may still need what the others read."""
        return not (self.is_over or self.is_behind)

    def end(self) -> None:
        """Its copy has ended, well or not."""
        self.is_over = True
        for blob in self._reads._blobs.values():
            blob.decline(self)
        self._reads.unspool(self)
        for digest in tuple(self._reads._wholes):
            self._reads.settled(self, digest)
        for digest in tuple(self._reads._leads):
            self._reads.arrived(digest)

    def settle(self, blob: Descriptor) -> None:
        """It has the blob, or failed to get it."""
        self.settled.add(blob.digest)
        self._begin(blob)
        if self._is_small(blob):
            self._reads.settled(self, blob.digest)
        else:
            self._reads.blob(blob).decline(self)
            self._reads.unspool(self, blob.digest)

    def step_aside(self, blob: Descriptor) -> None:
        """It waits for another copy to bring the blob; until `step_back` the others do not wait for it."""
        if not self._is_small(blob):
            self._reads.blob(blob).step_aside(self)

    def step_back(self, blob: Descriptor) -> None:
        """It no longer waits for another copy."""
        if not self._is_small(blob):
            self._reads.blob(blob).step_back(self)

    @asynccontextmanager
    async def in_turn(self, blob: Descriptor, turn: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
        """`turn`; while it waits to enter, the others do not wait for it."""
        self.step_aside(blob)
        self._begin(blob)
        async with turn:
            self.step_back(blob)
            yield

    async def follow(self, blob: Descriptor) -> None:
        """As `SharedReads.follow`, before anything is held that other copies need."""
        await self._reads.follow(self, blob.digest)

    def _begin(self, blob: Descriptor) -> None:
        self.begun.add(blob.digest)
        self._reads.arrived(blob.digest)

    def need(self, blob: Descriptor, registry: str) -> Seat | None:
        """The seat of this target, at `registry`, which needs the blob; None: it is too late to share it."""
        shared = self._reads.blob(blob)
        limits = self._reads.workshop.supply.limits
        pace = limits.of_shared_bytes(registry) if limits is not None else None
        return Seat(shared, self, pace) if shared.need(self) else None

    def spooling(self, blob: Descriptor, tally: Tally) -> Spooling | None:
        """Its use of the spool, for a large blob; None: there is no spool."""
        return self._reads.spooling(self, blob, tally)

    def whole(
        self, tally: Tally, blob: Descriptor, read: Callable[[], Awaitable[Memory]]
    ) -> AbstractAsyncContextManager[Memory]:
        """As `SharedReads.whole`."""
        return self._reads.whole(self, tally, blob, read)

    def _is_small(self, blob: Descriptor) -> bool:
        return blob.size <= self._reads.workshop.supply.budget.slot_size
