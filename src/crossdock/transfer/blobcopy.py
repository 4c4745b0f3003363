"""The blobs of one copy: found at the target, mounted there, or moved; each once.

Rules:

1. A blob is looked for before it is moved, unless this process has seen it there as a blob.
   A small one is looked for by its upload, where the target can do that (`content.FindsOnUpload`).
2. A blob that the target only promised (HEAD, or 201 to a mount) is moved after all when the target then
   refuses the manifest because of it. That happens once for each blob of a copy (`copy_promised`).
3. With ``verify="reread"`` a blob counts as present only after it was read back. One that is there with wrong
   bytes is moved again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from crossdock.content import Mounts, Source
from crossdock.errors import ContentError, CopyError, CrossdockError, NotFound
from crossdock.events import BlobOutcome
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import run_together
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.workshop import Resuming, Workshop

if TYPE_CHECKING:
    from crossdock.transfer.fanout import TargetReads

CHECKS_AT_ONCE = 16
LARGE_BLOBS_OF_A_COPY = 4  # crane's default for layers; they share the source connections


class BlobCopies:
    """The blobs of one copy on their way to one target."""

    def __init__(
        self,
        source: Source,
        target: TargetSide,
        workshop: Workshop,
        resuming: Resuming,
        tally: Tally,
        mount_from: tuple[str, ...],
        reads: TargetReads | None = None,
    ) -> None:
        """`mount_from`: other repositories of the target's registry that may have the blobs. `reads`: the
        source is read for several targets, of which this is one.
        """
        self._source = source
        self._target = target
        self._registry, self._target_registry = (each.name.partition("/")[0] for each in (source, target))
        self._workshop = workshop = workshop.between(self._registry, self._target_registry)
        self._resuming = resuming
        self._tally = tally
        self._mount_from = mount_from
        self._reads = reads
        self._outcomes: dict[Digest, BlobOutcome] = {}
        self._again: dict[Digest, asyncio.Future[None]] = {}  # promised by the target, and missed later
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        # Of places in the workshop. One of several registries that is slow keeps no other out.
        self._owner = workshop.share, self._registry, self._target_registry if reads is not None else ""
        self._large = asyncio.Semaphore(LARGE_BLOBS_OF_A_COPY)

    def copied_any(self, blobs: Iterable[Descriptor]) -> bool:
        """Whether this copy had to copy one of `blobs`."""
        return any(self._outcomes.get(blob.digest, "skipped") != "skipped" for blob in blobs)

    def skip(self, blob: Descriptor) -> None:
        """Count a blob that the target has because it has the manifest."""
        self._done(blob, "skipped")
        if self._reads is not None:
            self._reads.settle(blob)

    def claim(self, blobs: list[Descriptor]) -> AbstractContextManager[None]:
        """The block that copies these blobs of one manifest.

        A copy that may have to wait for others first claims nothing: see `copy`.
        """
        mounts = self._mounts
        if mounts is None or self._reads is not None or self._tally.lags:
            return nullcontext()
        return mounts.claim(blobs, self._registry)

    async def copy(self, blob: Descriptor) -> None:
        """Make sure that the target has the blob; one copy of the process at a time. # network"""
        if self._tally.lags:  # here nothing is held that another copy needs
            await self._tally.room()
        shared, key, reads = self._workshop.blobs, (self._registry, self._key(blob)), self._reads
        if reads is not None:
            reads.step_aside(blob)
            if self._is_nowhere(blob):
                await reads.follow(blob)
        await shared.begin(*key)
        try:
            if reads is not None:
                reads.step_back(blob)
            outcome = await self._copy_missing(blob)
            self._done(blob, outcome)
            if outcome != "skipped" and self._resuming.journal is not None:
                name = self._target.name
                self._resuming.journal.finished("blob", name, str(blob.digest), blob.size)
        finally:
            shared.end(*key)
            if reads is not None:
                reads.settle(blob)

    async def copy_promised(self, blobs: list[Descriptor], missed: frozenset[str]) -> bool:
        """Move those of `blobs` that the target promised and now misses; False: there are none. # network

        `missed` are the digests that its refusal names; none: it can mean each of them.
        """
        blobs = [blob for blob in blobs if not missed or str(blob.digest) in missed]
        others = [self._again[blob.digest] for blob in blobs if blob.digest in self._again]
        promised = [
            blob
            for blob in blobs
            if blob.digest not in self._again and self._outcomes.get(blob.digest) in ("skipped", "mounted")
        ]
        for blob in promised:
            self._again[blob.digest] = asyncio.get_running_loop().create_future()
        await run_together([self._copy_again(blob) for blob in promised])
        for other in others:  # another manifest of the copy lacked it as well
            await asyncio.shield(other)
        return bool(promised or others)

    async def _copy_again(self, blob: Descriptor) -> None:
        done = self._again[blob.digest]
        name = f"{self._target.name}@{blob.digest}"
        self._tally.retried("target", "push blob", f"{name} was reported as present and is missing")
        try:
            await self.copy(blob)
        finally:
            done.set_result(None)

    # -- inside ------------------------------------------------------------------------------------------

    def _key(self, blob: Descriptor) -> tuple[str, str]:
        return self._target.name, str(blob.digest)

    def _done(self, blob: Descriptor, outcome: BlobOutcome) -> None:
        before = self._outcomes.get(blob.digest)
        self._outcomes[blob.digest] = outcome
        self._tally.blob_done(blob, outcome, before)

    async def _copy_missing(self, blob: Descriptor) -> BlobOutcome:
        finds = self._is_found_on_upload(blob)
        if not finds and await self._is_there(blob):
            return "skipped"
        async with self._turn(blob):
            if await self._mount(blob) and await self._is_sound(blob):  # holds no place: it may wait
                return "mounted"
            return await self._move(blob, finds=finds)

    def _is_found_on_upload(self, blob: Descriptor) -> bool:
        """Whether the blob's upload is to find out if the target has it.

        It is not if the answer has to be certain, or if several targets first agree on who needs the blob.
        """
        workshop = self._workshop
        if self._reads is not None or workshop.checks_blobs or workshop.verify == "reread":
            return False
        is_new = blob.digest not in self._again and self._is_small(blob)
        return is_new and self._target.finds_on_upload(blob)

    async def _is_there(self, blob: Descriptor) -> bool:
        if blob.digest in self._again:
            return False
        if not self._target.knows_blob(blob):
            with during("check blob at", "target", f"{self._target.name}@{blob.digest}"):
                async with self._checks:
                    if not await self._target.target.has_blob(blob):  # network
                        return False
        return await self._is_sound(blob)

    async def _is_sound(self, blob: Descriptor) -> bool:
        """Whether what was mounted is what was asked for, if that is to be read back. # network"""
        if self._workshop.verify != "reread":
            return True
        async with self._place(blob):
            return await self._reads_back(blob)

    async def _reads_back(self, blob: Descriptor) -> bool:
        """Whether the target really has the blob. It is read once per process. # network"""
        if self._workshop.blobs.was_read_back(self._key(blob)):
            return True
        from crossdock.transfer.reread import reread_blob  # only needed for verify="reread"

        try:
            await reread_blob(blob, self._target, self._workshop, self._tally)
        except CopyError as error:
            if not isinstance(error.cause, (ContentError, NotFound)):
                raise
            self._tally.warn(
                f"{self._target.name}@{blob.digest} is damaged and is pushed again: {error.cause}"
            )
            return False
        self._workshop.blobs.note_read_back(self._key(blob))
        return True

    @property
    def _mounts(self) -> Mounts | None:
        """Where blobs are brought for other repositories; None: all blobs are in its registry already."""
        return None if self._mount_from else self._target.mounts

    def _is_nowhere(self, blob: Descriptor) -> bool:
        """Whether no repository of the target's registry is known to have it, so that one copy brings it and
        others mount it.
        """
        mounts = self._mounts
        if mounts is None or self._target.knows_blob(blob):
            return False
        return mounts.other_repository(blob) is None

    def _turn(self, blob: Descriptor) -> AbstractAsyncContextManager[None]:
        mounts = self._mounts
        if mounts is None:
            return nullcontext()
        # By the source's registry: one that is slow or silent keeps no copy waiting that reads elsewhere.
        turn = mounts.turn(blob, self._registry)
        return turn if self._reads is None else self._reads.in_turn(blob, turn)

    async def _move(self, blob: Descriptor, *, finds: bool) -> BlobOutcome:
        if self._reads is not None:
            return await self._move_shared(blob, self._reads)
        parts = (blob, self._source, self._target, self._workshop)
        rereads = self._workshop.verify == "reread"
        async with self._place(blob):
            # Loaded with the first blob that moves, since most targets already have everything.
            if self._is_small(blob):
                from crossdock.transfer.small import SmallMove

                if not await SmallMove(*parts, self._tally, finds=finds).run():
                    return "skipped"
            else:
                from crossdock.transfer.blob import BlobMove

                await BlobMove(*parts, self._resuming, self._tally).run()
            if rereads:
                await self._reread(blob)
        return "moved"

    async def _move_shared(self, blob: Descriptor, reads: TargetReads) -> BlobOutcome:
        """As `_move`, of bytes that are read once for several targets."""
        from crossdock.transfer.blob import BlobMove
        from crossdock.transfer.small import SmallMove

        parts = (blob, self._source, self._target, self._workshop)
        rereads = self._workshop.verify == "reread"
        async with self._checks:
            is_mounted = await self._mount(blob)
        if is_mounted and (not rereads or await self._reads_back(blob)):
            return "mounted"
        seat = None if self._is_small(blob) else reads.need(blob, self._target_registry)
        if seat is not None:
            await seat.turn()
        async with self._place(blob, is_read=seat is None):
            if self._is_small(blob):
                await SmallMove(*parts, self._tally, reads).run()
            else:
                spooling = reads.spooling(blob, self._tally)
                await BlobMove(*parts, self._resuming, self._tally, seat, spooling).run()
            if rereads:
                await self._reread(blob)
        return "moved"

    def _is_small(self, blob: Descriptor) -> bool:
        return blob.size <= self._workshop.supply.budget.slot_size

    @asynccontextmanager
    async def _place(self, blob: Descriptor, *, is_read: bool = True) -> AsyncIterator[None]:
        """The block that moves the blob or reads it back, beside as many others as there may be.

        Without `is_read` another one, which has a place, reads it.
        """
        if self._is_small(blob):
            async with self._workshop.small.place(self._owner):
                yield
        else:
            limits = self._workshop.supply.limits
            turn = limits.upload_turn(self._target_registry) if limits is not None else nullcontext()
            place = self._workshop.large.place(self._owner) if is_read else nullcontext()
            async with self._large, turn, place:
                yield

    async def _reread(self, blob: Descriptor) -> None:
        from crossdock.transfer.reread import reread_blob  # only needed for verify="reread"

        try:
            await reread_blob(blob, self._target, self._workshop, self._tally)
        except CopyError as error:
            if isinstance(error.cause, ContentError):
                self._workshop.blobs.note_damage(self._key(blob), error)
            raise
        self._workshop.blobs.note_read_back(self._key(blob))

    async def _mount(self, blob: Descriptor) -> bool:
        """Whether another repository of the target's registry gave it. A refusal only costs the upload."""
        mounts = self._target.mounts
        if mounts is None or blob.digest in self._again:
            return False
        known = mounts.other_repository(blob)
        for repository in self._mount_from or ((known,) if known is not None else ()):
            try:
                if await mounts.mount(blob, repository):  # network
                    return True
            except CrossdockError as error:
                self._tally.retried("target", "mount blob", str(error))
        return False
