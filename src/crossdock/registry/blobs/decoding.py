"""A layer that a proxy compressed on its way: decoded between the socket and the sink, in bounded memory."""

from __future__ import annotations

import asyncio

from crossdock.content import ByteSink
from crossdock.errors import ProtocolError, ReadFailed
from crossdock.oci.descriptor import Descriptor
from crossdock.protocol.contentcoding import Decoder, most_encoded

_PIECE = 64 * 1024  # encoded bytes taken at once


class DecodingSink:
    """A `ByteSink` that decodes into another one, which counts what it gets and refuses what is too much.

    When the other sink is full this one is, too, so nothing is read that cannot be delivered.
    """

    def __init__(
        self, sink: ByteSink, coding: str, descriptor: Descriptor, url: str, length: int | None
    ) -> None:
        """`url` is for messages; `length` is what the answer states of its body."""
        self._sink = sink
        self._what = f"GET {url}"
        self._decoder = Decoder(
            coding,
            is_gzip=descriptor.media_type.endswith("gzip"),
            size=length if length == descriptor.size else None,
        )
        self._room = memoryview(bytearray(_PIECE))
        self._most = most_encoded(descriptor.size)
        self._came = 0
        self._delivered = 0
        self._has_room = asyncio.Event()
        self._is_closed = False

    def get_buffer(self) -> memoryview | None:
        """As `ByteSink.get_buffer`: memory for encoded bytes, once the decoded ones are delivered."""
        return self._room if self._deliver() else None

    def received(self, count: int) -> None:
        """As `ByteSink.received`. Raises `ProtocolError` for a broken coding."""
        self._came += count
        if self._came > self._most:
            raise ProtocolError(f"{self._what}: more bytes came encoded than the blob has", retryable=False)
        self._decoder.feed(bytes(self._room[:count]))
        self._deliver()

    async def finish(self) -> int:
        """All has been received: deliver the rest as the sink has room. Returns the count of decoded bytes.

        Raises `ReadFailed` when the coding ends too early.
        """
        self._decoder.end()
        while not self._deliver():
            self._has_room.clear()
            await self._has_room.wait()  # for the sink's owner: `resume` or `close`
            if self._is_closed:
                raise ReadFailed(f"{self._what}: given up by this side")
        if not self._decoder.is_whole:
            raise ReadFailed(
                f"{self._what}: the answer's coding ends after {self._delivered} bytes of content"
            )
        return self._delivered

    def resume(self) -> None:
        """The sink has room again."""
        self._has_room.set()

    def close(self) -> None:
        """The rest is not needed."""
        self._is_closed = True
        self._has_room.set()

    def _deliver(self) -> bool:
        """Decode the input as far as there is room. False: the sink is full and there is more input."""
        while self._decoder.pending:
            room = self._sink.get_buffer()
            if room is None:
                return False
            try:
                piece = self._decoder.take(len(room))
            except ProtocolError as error:
                raise ProtocolError(f"{self._what}: {error}") from None
            if piece:
                room[: len(piece)] = piece
                self._delivered += len(piece)
                self._sink.received(len(piece))
        return True
