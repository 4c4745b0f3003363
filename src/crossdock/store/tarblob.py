"""A member of an archive as a `content.BlobSource`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from crossdock.bodies import StreamBody
from crossdock.content import Body
from crossdock.errors import SizeMismatch
from crossdock.oci.descriptor import Descriptor
from crossdock.store.parts import PartsBytes
from crossdock.store.tarbytes import PIECE, AnyBytes, GzipBytes
from crossdock.store.tarindex import Member
from crossdock.tasks import in_abandonable_thread, in_thread


class TarBlob:
    """The blob of `descriptor`, which is the whole of `member`."""

    def __init__(self, data: AnyBytes, member: Member, descriptor: Descriptor) -> None:
        self._data = data
        self._member = member
        self._descriptor = descriptor

    async def open(self, start: int, stop: int) -> Body:
        """``start``..``stop``; of a gzip archive the whole blob, which is decompressed in order.

        Raises `SizeMismatch`, `StoreError`, `ContentError`.
        """
        data, member = self._data, self._member
        if member.size != self._descriptor.size:
            raise SizeMismatch(
                f"{self._descriptor.digest} in {data.path} has {member.size} bytes, "
                f"its descriptor says {self._descriptor.size}",
                expected=self._descriptor.size,
                received=member.size,
            )
        if isinstance(data, GzipBytes):
            return StreamBody(_pieces(data, member), 0, member.size)
        if isinstance(data, PartsBytes):
            await in_abandonable_thread(data.check_range, member.start + start, member.start + stop)
        return data.body(start, stop, member.start)


async def _pieces(data: GzipBytes, member: Member) -> AsyncIterator[bytes]:
    cursor = await in_thread(data.cursor, member.start)
    missing = member.size
    while missing and (piece := await in_thread(cursor.read, min(PIECE, missing))):
        missing -= len(piece)
        yield piece
