"""Parses one response as bytes arrive: the head, then the body into a sink. Without sockets.

Rules:

1. `memory` receives the next bytes and is never empty: an event loop may request it in the same turn in which
   the body becomes complete. Code that changes the expected input sets `memory` and `_land` together.
2. Body bytes with a Content-Length go directly into the sink's memory, never past the end of the body, so
   that no byte of a next response can get there. Bytes that arrived with the head are copied once.
3. Until a sink is attached, body bytes stay behind the head in the parser's buffer.
4. After `FULL` no bytes may be landed until `proceed` has returned `MORE`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

from crossdock.errors import ProtocolError, ReadFailed
from crossdock.transport.head import MAX_INTERIM, HeadParser

if TYPE_CHECKING:
    from crossdock.transport.base import ResponseHead, Sink
    from crossdock.transport.chunked import ChunkedDecoder, UntilClose


class Event(enum.Enum):
    """The result of landed bytes."""

    MORE = "more"  # more bytes are expected
    HEAD = "head"  # the head is known; body bytes that have arrived wait for a sink
    FULL = "full"  # there is no room for more bytes
    DONE = "done"  # the body is complete and delivered
    UNASKED = "unasked"  # bytes arrived although none were expected


# The hot path compares with these; a module's global is cheaper than an enum's member.
MORE, HEAD, FULL, DONE, UNASKED = Event


class Response:
    """Reused by a connection: `expect`, `landed` …, `attach`, then `landed` and `proceed` … until DONE."""

    def __init__(self) -> None:
        self._parser = HeadParser()
        self._nothing = self._parser.memory[:0]
        self._clear("")

    def _clear(self, method: str) -> None:
        self._parser.reset()
        self.memory = self._parser.get_buffer()
        self._land: Callable[[int], Event] = self._land_unasked
        self._method = method
        self.head: ResponseHead | None = None
        self.delivered = 0  # body bytes delivered to the sink
        self.exact = True  # the body's framing marks its end, and nothing arrived after it
        self._interim = 0
        self._sink: Sink | None = None
        self._ended = self._ended_well = False  # no more input will arrive; the peer closed cleanly
        self._decoder: ChunkedDecoder | UntilClose | None = None  # None: framed by Content-Length
        self._left = 0  # framed by Content-Length: body bytes not yet received, or still in the parser
        self._raw = self._payload = self._nothing  # received, not decoded; decoded, not delivered

    def expect(self, method: str) -> None:
        """The next bytes are the response to a request of `method`."""
        self._clear(method)
        self._land = self._land_head

    @property
    def began(self) -> bool:
        """A byte of the response has arrived."""
        return self.head is not None or self._interim > 0 or not self._parser.empty

    @property
    def full(self) -> bool:
        """The head is known and the parser's buffer behind it is full."""
        return self.head is not None and self._sink is None and not self._parser.room

    @property
    def complete(self) -> bool:
        """Before a sink is attached: the whole body has arrived, as far as known without decoding it."""
        if self.head is None:
            return False
        if self._decoder is None:
            return len(self._parser.rest) >= self._left
        return not self._decoder.until_close and bytes(self._parser.rest[-5:]) == b"0\r\n\r\n"

    @property
    def outstanding(self) -> bool:
        """Before a sink is attached: the bytes after the head are not exactly the body."""
        return self._decoder is not None or len(self._parser.rest) != self._left

    @property
    def length(self) -> int | None:
        """Before a sink is attached: the body's length, if its framing says so."""
        return self._left if self._decoder is None else None

    def whole(self) -> bytes | None:
        """Before a sink is attached: the body, if exactly that has arrived. It is not consumed."""
        return None if self.head is None or self.outstanding else bytes(self._parser.rest)

    def landed(self, count: int) -> Event:
        """Process `count` bytes in `memory`. Raises `ProtocolError` and the sink's errors."""
        return self._land(count)

    def attach(self, sink: Sink) -> Event:
        """Deliver the body to `sink` from now on. The head must be known."""
        rest = self._parser.rest
        if self._decoder is None:
            self._payload, self._raw = rest[: self._left], rest[self._left :]
            self._left -= len(self._payload)
        else:
            self._raw = rest
        self._sink = sink
        return self.proceed()

    def end(self, well: bool) -> None:
        """Note the end of input. `well`: the peer closed cleanly. Only the first call counts."""
        if not self._ended:
            self._ended, self._ended_well = True, well

    def proceed(self) -> Event:
        """Deliver buffered bytes. Returns MORE (`memory` is then the sink's), FULL, or DONE.

        Raises `ProtocolError`, `ReadFailed` if the input ended too early, and the sink's errors.
        """
        while self._payload or self._decode():
            if not self._copy():
                return FULL
        if self._complete():
            return self._finish()
        if self._ended:
            raise self._truncated()
        if self._decoder is None:
            return self._aim()
        self.memory, self._land = self._parser.memory, self._land_encoded
        return MORE

    def forget(self) -> None:
        """Drop the sink and all buffered bytes; no input is expected."""
        self._sink = None
        self._raw = self._payload = self._nothing
        self.memory, self._land = self._parser.memory, self._land_unasked

    # -- `_land_*` get the number of bytes received in `memory` --------------------------------------------

    def _land_unasked(self, count: int) -> Event:
        return UNASKED

    def _land_head(self, count: int) -> Event:
        head = self._parser.filled(count)
        while head is not None and head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise ProtocolError(f"an unrequested {head.status} response, or too many interim responses")
            head = self._parser.skip()
        if head is None:
            self.memory = self._parser.get_buffer()
            return MORE
        self.head = head
        # RFC 9112 6.3, in its order
        if self._method == "HEAD" or head.status in (204, 304) or self._opens_tunnel(head):
            pass
        elif head.chunked or head.content_length is None:
            # Blobs and manifests have a length.
            from crossdock.transport.chunked import ChunkedDecoder, UntilClose

            self._decoder = ChunkedDecoder() if head.chunked else UntilClose()
        else:
            self._left = head.content_length
        self._land = self._land_stash
        return self._land_stash(0)

    def _opens_tunnel(self, head: ResponseHead) -> bool:
        return self._method == "CONNECT" and head.status < 300

    def _land_stash(self, count: int) -> Event:
        self._parser.stash(count)
        if self._parser.room:
            self.memory = self._parser.get_buffer()
        return HEAD

    def _land_body(self, count: int) -> Event:
        """The hot path: once per read."""
        sink = self._sink
        assert sink is not None
        self.delivered += count
        self._left -= count
        sink.received(count)
        if self._left:
            return self._aim()
        return self._finish()

    def _land_encoded(self, count: int) -> Event:
        self._raw = self._parser.memory[:count]
        return self.proceed()

    # -- the body ------------------------------------------------------------------------------------------

    def _aim(self) -> Event:
        assert self._sink is not None
        self._land = self._land_body
        room = self._sink.get_buffer()
        if room is None:
            self.memory = self._parser.memory
            return FULL
        self.memory = room if len(room) <= self._left else room[: self._left]
        return MORE

    def _copy(self) -> bool:
        assert self._sink is not None
        room = self._sink.get_buffer()
        if room is None:
            return False
        count = min(len(room), len(self._payload))
        room[:count] = self._payload[:count]
        self._delivered(count, self._sink)
        return True

    def _delivered(self, count: int, sink: Sink) -> None:
        self.delivered += count
        self._payload = self._payload[count:]
        sink.received(count)

    def _decode(self) -> bool:
        """Find more payload in the received bytes."""
        if self._decoder is None or not self._raw:
            return False
        self._payload, used = self._decoder.next(self._raw)
        self._raw = self._raw[used:]
        return bool(self._payload)

    def _complete(self) -> bool:
        if self._decoder is None:
            return not self._left
        return self._decoder.done or (self._decoder.until_close and self._ended_well)

    def _finish(self) -> Event:
        self.exact = not self._raw and (self._decoder is None or not self._decoder.until_close)
        self.forget()
        self._parser.reset()
        return DONE

    def _truncated(self) -> ReadFailed:
        if self._decoder is None:
            size = self.delivered + self._left
            return ReadFailed(f"the body ended after {self.delivered} of {size} bytes")
        lack = "the sign of its end" if self._decoder.until_close else "its last chunk"
        return ReadFailed(f"the body ended after {self.delivered} bytes without {lack}")
