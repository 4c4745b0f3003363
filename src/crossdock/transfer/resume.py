"""A large blob's upload that another process can resume, should this one be killed.

One `Resumption` per blob under way. It is the session's log: the offset that the target acknowledges goes to
the journal together with the digest's state there, before the next bytes are sent. When the blob begins, it
finds the session of an earlier process; when the blob fails, it decides whether the session is kept.

Rules:

1. The journal never fails a copy. Without it, or when another copy has the blob's row, the blob moves in a
   session of its own, which is dropped when that fails.
2. A resumed upload is believed only as far as the digest of the whole proves it. If that is wrong, at the
   source's side or at the target's, session and states are forgotten before the one retry.
3. A cancellation waits for the end of the chunk under way, for `CHUNK_END_S` at most: registries built on
   distribution 2 lose a session in mid-request (S2).
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from crossdock.content import ResumableSession, ResumesUploads, UploadSession
from crossdock.errors import (
    ContentError,
    UploadRejected,
    root_cause,
)
from crossdock.events import UploadKept
from crossdock.oci.descriptor import Descriptor
from crossdock.tally import Tally
from crossdock.transfer.damage import is_wrong_content
from crossdock.transfer.sides import TargetSide
from crossdock.transfer.workshop import Resuming

if TYPE_CHECKING:
    from crossdock.kept.journal import Journal
    from crossdock.kept.uploads import UploadRecord

CHUNK_END_S = 5.0  # 64 MiB at 13 MiB/s; a second signal does not wait
BOUNDARY_STATES = 64  # digest states at the last boundaries, 16 of which a chunk has at most
CHUNKS_AHEAD = 2  # of source bytes past the last acknowledgement, at most lost by a kill


class Resumption:
    """One blob's upload beyond the life of this process. Use it in an ``async with`` block."""

    def __init__(
        self, blob: Descriptor, source_name: str, target: TargetSide, resuming: Resuming, tally: Tally
    ) -> None:
        self._blob = blob
        self._source_name = source_name
        self._target = target
        self._resuming = resuming
        self._chunk_size = resuming.chunk_size
        self._keeps_states = resuming.keeps_states
        self._keeps = resuming.keeps
        self._tally = tally
        self._resumable: ResumesUploads | None = None
        if blob.size > resuming.above and target.resumes is not None and target.resumes.may_resume():
            self._resumable = target.resumes
        self._record: UploadRecord | None = None
        self._session: ResumableSession | None = None
        self._states: dict[int, bytes] = {}
        self._is_stopping = False
        self._resumed_at = 0
        self.acknowledged_at = 0
        """Bytes that the target is known to hold."""

    async def __aenter__(self) -> Resumption:
        journal = self._resuming.journal
        if self._resumable is not None and journal is not None:
            self._record = await self._claim(journal)
            self._resuming.warn_of_trouble(self._tally)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._record is not None:
            self._record.close()

    async def _claim(self, journal: Journal) -> UploadRecord | None:
        blob = self._blob
        claiming = asyncio.ensure_future(
            asyncio.to_thread(
                journal.claim, self._target.name, str(blob.digest), blob.size, self._source_name
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            record = await claiming  # a thread cannot be cancelled; the journal bounds it
            if record is not None:
                record.close()
            raise

    # -- the session -------------------------------------------------------------------------------------

    def read_limit(self, boundary: int | None) -> int | None:
        """The offset up to which the source may be read for now; bounds the cost of a kill. None: no bound.

        `boundary` is the upload's.
        """
        if self._session is None or boundary is None:
            return None
        return self.acknowledged_at + CHUNKS_AHEAD * self._chunk_size

    async def start(self) -> UploadSession:
        """The way up for the blob. Raises as `Target.start_upload` does."""
        self._states.clear()
        self.acknowledged_at = self._resumed_at = 0
        if self._resumable is None:
            return await self._target.target.start_upload(self._blob)
        saved = self._record.saved if self._record is not None else None
        if saved is not None and self._keeps_states:
            self._states.update(saved.states)
        self._session = await self._resumable.resumable_upload(self._blob, self._chunk_size, self, saved)
        return self._session

    async def resume(self) -> int:
        """Resume the session of an earlier process. Returns the offset from which bytes are to be given."""
        if self._session is None:
            return 0
        offset, word = await self._session.resume()  # network
        if word:
            self._tally.warn(f"upload of {self._blob.digest} to {self._target.name}: {word}")
        if offset:
            self._resumed_at = offset
            self._tally.taken_up(self._blob, offset)
        return offset

    def committed(self) -> None:
        """The target has the blob."""
        if self._resumed_at:
            self._tally.resumed(self._resumed_at)
        if self._record is not None:
            self._record.forget()
            self._resuming.warn_of_trouble(self._tally)

    async def abandon(self, session: UploadSession, error: BaseException) -> None:
        """The blob has failed by `error`: keep the session for another process, or drop it. # network"""
        record = self._record
        if self._session is None or record is None:
            await session.cancel()
        elif record.can_resume and self._keeps() and not _is_of_content(error):
            await self._session.suspend()
            offset = record.saved.acknowledged if record.saved is not None else 0
            self._tally.emit(UploadKept(self._blob.digest, offset, self._blob.size))
        else:
            await session.cancel()
            record.forget()
        self._resuming.warn_of_trouble(self._tally)

    # -- content.SessionLog ------------------------------------------------------------------------------

    def opened(self, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """A new session, which holds nothing yet."""
        self.acknowledged_at = self._resumed_at = 0
        self._chunk_size = chunk_size
        if self._record is not None:
            self._record.opened(location, chunk_size, trust_range=trust_range)
            self._resuming.warn_of_trouble(self._tally)

    def acknowledged(self, offset: int, location: str, chunk_size: int, *, trust_range: bool) -> None:
        """The session holds the bytes before `offset`."""
        self.acknowledged_at = offset
        self._chunk_size = chunk_size
        self._resumed_at = min(self._resumed_at, offset)
        if self._record is not None:
            state = self._states.get(offset)
            self._record.acknowledged(offset, location, state, chunk_size, trust_range=trust_range)
            self._resuming.warn_of_trouble(self._tally)

    # -- states of the digest ----------------------------------------------------------------------------

    def keeps_states(self, boundary: int | None) -> bool:
        """Whether the digest is to be made so that `keep_state` can have its states."""
        return self._keeps_states and boundary is not None

    def keep_state(self, offset: int, state: bytes) -> None:
        """The digest's state after the bytes before `offset`."""
        self._states[offset] = state
        while len(self._states) > BOUNDARY_STATES:
            del self._states[min(self._states)]

    def nearest_state(self, offset: int) -> tuple[int, bytes | None]:
        """The last state at or before `offset`, behind its own offset; ``(0, None)`` without any."""
        begin = max((kept for kept in self._states if kept <= offset), default=0)
        return begin, self._states.get(begin)

    # -- stopping ----------------------------------------------------------------------------------------

    async def let_chunk_end(self, feeding: asyncio.Future[None]) -> None:
        """Rule 3. `feeding` is what gives bytes to the session; it ends by itself where `may_stop`."""
        record = self._record
        if self._session is not None and record is not None and record.can_resume and self._keeps():
            self._is_stopping = True
            if not self.may_stop:
                await asyncio.wait({feeding}, timeout=CHUNK_END_S)

    @property
    def may_stop(self) -> bool:
        """Feeding is to end, and ends well here."""
        return self._is_stopping and self._session is not None and self._session.is_between_requests


def _is_of_content(error: BaseException) -> bool:
    """Whether the bytes in the session must be doubted, or the target refuses them."""
    return isinstance(root_cause(error), ContentError | UploadRejected) or is_wrong_content(error)
