"""Moving one blob: read in ranges, hashed in order, sent from the same slots.

Two tasks with a short queue between them, so the next piece is hashed while this one is sent. The last piece
is given to the upload only after size and digest of the whole were found right, so a wrong blob is never
complete at the target.

When the target asks for earlier bytes again (`UploadInterrupted`), reading starts anew at the nearest offset
at or before it for which the digest's state was kept, and bytes the target already holds are hashed only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from crossdock._kernels import Slot
from crossdock.content import BlobSource, Source, UploadSession
from crossdock.errors import (
    CopyError,
    UploadInterrupted,
    root_cause,
)
from crossdock.oci.descriptor import Descriptor
from crossdock.transfer.inline import blob_at
from crossdock.transfer.parts import PipedPiece
from crossdock.transfer.pipes import IS_AVAILABLE, Pipes
from crossdock.transfer.ranges import AnyPiece, Piece, RangedReader
from crossdock.transfer.resume import Continuation, Resuming, is_wrong_content
from crossdock.transfer.sides import TargetSide, boundary_of, piped_of
from crossdock.transfer.spooling import Reader, Spooling
from crossdock.transfer.steps import during
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import ended, stop
from crossdock.transfer.workshop import Workshop
from crossdock.verify import BlobVerifier

QUEUE_PIECES = 4  # hashed and waiting to be sent, while the next as many are hashed


def note_interruption(interruption: UploadInterrupted, blob: Descriptor, target: str, tally: Tally) -> None:
    """Tell that the target asks for bytes of the blob again."""
    cause = interruption.cause or interruption
    tally.retried("target", "push blob", str(cause))
    if interruption.announce:
        tally.warn(
            f"upload of {blob.digest} to {target} had to start again at byte {interruption.offset}: {cause}"
        )
    tally.progress(blob, interruption.offset)


def check_mark(slot: Slot, blob: Descriptor, reference: str) -> None:
    """Raise `CopyError` when the slot's bytes are not those that were marked. `reference` is the source's."""
    try:
        slot.check()
    except BufferError as error:
        raise CopyError(
            f"buffer of {blob.digest} changed while it was in use: {error}",
            operation="move blob",
            side="source",
            reference=reference,
        ) from error


async def tried_again(attempt: Callable[[], Awaitable[None]], blob: Descriptor, tally: Tally) -> None:
    """Make the attempt; once more when the bytes turn out to be wrong, which damage on the way explains."""
    try:
        await attempt()
    except CopyError as error:
        if not is_wrong_content(error):
            raise
        operation = "fetch blob" if error.side == "source" else "push blob"
        tally.retried(error.side, operation, str(root_cause(error)))
        tally.progress(blob, 0)
        await attempt()


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
    ) -> None:
        self._blob = blob
        self._source_name = f"{source.name}@{blob.digest}"
        self._target_name = f"{target.name}@{blob.digest}"
        self._source = source
        self._target = target
        self._workshop = workshop
        self._tally = tally
        self._upload = Continuation(blob, self._source_name, target, resuming, tally)
        self._spooling = Spooling(blob, resuming, tally)
        self._is_verified = False

    async def run(self) -> None:
        """Move the blob. Raises `CopyError`; then the upload session is dropped, or kept for the next run."""
        async with self._upload, self._spooling:
            self._tally.started(self._blob)
            await tried_again(self._attempt, self._blob, self._tally)

    async def _attempt(self) -> None:
        self._is_verified = False
        with during("fetch blob from", "source", self._source_name):
            source = blob_at(self._source, self._blob)  # redirects are resolved again on a retry
        with during("push blob to", "target", self._target_name):
            session = await self._upload.start()
        try:
            with during("push blob to", "target", self._target_name):
                resume_at = await self._upload.take_up()  # network
            while True:
                try:
                    await self._feed_until_stopped(source, session, resume_at)
                    with during("push blob to", "target", self._target_name):
                        await session.commit()  # network
                    self._upload.committed()
                    await self._spooling.committed()
                    return
                except UploadInterrupted as interruption:
                    resume_at = interruption.offset
                    note_interruption(interruption, self._blob, self._target.name, self._tally)
        except BaseException as error:
            await asyncio.shield(self._abandon(session, error))  # network, bounded by the session
            raise

    async def _abandon(self, session: UploadSession, error: BaseException) -> None:
        await self._upload.abandon(session, error)
        await self._spooling.failed(error)

    async def _feed_until_stopped(self, source: BlobSource, session: UploadSession, resume_at: int) -> None:
        """`_feed`; cancelled, it is given time to come to the end of a request."""
        feeding = asyncio.ensure_future(self._feed(source, session, resume_at))
        try:
            await asyncio.wait({feeding})
        except asyncio.CancelledError:
            await self._upload.let_chunk_end(feeding)
            raise
        finally:
            await stop(feeding)
        feeding.result()

    async def _feed(self, source: BlobSource, session: UploadSession, resume_at: int) -> None:
        """Read, hash and send everything from `resume_at` on; `session` takes its bytes from there."""
        size = self._blob.size
        if self._is_verified and resume_at == size:
            return  # the target holds every byte that was verified; only its commit failed
        boundary = boundary_of(session)
        begin, verifier = resume_at, None
        if not self._workshop.trusts(self._target, self._blob):
            begin, state = self._upload.nearest_state(resume_at)
            verifier = BlobVerifier(self._blob, resumable=self._upload.keeps_states(session), state=state)
        if begin == size:
            self._check(verifier)
            return
        limit = self._upload.read_limit(session)
        pipes = self._pipes(session) if verifier is None else None
        reader = self._spooling.reader(
            lambda start, most: self._open_source(source, start, boundary, most, pipes),
            self._workshop.supply,
            begin,
            boundary,
            limit,
        )
        queue: asyncio.Queue[AnyPiece | BaseException] = asyncio.Queue(QUEUE_PIECES)
        hasher = asyncio.ensure_future(self._hash_all(reader, verifier, queue, boundary))
        try:
            sent = begin
            while sent < size and not self._upload.may_stop:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                await self._send(session, item, resume_at)
                reader.allow(self._upload.read_limit(session))
                sent = item.stop
        finally:
            await self._clear(reader, queue, hasher)

    def _open_source(
        self, source: BlobSource, start: int, boundary: int | None, limit: int | None, pipes: Pipes | None
    ) -> RangedReader:
        return RangedReader(
            source,
            self._blob.size,
            self._workshop.supply,
            start=start,
            boundary=boundary,
            limit=limit,
            pipes=pipes,
            on_requested=self._tally.requested,
            on_retry=lambda error: self._tally.retried("source", "fetch blob", str(error)),
        )

    def _pipes(self, session: UploadSession) -> Pipes | None:
        """The way for bytes that nobody here reads."""
        if not IS_AVAILABLE or self._workshop.paranoid or self._spooling.keeps:
            return None
        return Pipes(lambda: piped_of(session) is not None, self._workshop.supply.permits.held)

    async def _clear(
        self,
        reader: Reader,
        queue: asyncio.Queue[AnyPiece | BaseException],
        hasher: asyncio.Future[None],
    ) -> None:
        try:
            await stop(hasher)
        finally:
            while not queue.empty():
                item = queue.get_nowait()
                if not isinstance(item, BaseException):
                    self._workshop.supply.release(item)
            await reader.close()

    async def _hash_all(
        self,
        reader: Reader,
        verifier: BlobVerifier | None,
        queue: asyncio.Queue[AnyPiece | BaseException],
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
        self, pieces: Sequence[AnyPiece], verifier: BlobVerifier | None, boundary: int | None
    ) -> None:
        landed = [piece for piece in pieces if isinstance(piece, Piece)]  # all, where somebody reads them
        if self._workshop.paranoid:
            for piece in landed:
                piece.slot.mark(piece.slot_stop)
        stop = pieces[-1].stop
        keeping = self._spooling.keep(landed)
        try:
            if verifier is not None:
                await self._workshop.hashing.update(verifier, *(piece.view for piece in landed))
        finally:
            if keeping is not None:
                await ended(keeping)
        if verifier is not None:
            is_last = stop == self._blob.size
            if is_last:
                self._check(verifier)
            if boundary is not None and verifier.can_export and (stop % boundary == 0 or is_last):
                self._upload.keep_state(stop, verifier.export_state())
        self._is_verified = stop == self._blob.size

    def _check(self, verifier: BlobVerifier | None) -> None:
        if verifier is not None:
            with during("fetch blob from", "source", self._source_name):
                verifier.check()

    async def _send(self, session: UploadSession, piece: AnyPiece, resume_at: int) -> None:
        try:
            if isinstance(piece, PipedPiece):
                with during("push blob to", "target", self._target_name):
                    await piece.pipe_to(session)  # network
                self._tally.progress(self._blob, piece.stop)
                return
            view = piece.view
            if piece.offset < resume_at:
                view = view[min(len(view), resume_at - piece.offset) :]
            if len(view):
                with during("push blob to", "target", self._target_name):
                    await session.append(view)  # network
                self._tally.progress(self._blob, piece.stop)
            if self._workshop.paranoid:
                check_mark(piece.slot, self._blob, self._source_name)
        finally:
            self._workshop.supply.release(piece)
