"""Moving one blob: read in ranges, hashed in order, sent from the same slots.

Two tasks with a short queue between them, so the next piece is hashed while this one is sent. The last piece
is given to the upload only after size and digest of the whole were found right, so a wrong blob is never
complete at the target.

When the target asks for earlier bytes again (`UploadInterrupted`), reading starts anew at the nearest offset
at or before it for which the digest's state was kept, and bytes the target already holds are hashed only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct, field

from crossdock._kernels import Slot
from crossdock.content import BlobSource, Source, Target, UploadSession
from crossdock.errors import (
    Cancelled,
    ContentError,
    CopyError,
    CrossdockError,
    Side,
    UploadInterrupted,
)
from crossdock.events import BlobStarted
from crossdock.oci.descriptor import Descriptor
from crossdock.options import Verify
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.ranges import Piece, RangedReader, Supply
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import stop
from crossdock.verify import BlobVerifier

QUEUE_PIECES = 4  # hashed and waiting to be sent, while the next as many are hashed
SMALL_BLOBS_AT_ONCE = 32  # of all copies; each is two or three requests that wait, and holds one slot
LARGE_BLOBS_AT_ONCE = 8  # of all copies: with more, uploads that wait for bytes would hold all connections
KEPT_STATES = 4  # digest states at the last acknowledged boundaries


@contextmanager
def during(operation: str, side: Side, reference: str) -> Iterator[None]:
    """Turn a lower error into the `CopyError` that says which operation and side it ended."""
    try:
        yield
    except (CopyError, Cancelled, UploadInterrupted):
        raise
    except CrossdockError as error:
        raise CopyError(
            f"{operation} {side} {reference}: {error}",
            hint=error.hint,
            operation=operation,
            side=side,
            reference=reference,
            cause=error,
        ) from error


Underway = dict[tuple[str, str], "asyncio.Future[None]"]
"""The blobs that some copy is looking after, by target and digest; done when it has, well or not."""


class Workshop(Struct, frozen=True):
    """What every blob move of a process shares."""

    supply: Supply
    hashing: HashingService
    paranoid: bool
    verify: Verify = "stream"
    underway: Underway = field(default_factory=dict)
    damaged: dict[tuple[str, str], CopyError] = field(default_factory=dict)  # found when read back
    small: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SMALL_BLOBS_AT_ONCE))
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_BLOBS_AT_ONCE))

    def trusts(self, session: UploadSession) -> bool:
        """Whether nobody hashes here what `session` sends."""
        return self.verify == "target" and session.checks_digest


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
            cause=ContentError(str(error)),
        ) from error


class BlobMove:
    """One blob on its way from a source to a target."""

    def __init__(
        self, blob: Descriptor, source: Source, target: Target, workshop: Workshop, tally: Tally
    ) -> None:
        self._blob = blob
        self._source_name = f"{source.name}@{blob.digest}"
        self._target_name = f"{target.name}@{blob.digest}"
        self._source: BlobSource = source.blob(blob)
        self._target = target
        self._workshop = workshop
        self._tally = tally
        self._states: dict[int, bytes] = {}
        self._is_verified = False

    async def run(self) -> None:
        """Move the blob. Raises `CopyError`; on any failure the upload session is dropped."""
        with during("push blob to", "target", self._target_name):
            session = await self._target.start_upload(self._blob)
        self._tally.emit(BlobStarted(self._blob.digest, self._blob.size))
        try:
            resume_at = 0
            while True:
                try:
                    await self._feed(session, resume_at)
                    with during("push blob to", "target", self._target_name):
                        await session.commit()  # network
                    return
                except UploadInterrupted as interruption:
                    resume_at = interruption.offset
                    note_interruption(interruption, self._blob, self._target.name, self._tally)
        except BaseException:
            await asyncio.shield(session.cancel())  # network, bounded by the session
            raise

    async def _feed(self, session: UploadSession, resume_at: int) -> None:
        """Read, hash and send everything from `resume_at` on; `session` takes its bytes from there."""
        if self._is_verified and resume_at == self._blob.size:
            return  # the target holds every byte that was verified; only its commit failed
        boundary = session.chunk_size
        if self._workshop.trusts(session):
            begin, verifier = resume_at, None
        else:
            begin = max((offset for offset in self._states if offset <= resume_at), default=0)
            verifier = BlobVerifier(
                self._blob, resumable=boundary is not None, state=self._states[begin] if begin else None
            )
        if self._blob.size == 0:
            self._check(verifier)
            return
        reader = RangedReader(
            self._source,
            self._blob.size,
            self._workshop.supply,
            start=begin,
            boundary=boundary,
            on_requested=self._tally.requested,
            on_retry=lambda error: self._tally.retried("source", "fetch blob", str(error)),
        )
        queue: asyncio.Queue[Piece | BaseException] = asyncio.Queue(QUEUE_PIECES)
        hasher = asyncio.ensure_future(self._hash_all(reader, verifier, queue, boundary))
        try:
            sent = begin
            while sent < self._blob.size:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                await self._send(session, item, resume_at)
                sent = item.stop
        finally:
            await self._clear(reader, queue, hasher)

    async def _clear(
        self,
        reader: RangedReader,
        queue: asyncio.Queue[Piece | BaseException],
        hasher: asyncio.Future[None],
    ) -> None:
        try:
            await stop(hasher)
        finally:
            while not queue.empty():
                item = queue.get_nowait()
                if isinstance(item, Piece):
                    self._workshop.supply.release(item)
            await reader.close()

    async def _hash_all(
        self,
        reader: RangedReader,
        verifier: BlobVerifier | None,
        queue: asyncio.Queue[Piece | BaseException],
        boundary: int | None,
    ) -> None:
        """Hash the pieces in order and queue each to be sent; a failure is queued behind them."""
        try:
            while True:
                with during("fetch blob from", "source", self._source_name):
                    pieces = await reader.next_pieces()  # network
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
        if verifier is not None:
            await self._workshop.hashing.update(verifier, *(piece.view for piece in pieces))
            if stop == self._blob.size:
                self._check(verifier)
            elif boundary is not None and stop % boundary == 0:
                self._keep_state(stop, verifier)
        self._is_verified = stop == self._blob.size

    def _check(self, verifier: BlobVerifier | None) -> None:
        if verifier is not None:
            with during("fetch blob from", "source", self._source_name):
                verifier.check()

    def _keep_state(self, offset: int, verifier: BlobVerifier) -> None:
        if verifier.can_export:
            self._states[offset] = verifier.export_state()
            while len(self._states) > KEPT_STATES:
                del self._states[min(self._states)]

    async def _send(self, session: UploadSession, piece: Piece, resume_at: int) -> None:
        try:
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
