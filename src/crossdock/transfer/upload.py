"""A blob's upload session as the engine uses it: every byte that goes to a target passes here."""

from __future__ import annotations

from typing import Any, cast

from crossdock.content import UploadSession
from crossdock.errors import UploadInterrupted
from crossdock.oci.descriptor import Descriptor
from crossdock.steps import during
from crossdock.tally import Tally


class BlobUpload:
    """One `content.UploadSession`, with the errors and the progress of its blob."""

    __slots__ = ("_blob", "_tally", "_target", "reference", "session")

    def __init__(self, session: UploadSession, blob: Descriptor, target: str, tally: Tally) -> None:
        """`target` is its name."""
        self.session = session
        self.reference = f"{target}@{blob.digest}"
        self._target = target
        self._blob = blob
        self._tally = tally

    @property
    def boundary(self) -> int | None:
        """As `content.ChunkedUpload.boundary`; None as well for an upload that is not made of requests."""
        boundary: int | None = getattr(self.session, "boundary", None)
        return boundary

    def prepare(self) -> None:
        """As `content.ChunkedUpload.prepare`; nothing for an upload that is not made of requests."""
        if (prepare := getattr(self.session, "prepare", None)) is not None:
            prepare()

    async def find(self) -> bool:
        """As `content.FindsOnUpload`: whether the target has the blob. # network"""
        with during("check blob at", "target", self.reference):
            found: bool = await cast(Any, self.session).find()
            return found

    async def append(self, data: memoryview, stop: int) -> None:
        """Send `data`, which ends at the offset `stop` of the blob. # network

        Raises as `UploadSession.append` does.
        """
        with during("push blob to", "target", self.reference):
            await self.session.append(data)
        self._tally.progress(self._blob, stop)

    async def commit(self) -> None:
        """As `UploadSession.commit`. # network"""
        with during("push blob to", "target", self.reference):
            await self.session.commit()

    def interrupted(self, interruption: UploadInterrupted) -> None:
        """Report that the target requests bytes again, from the interruption's offset on."""
        blob, tally = self._blob, self._tally
        cause = interruption.cause or interruption
        tally.retried("target", "push blob", str(cause))
        if interruption.announce:
            tally.warn(
                f"upload of {blob.digest} to {self._target} had to start again at byte "
                f"{interruption.offset}: {cause}"
            )
        tally.progress(blob, interruption.offset)
