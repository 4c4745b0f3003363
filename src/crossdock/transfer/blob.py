"""Moving one blob: read in ranges, hashed in order, sent from the same slots.

Two tasks with a short queue between them, so the next piece is hashed while this one is sent. The last piece
is given to the upload only after size and digest of the whole were found right, so a wrong blob is never
complete at the target.

When the target requests earlier bytes again (`UploadInterrupted`), reading restarts at the nearest offset at
or before it for which the digest's state was kept, and bytes the target already holds are only hashed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossdock.content import BlobSource, Source
from crossdock.errors import CrossdockError, UploadInterrupted
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tally import Tally
from crossdock.tasks import ended, stop
from crossdock.transfer.damage import check_mark, retry_wrong_content
from crossdock.transfer.inline import blob_at
from crossdock.transfer.ranges import RangedReader
from crossdock.transfer.resume import Resumption
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.spooling import Spooling
from crossdock.transfer.supply import Piece
from crossdock.transfer.upload import BlobUpload
from crossdock.transfer.workshop import Resuming, Workshop
from crossdock.verify import BlobVerifier

if TYPE_CHECKING:
    from crossdock.transfer.seats import Seat
    from crossdock.transfer.spoolreader import SpooledReader

    Reader = RangedReader | SpooledReader

QUEUE_PIECES = 4  # hashed and waiting to be sent, while the next as many are hashed


class BlobMove:
    """One blob on its way from a source to a target."""

    def __init__(
        self,
        blob: Descriptor,
        source: Source,
        target: TargetSide,
        workshop: Workshop,
        resuming: Resuming,
        tally: Tally,
        seat: Seat | None = None,
        spooling: Spooling | None = None,
    ) -> None:
        """`seat` is the target's in a read for several targets, `spooling` its use of their spool."""
        self._blob = blob
        self._source_name = f"{source.name}@{blob.digest}"
        self._source = source
        self._target = target
        self._workshop = workshop
        self._tally = tally
        self._seat = seat
        self._resumption = Resumption(blob, self._source_name, target, resuming, tally)
        self._spooling = spooling or Spooling(blob, resuming, tally)
        self._is_hashed = not workshop.trusts(target, blob)
        self._is_verified = False

    async def run(self) -> None:
        """Move the blob. Raises `CopyError`; then the upload session is dropped, or kept for the next run."""
        async with self._resumption, self._spooling:
            self._tally.started(self._blob)
            await retry_wrong_content(self._attempt, self._blob, self._tally)

    async def _attempt(self) -> None:
        self._is_verified = False
        with during("fetch blob from", "source", self._source_name):
            source = blob_at(self._source, self._blob)  # redirects are resolved again on a retry
        with during("push blob to", "target", f"{self._target.name}@{self._blob.digest}"):
            session = await self._resumption.start()
        upload = BlobUpload(session, self._blob, self._target.name, self._tally)
        try:
            with during("push blob to", "target", upload.reference):
                resume_at = await self._resumption.resume()  # network
            while True:
                try:
                    await self._feed_until_stopped(source, upload, resume_at)
                    await upload.commit()  # network
                    self._resumption.committed()
                    await self._spooling.committed()
                    return
                except UploadInterrupted as interruption:
                    resume_at = interruption.offset
                    upload.interrupted(interruption)
        except BaseException as error:
            await asyncio.shield(self._abandon(upload, error))  # network, bounded by the session
            raise

    async def _abandon(self, upload: BlobUpload, error: BaseException) -> None:
        await self._resumption.abandon(upload.session, error)
        await self._spooling.failed(error)

    async def _feed_until_stopped(self, source: BlobSource, upload: BlobUpload, resume_at: int) -> None:
        """`_feed`; when cancelled, it may finish the request under way."""
        feeding = asyncio.ensure_future(self._feed(source, upload, resume_at))
        try:
            await asyncio.wait({feeding})
        except asyncio.CancelledError:
            await self._resumption.let_chunk_end(feeding)
            raise
        finally:
            await stop(feeding)
        feeding.result()

    async def _feed(self, source: BlobSource, upload: BlobUpload, resume_at: int) -> None:
        """Read, hash and send everything from `resume_at` on; `upload` takes its bytes from there."""
        size, boundary = self._blob.size, upload.boundary
        if self._is_verified and resume_at == size:
            return  # the target holds every byte that was verified; only its commit failed
        begin, state, verifier = resume_at, None, None
        if self._is_hashed:
            begin, state = self._resumption.nearest_state(resume_at)
        seat, self._seat = self._seat, None
        if seat is not None:
            rest = await self._feed_shared(seat, upload, resume_at, begin, state)
            if rest is None:
                return
            resume_at, begin, state = rest
        if self._is_hashed:
            keeps_states = self._resumption.keeps_states(boundary)
            verifier = BlobVerifier(self._blob, resumable=keeps_states, state=state)
        if begin == size:
            self._check(verifier)
            return
        reader = self._reader(source, begin, boundary)
        queue: asyncio.Queue[Piece | BaseException] = asyncio.Queue(QUEUE_PIECES)
        hasher = asyncio.ensure_future(self._hash_all(reader, verifier, queue, boundary))
        try:
            sent = begin
            while sent < size and not self._resumption.may_stop:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                try:
                    await self._send(upload, item, resume_at)
                finally:
                    self._workshop.supply.release(item)
                reader.allow(self._resumption.read_limit(boundary))
                sent = item.stop
        finally:
            await self._clear(reader, queue, hasher)

    async def _feed_shared(
        self, seat: Seat, upload: BlobUpload, resume_at: int, begin: int, state: bytes | None
    ) -> tuple[int, int, bytes | None] | None:
        """Send what is read for several targets, from `begin` on, where the digest has the `state`.

        Returns where this target has to read on by itself (`resume_at`, `begin`, `state`); None: nowhere.
        """
        resumption, boundary = self._resumption, upload.boundary
        subscription = seat.subscribe(
            self._tally,
            begin=begin,
            state=state,
            is_hashed=self._is_hashed,
            boundary=boundary,
            limit=resumption.read_limit(boundary),
            on_state=resumption.keep_state if resumption.keeps_states(boundary) else None,
        )
        if subscription is None:
            return resume_at, begin, state
        try:
            while subscription.position < self._blob.size and not resumption.may_stop:
                piece = await subscription.next_piece()
                if piece is None:
                    begin, state = subscription.rest or (begin, state)
                    return max(resume_at, subscription.position), begin, state
                await seat.pay(len(piece.view))
                self._is_verified = piece.stop == self._blob.size
                await self._send(upload, piece, resume_at)
                subscription.allow(resumption.read_limit(boundary))
            return None
        finally:
            subscription.close()

    # -- reading -----------------------------------------------------------------------------------------

    def _reader(self, source: BlobSource, start: int, boundary: int | None) -> Reader:
        """The blob's bytes from `start` on: the source's, and those that the spool has."""
        supply, limit = self._workshop.supply, self._resumption.read_limit(boundary)

        def read_source(start: int, limit: int | None) -> RangedReader:
            return RangedReader(
                source,
                self._blob.size,
                supply,
                start=start,
                boundary=boundary,
                limit=limit,
                on_requested=self._tally.requested,
                on_retry=self._read_failed,
            )

        if self._spooling.kept is None:
            return read_source(start, limit)
        from crossdock.transfer.spoolreader import SpooledReader  # only a copy with a spool loads it

        return SpooledReader(
            self._spooling.kept,
            read_source,
            supply,
            self._blob.size,
            start=start,
            boundary=boundary,
            limit=limit,
            chunk_size=self._spooling.chunk_size,
            on_given=self._tally.spooled,
            brought=self._spooling.brought,
        )

    def _read_failed(self, error: CrossdockError) -> None:
        self._tally.retried("source", "fetch blob", str(error))

    async def _clear(
        self, reader: Reader, queue: asyncio.Queue[Piece | BaseException], hasher: asyncio.Future[None]
    ) -> None:
        try:
            await stop(hasher)
        finally:
            while not queue.empty():
                item = queue.get_nowait()
                if not isinstance(item, BaseException):
                    self._workshop.supply.release(item)
            await reader.close()

    # -- hashing -----------------------------------------------------------------------------------------

    async def _hash_all(
        self,
        reader: Reader,
        verifier: BlobVerifier | None,
        queue: asyncio.Queue[Piece | BaseException],
        boundary: int | None,
    ) -> None:
        """Hash the pieces in order and queue each to be sent; a failure is queued behind them."""
        try:
            while True:
                with during("fetch blob from", "source", self._source_name):
                    pieces = list(await reader.next_pieces())  # network
                if not pieces:
                    return
                try:
                    await self._hash(pieces, verifier, boundary)
                    while pieces:
                        await queue.put(pieces[0])
                        del pieces[0]
                except BaseException:
                    for piece in pieces:
                        self._workshop.supply.release(piece)
                    raise
        except Exception as error:
            await queue.put(error)

    async def _hash(
        self, pieces: Sequence[Piece], verifier: BlobVerifier | None, boundary: int | None
    ) -> None:
        if self._workshop.paranoid:
            for piece in pieces:
                piece.slot.mark(piece.slot_stop)
        stop = pieces[-1].stop
        keeping = self._spooling.keep(pieces)
        try:
            if verifier is not None:
                await self._workshop.hashing.update(verifier, *(piece.view for piece in pieces))
        finally:
            if keeping is not None:
                await ended(keeping)
        if verifier is not None:
            is_last = stop == self._blob.size
            if is_last:
                self._check(verifier)
            if boundary is not None and verifier.can_export and (stop % boundary == 0 or is_last):
                self._resumption.keep_state(stop, verifier.export_state())
        self._is_verified = stop == self._blob.size

    def _check(self, verifier: BlobVerifier | None) -> None:
        if verifier is not None:
            with during("fetch blob from", "source", self._source_name):
                verifier.check()

    # -- sending -----------------------------------------------------------------------------------------

    async def _send(self, upload: BlobUpload, piece: Piece, resume_at: int) -> None:
        """Send the piece, without what the target has already."""
        view = piece.view
        if piece.offset < resume_at:
            view = view[min(len(view), resume_at - piece.offset) :]
        if len(view):
            await upload.append(view, piece.stop)  # network
        if self._workshop.paranoid:
            check_mark(piece.slot, self._blob, self._source_name)
