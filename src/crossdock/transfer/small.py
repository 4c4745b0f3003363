"""Moving one blob that fits a slot: one GET into the slot, verified there, sent from there.

The guarantees are those of `blob.BlobMove`: nothing reaches the target before size and digest are right,
transient errors are retried, and a failure drops the upload session. A blob that is whole in memory needs no
reader, pieces, queue, second task or states of the digest for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from crossdock._kernels import Slot
from crossdock.content import BlobSource, Source
from crossdock.errors import CrossdockError, ProtocolError, UploadInterrupted
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.transfer.budget import Memory
from crossdock.transfer.damage import check_mark, retry_wrong_content
from crossdock.transfer.inline import blob_at
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.sinks import MemorySink
from crossdock.transfer.upload import BlobUpload
from crossdock.transfer.workshop import Workshop
from crossdock.verify import BlobVerifier, verify_bytes

if TYPE_CHECKING:
    from crossdock.transfer.fanout import TargetReads

HASH_INLINE = 256 * 1024  # 180 µs of hashing; the thread may have four pieces of large blobs before it


class SmallMove:
    """One blob of at most a slot on its way from a source to a target."""

    def __init__(
        self,
        blob: Descriptor,
        source: Source,
        target: TargetSide,
        workshop: Workshop,
        tally: Tally,
        reads: TargetReads | None = None,
        *,
        finds: bool = False,
    ) -> None:
        """`reads`: the blob is read once for several targets. `finds`: the upload session finds out first
        whether the target has the blob (`content.FindsOnUpload`).
        """
        self._blob = blob
        self._source_name = f"{source.name}@{blob.digest}"
        self._source = source
        self._target = target
        self._workshop = workshop
        self._tally = tally
        self._reads = reads
        self._finds = finds
        self._is_hashed = reads is not None or not workshop.trusts(target, blob)

    async def run(self) -> bool:
        """Move the blob; False: the target was found to have it.

        Raises `CopyError`; on any failure the upload session is dropped.
        """
        if not self._finds:
            self._tally.started(self._blob)
        return await retry_wrong_content(self._attempt, self._blob, self._tally)

    async def _attempt(self) -> bool:
        blob = self._blob
        with during("push blob to", "target", f"{self._target.name}@{blob.digest}"):
            session = await self._target.target.start_upload(blob)
        upload = BlobUpload(session, blob, self._target.name, self._tally)
        try:
            if self._finds:
                if await upload.find():  # network
                    return False
                self._finds = False
                self._tally.started(blob)
            if blob.size:
                await self._through_slot(upload)
            else:
                await self._verify(memoryview(b""))
                await self._send(upload, memoryview(b""), None)
        except BaseException:
            await asyncio.shield(session.cancel())  # network, bounded by the session
            raise
        return True

    async def _through_slot(self, upload: BlobUpload) -> None:
        if self._reads is not None:
            upload.prepare()
            async with self._reads.whole(self._tally, self._blob, self._read) as slot:
                await self._send_slot(upload, slot)
            return
        slot = await self._read(upload.prepare)
        try:
            await self._send_slot(upload, slot)
        finally:
            self._workshop.supply.budget.release(slot)

    async def _read(self, prepare: Callable[[], None] = lambda: None) -> Memory:
        """The blob in memory, verified. `prepare` is called when the source is about to be asked."""
        supply = self._workshop.supply
        permits = supply.permits
        await supply.pay(self._blob.size)
        if permits.is_fixed:  # before the slot, as every reader does
            await permits.acquire(lambda: 0)
        try:
            slot = await supply.budget.lend(self._blob.size, marked=self._workshop.paranoid)
        except BaseException:
            if permits.is_fixed:
                permits.release()
            raise
        try:
            prepare()
            try:
                view = await self._fetch(slot)
            finally:
                if permits.is_fixed:
                    permits.release()
            if isinstance(slot, Slot) and self._workshop.paranoid:
                slot.mark(self._blob.size)
            await self._verify(view)
        except BaseException:
            supply.budget.release(slot)
            raise
        return slot

    async def _send_slot(self, upload: BlobUpload, slot: Memory) -> None:
        marked = slot if isinstance(slot, Slot) and self._workshop.paranoid else None
        await self._send(upload, slot.view[: self._blob.size], marked)

    async def _fetch(self, slot: Memory) -> memoryview:
        """The whole blob, in `slot`; with retries from where it broke."""
        landing = MemorySink(slot.view[: self._blob.size])
        network, failures = self._workshop.supply.network, list[CrossdockError]()  # in a row
        best = 0  # bytes that were here at once; a source without ranges begins again at 0
        with during("fetch blob from", "source", self._source_name):
            source = blob_at(self._source, self._blob)
            while landing.filled < self._blob.size:
                try:
                    await self._fetch_once(source, landing)
                except CrossdockError as error:
                    if landing.filled - best >= network.least_progress:
                        failures.clear()
                    failures.append(error)
                    delay_s = network.delay_after(failures)
                    best = max(best, landing.filled)
                    self._workshop.supply.permits.refused()
                    self._tally.retried("source", "fetch blob", str(error))
                    await asyncio.sleep(delay_s)
        return landing.view

    async def _fetch_once(self, source: BlobSource, landing: MemorySink) -> None:
        size = self._blob.size
        body = await source.open(landing.filled, size)  # network
        try:
            self._tally.requested(body.stop - body.start)
            if body.start > landing.filled or body.stop != size:
                raise ProtocolError(
                    f"requested bytes {landing.filled}-{size - 1}, "
                    f"the response has {body.start}-{body.stop - 1}"
                )
            landing.filled = body.start  # 0 when the source ignored the range: all of it again
            await body.receive(landing)  # network
        finally:
            body.close()

    async def _verify(self, view: memoryview) -> None:
        if not self._is_hashed:
            return
        with during("fetch blob from", "source", self._source_name):
            if self._blob.size <= HASH_INLINE:
                verify_bytes(view, self._blob)
                return
            verifier = BlobVerifier(self._blob)
            await self._workshop.hashing.update(verifier, view)
            verifier.check()

    async def _send(self, upload: BlobUpload, view: memoryview, marked: Slot | None) -> None:
        offset = 0
        while True:
            try:
                if offset < len(view):
                    await upload.append(view[offset:], len(view))  # network
                    if marked is not None:
                        check_mark(marked, self._blob, self._source_name)
                await upload.commit()  # network
                return
            except UploadInterrupted as interruption:
                offset = interruption.offset
                upload.interrupted(interruption)
