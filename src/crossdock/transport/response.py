"""One response as bytes arrive: its head, then its body into a sink. Without sockets.

Rules:

1. `memory` is where the next bytes go, and is never empty: an event loop may ask for it in the turn in which
   the body became complete. Code that changes what is expected sets `memory` and `_land` together.
2. Body bytes with a Content-Length go straight into the sink's memory, never beyond the end of the body, so
   that nothing of a next response can land there. Bytes that came with the head are copied once.
3. Until a sink is attached, body bytes stay behind the head in the parser's buffer.
4. After `FULL` no bytes may be landed until `proceed` has returned `MORE`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

from crossdock.errors import ProtocolError, ReadFailed
from crossdock.transport.head import MAX_INTERIM, HeadParser
from crossdock.transport.piping import BESIDE, fill

if TYPE_CHECKING:
    from crossdock.transport.base import Pipe, ResponseHead, Sink
    from crossdock.transport.chunked import ChunkedDecoder, UntilClose


class Event(enum.Enum):
    """What came of landed bytes."""

    MORE = "more"  # bytes are wanted
    HEAD = "head"  # the head is known; the body, as far as it is here, waits for a sink
    FULL = "full"  # there is nowhere to put more bytes
    DONE = "done"  # the body is complete and delivered
    UNASKED = "unasked"  # nothing was expected


# The hot path compares to these; a module's global is cheaper to reach than an enum's member.
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
        self.delivered = 0  # body bytes in the sink
        self.exact = True  # the body has an end of its own, and nothing came behind it
        self._interim = 0
        self._sink: Sink | None = None
        self._socket = -1  # bytes may be moved from there into the sink's pipes
        self._get_pipe: Callable[[], Pipe | None] | None = None
        self._aim: Callable[[], Event] = self._aim_at_memory
        self._ended = self._ended_well = False  # no more input will come; because the peer said so
        self._decoder: ChunkedDecoder | UntilClose | None = None  # None: framed by its length
        self._left = 0  # framed by length: body bytes not yet received, or not yet taken from the parser
        self._raw = self._payload = self._nothing  # received, not decoded; decoded, not delivered

    def expect(self, method: str) -> None:
        """The next bytes are the response to a request of `method`."""
        self._clear(method)
        self._land = self._land_head

    @property
    def began(self) -> bool:
        """A byte of the response has come."""
        return self.head is not None or self._interim > 0 or not self._parser.empty

    @property
    def full(self) -> bool:
        """The head is known and the parser's buffer full behind it."""
        return self.head is not None and self._sink is None and not self._parser.room

    @property
    def complete(self) -> bool:
        """Before a sink is attached: the whole body is here, as far as is known without decoding it."""
        if self.head is None:
            return False
        if self._decoder is None:
            return len(self._parser.rest) >= self._left
        return not self._decoder.until_close and bytes(self._parser.rest[-5:]) == b"0\r\n\r\n"

    @property
    def outstanding(self) -> bool:
        """Before a sink is attached: what came behind the head is not exactly the body."""
        return self._decoder is not None or len(self._parser.rest) != self._left

    @property
    def length(self) -> int | None:
        """Before a sink is attached: the body's length, if its framing says so."""
        return self._left if self._decoder is None else None

    def whole(self) -> bytes | None:
        """Before a sink is attached: the body, if it is here and nothing else. It stays where it is."""
        return None if self.head is None or self.outstanding else bytes(self._parser.rest)

    def landed(self, count: int) -> Event:
        """`count` bytes are in `memory`. Raises `ProtocolError`, and what the sink raises."""
        return self._land(count)

    def attach(self, sink: Sink, socket: int = -1) -> Event:
        """Deliver the body to `sink` from here on. The head must be known.

        With `socket`, from which `memory` is filled as it is, bytes may go into the sink's pipes.
        """
        rest = self._parser.rest
        if self._decoder is None:
            self._payload, self._raw = rest[: self._left], rest[self._left :]
            self._left -= len(self._payload)
        else:
            self._raw = rest
        if self._decoder is None and socket >= 0:
            self._get_pipe = getattr(sink, "get_pipe", None)
            if self._get_pipe is not None:
                self._socket, self._aim = socket, self._aim_at_pipe
        self._sink = sink
        return self.proceed()

    def end(self, well: bool) -> None:
        """No more bytes will come. `well`: the peer ended its side in order. The first call counts."""
        if not self._ended:
            self._ended, self._ended_well = True, well

    def proceed(self) -> Event:
        """Deliver what is buffered; then MORE and `memory` in the sink, FULL, or DONE.

        Raises `ProtocolError`, `ReadFailed` when the input has ended too early, and what the sink raises.
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
        """Drop the sink and everything buffered; nothing is expected."""
        self._sink = None
        self._get_pipe, self._aim = None, self._aim_at_memory
        self._raw = self._payload = self._nothing
        self.memory, self._land = self._parser.memory, self._land_unasked

    # -- `_land_*` get the number of bytes that came to `memory` -------------------------------------------

    def _land_unasked(self, count: int) -> Event:
        return UNASKED

    def _land_head(self, count: int) -> Event:
        head = self._parser.filled(count)
        while head is not None and head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise ProtocolError(f"an unrequested {head.status} response, or too many interim ones")
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

    def _land_beside(self, count: int) -> Event:
        self._left -= count
        self._payload = self.memory[:count]
        return self.proceed()

    def _land_encoded(self, count: int) -> Event:
        self._raw = self._parser.memory[:count]
        return self.proceed()

    # -- the body ------------------------------------------------------------------------------------------

    def _aim_at_pipe(self) -> Event:
        assert self._sink is not None
        assert self._get_pipe is not None
        while (pipe := self._get_pipe()) is not None:
            if self._fill(pipe, self._sink):
                continue
            if not self._left:
                return self._finish()
            # The loop tells of more bytes by receiving some of them.
            self.memory = self._parser.memory[: min(BESIDE, self._left)]
            self._land = self._land_beside
            return MORE
        return self._aim_at_memory()

    def _aim_at_memory(self) -> Event:
        assert self._sink is not None
        self._land = self._land_body
        room = self._sink.get_buffer()
        if room is None:
            self.memory = self._parser.memory
            return FULL
        self.memory = room if len(room) <= self._left else room[: self._left]
        return MORE

    def _fill(self, pipe: Pipe, sink: Sink) -> bool:
        """Move what the socket has; True: the pipe is full, and more may be there."""
        count = 1
        while count and pipe.room and self._left:
            count = fill(pipe, self._socket, self._left)
            self.delivered += count
            self._left -= count
            if count:
                sink.received(count)
        return self._left > 0 and not pipe.room

    def _copy(self) -> bool:
        assert self._sink is not None
        if self._get_pipe is not None and (pipe := self._get_pipe()) is not None:
            self._delivered(pipe.put(self._payload), self._sink)
            return True
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
        """Find more payload in what was received."""
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
