"""One HTTP/1.1 connection, one exchange at a time.

Rules:

1. `_next` is the memory for the next bytes and never empty: uvloop asks for it again in the turn of the last
   read, also when the body has just become complete. Whoever changes the state sets `_next` and `_land`, the
   function that is told how many bytes came.
2. Body bytes with a Content-Length are received straight into the sink's memory, never beyond the end of the
   body, so that nothing of a next answer can land there. Bytes that came with the head are copied once.
3. Reading pauses (`_held`) when there is nowhere to put bytes: the sink is full, or the answer's head is
   known, the parser's buffer is full behind it and nobody has asked for the body yet.
4. Memory given to `write` is given back only when the kernel has all of it, or the socket is shut down and
   the loop has dropped it.
5. A connection whose exchange did not end exactly where its framing says is closed, never reused.

States: NEW (being set up) → IDLE → SENDING (request body incomplete) → HEAD (answer awaited, or its head
known and its body not asked for) → BODY → IDLE; CLOSED from everywhere. What was received of an answer before
the end, head and buffered body, can still be read in CLOSED: peers that refuse an upload answer and reset.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from crossdock.errors import InvalidInput, ProtocolError, ReadFailed, TimedOut, TransportError, WriteFailed
from crossdock.transport.chunked import ChunkedDecoder, UntilClose
from crossdock.transport.head import MAX_INTERIM, HeadParser
from crossdock.transport.redact import redact_url
from crossdock.transport.watchdog import Pace, Watchdog

if TYPE_CHECKING:
    from crossdock.options import NetworkOptions
    from crossdock.transport.base import ResponseHead, Sink

_E = TypeVar("_E", bound=TransportError)

# Bytes given to the loop at once. Plain asyncio before 3.12 copies what the kernel does not take at once, so
# this bounds that copy; uvloop keeps a reference, and one call a MiB costs nothing.
WRITE_PIECE = 1 << 20

# Seconds for the rest of an answer that came before the request was complete.
EARLY_ANSWER_GRACE = 2.0


class State(enum.Enum):
    """What the connection is doing; see the top of the module."""

    NEW = "new"
    IDLE = "idle"
    SENDING = "sending"
    HEAD = "head"
    BODY = "body"
    CLOSED = "closed"


class Connection(asyncio.BufferedProtocol):
    """A plaintext connection; `TlsConnection` puts an engine between it and the socket.

    Driven by `HttpExchange`. Every coroutine that fails or is cancelled closes the connection.
    """

    # Whether bytes may come on an idle connection: over TLS they may be session tickets.
    _expects_records = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: NetworkOptions,
        watchdog: Watchdog,
        sock: socket.socket,
    ) -> None:
        self.state = State.NEW
        self.idle_since = 0.0
        self.exchanges = 0  # begun on this connection; all but the first are a reuse
        self.moved = 0  # bytes received and given to the loop: progress, as the pool sees it
        self.on_lost: Callable[[Connection], None] | None = None  # called when it ends while idle
        self._loop = loop
        self._options = options
        self._watchdog = watchdog
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = loop.create_future()  # the loop has let go of the socket
        self._waiter: asyncio.Future[None] | None = None
        self._check: Callable[[float], None] | None = None  # called by the watchdog while a coroutine waits
        self._deadline = 0.0
        self._error: Exception | None = None  # what broke the exchange
        self._cause: Exception | None = None  # what ended the connection, as the loop told it
        self._parser = HeadParser()
        self._next = self._parser.get_buffer()
        self._land: Callable[[int], None] = self._land_unsolicited
        self._held = False
        self._eof = False  # the peer ended its side in order (over TLS: by close_notify)
        self._write_blocked = False  # the loop holds bytes that the kernel has not taken
        self._reset("", "", None)

    def _reset(self, method: str, url: str, content_length: int | None) -> None:
        self._method = method
        self._url = url
        self._body_size = self._unsent = content_length or 0  # `_unsent`: not yet given to `write`
        self._out: memoryview | None = None  # given to `write`, not yet to the loop
        self._draining = False  # a write is not in the kernel as a whole
        self._drained_at = (0, 0.0)  # bytes waiting, and since when it is that many
        self._head: ResponseHead | None = None
        self._interim = 0
        self.answer_began = False  # a byte of the answer has come
        self.answered_early = False  # the answer's head came before the request's body was complete
        self._sink: Sink | None = None
        self._decoder: ChunkedDecoder | UntilClose | None = None  # None: framed by Content-Length
        self._left = 0  # with a Content-Length: body bytes not yet received, or not yet taken from the parser
        self._delivered = 0
        self._raw = self._payload = self._parser.memory[:0]  # received, not decoded; decoded, not delivered

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} {self._method} {redact_url(self._url)}>"

    # -- called by the loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport always is one
        # Rule 4: pause_writing is called whenever anything is not in the kernel.
        transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._next

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._land(nbytes)
        except Exception as error:
            self._break(error)

    def eof_received(self) -> bool:
        self._eof = True
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head is None and self.state in (State.SENDING, State.HEAD):
            self._salvage()
        self._end(exc)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._write_blocked = True

    def resume_writing(self) -> None:
        self._write_blocked = False
        try:
            self._pump()
        except Exception as error:
            self._break(error)

    def check(self, now: float) -> None:
        """Called by the watchdog."""
        if self._check is not None:
            self._check(now)

    # -- one exchange ------------------------------------------------------------------------------------

    def begin(self, method: str, url: str, head: bytes, content_length: int | None) -> None:
        """Send a request's head. `url` is for messages only."""
        self._reset(method, url, content_length)
        self.exchanges += 1
        self._land = self._land_head
        self.state = State.SENDING if content_length else State.HEAD
        self._watchdog.add(self)
        self._send(memoryview(head))

    async def write(self, data: memoryview) -> None:
        """Send body bytes; returns when `data` may be reused, early when the peer has answered."""
        if len(data) > self._unsent:
            raise InvalidInput(f"{len(data)} body bytes given where {self._unsent} are left of the request")
        if self._head is not None:
            return
        if self._error is not None:
            raise self._error
        self._unsent -= len(data)
        self._out = data
        self._draining = True
        self._pump()
        if self._draining:
            self._drained_at = (-1, self._loop.time())
            try:
                await self._wait(self._check_write)  # network
                if self._draining:
                    await self._take_early_answer()
            finally:
                self._out = None
                if self._draining:  # rule 4
                    self._drop(None)
                    await self.gone()

    async def _take_early_answer(self) -> None:
        """Wait a little for the whole answer: to give the request's memory back, the connection must go."""
        self._out = None
        if not self._answer_is_here():
            self._deadline = self._loop.time() + EARLY_ANSWER_GRACE
            await self._wait(self._check_grace)  # network

    async def response(self, timeout: float, phase: str) -> ResponseHead:
        """The head of the final answer. `timeout` bounds the wait for its first byte."""
        if self._head is None:
            if self._error is not None:
                raise self._error
            if self._unsent:
                raise InvalidInput(f"{self._unsent} bytes of the request's body were not written")
            self._deadline = self._loop.time() + timeout
            await self._wait(lambda now: self._check_head(now, timeout, phase))  # network
        assert self._head is not None
        return self._head

    async def receive(self, sink: Sink) -> int:
        """Deliver the body; returns its length. The connection is IDLE or CLOSED afterwards."""
        if self._error is not None:
            raise self._error
        self._pace = Pace(self._loop.time(), self._options.timeout, self._options.low_speed)
        self._take_stash()
        self._sink = sink
        if self.state is not State.CLOSED:
            self.state = State.BODY
        self.resume()
        if self._sink is not None:
            await self._wait(self._check_body)  # network
        if self._error is not None:
            raise self._error
        return self._delivered

    def resume(self) -> None:
        """The sink has room again."""
        if self._sink is None:
            return
        self._pace.release(self._loop.time())
        try:
            if self._advance():
                self._restart_reading()
        except Exception as error:
            self._break(error)

    def finish(self) -> None:
        """End the exchange: IDLE when nothing of it is outstanding, else CLOSED. Safe in any state."""
        if self.state is State.HEAD and self._head is not None and self._sink is None:
            self._take_stash()
            if self._decoder is None and not self._left:
                self._body_done()
        if self.state is not State.IDLE:
            self.abort()

    def hand_over(self) -> asyncio.Transport:
        """Give the transport away after a CONNECT; this object is done."""
        assert self._transport is not None
        if self._raw or len(self._parser.rest):
            raise self._failure(ProtocolError, "the proxy sent more than its answer")
        self.state = State.CLOSED
        self._watchdog.remove(self)
        return self._transport

    # -- the end -----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """The loop has taken the socket over and will close it."""
        return self._transport is not None

    def alive(self, not_before: float) -> bool:
        """Whether an idle connection may be used: idle since `not_before` at the earliest, and not ended."""
        if self.state is not State.IDLE or self.idle_since < not_before:
            return False
        try:  # what has come and the loop has not told us yet
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) and self._expects_records
        except BlockingIOError:
            return True
        except OSError:
            return False

    def abort(self) -> None:
        """Close at once. No byte given to `write` leaves the process after this call."""
        if self._error is None:
            self._error = self._failure(ReadFailed, "the connection was closed by this side")
        self._drop(self._error)

    def close(self) -> None:
        """Close an idle connection in order."""
        self.state = State.CLOSED
        if self._transport is not None:
            self._transport.close()

    async def gone(self) -> None:
        """Wait until the loop has let go of the socket and of all memory it was given."""
        await asyncio.shield(self._gone)
        # uvloop closes its handle after connection_lost, and drops pending writes in the turn after that.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _drop(self, error: Exception | None) -> None:
        """Close the socket and wake whoever waits, with `error` if given. The stash stays readable."""
        self.state = State.CLOSED
        self._watchdog.remove(self)
        self._land = self._land_unsolicited
        self._next = self._parser.memory
        if error is not None:
            self._sink = None
            self._raw = self._payload = self._parser.memory[:0]
        if self._transport is not None:
            if self._transport.get_write_buffer_size():
                try:  # uvloop may write once more before it closes; rule 4
                    self._sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # not connected any more, which is as good
            self._transport.abort()
        self._wake(error)

    def _break(self, error: Exception) -> None:
        """The exchange failed."""
        if isinstance(error, ProtocolError) and not error.method:
            error = self._failure(ProtocolError, str(error))
        if self._error is None:
            self._error = error
        self._drop(self._error)

    def _end(self, exc: Exception | None) -> None:
        """The peer ended the connection, or it broke."""
        if self.state is State.CLOSED:
            return
        self._cause = exc
        if self.state in (State.NEW, State.IDLE):
            self._drop(None)
            if self.on_lost is not None:
                self.on_lost(self)
        elif self._head is None:
            self._break(self._unanswered())
        elif self._sink is None:  # the answer is known and its body not asked for: see `receive`
            self._drop(None)
        else:
            self.state = State.CLOSED
            self._end_unframed()
            try:
                self._advance()
            except Exception as error:
                self._break(error)

    def _end_unframed(self) -> None:
        if isinstance(self._decoder, UntilClose) and self._eof and self._cause is None:
            self._decoder.done = True

    def _unanswered(self) -> TransportError:
        how = f": {self._cause}" if self._cause is not None and str(self._cause) else ""
        if self.state is State.SENDING:
            sent = self._body_size - self._unsent
            return self._failure(
                WriteFailed,
                f"the connection broke in the request, at most {sent} of {self._body_size} bytes sent{how}",
            )
        where = "in the head of the answer" if self.answer_began else "before an answer"
        return self._failure(ReadFailed, f"the connection was closed {where}{how}")

    def _truncated(self) -> TransportError:
        how = f": {self._cause}" if self._cause is not None and str(self._cause) else ""
        assert self._head is not None
        if self._decoder is None:
            size = self._head.content_length
            return self._failure(ReadFailed, f"the body ended after {self._delivered} of {size} bytes{how}")
        lack = "its terminating chunk" if self._head.chunked else "a sign of its end (close_notify)"
        return self._failure(ReadFailed, f"the body ended after {self._delivered} bytes without {lack}{how}")

    def _failure(self, kind: type[_E], what: str, **details: Any) -> _E:
        url = redact_url(self._url)
        return kind(f"{self._method} {url}: {what}", method=self._method, url=url, **details)

    def _salvage(self) -> None:
        """Read what the kernel still holds: an answer that came before the reset that our write ran into."""
        try:
            while self.state is not State.CLOSED and not self._held:
                count = self._sock.recv_into(self.get_buffer(-1))
                if not count:
                    return
                self.buffer_updated(count)
        except OSError:
            pass  # nothing more to be had

    # -- waiting -----------------------------------------------------------------------------------------

    async def _wait(self, check: Callable[[float], None]) -> None:
        """Wait for `_wake`, bounded by `check`. Cancelled: the connection is closed."""
        self._waiter = self._loop.create_future()
        self._check = check
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = self._check = None

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            if error is None:
                self._waiter.set_result(None)
            else:
                self._waiter.set_exception(error)

    def _check_head(self, now: float, timeout: float, phase: str) -> None:
        if now >= self._deadline:
            what = f"the answer did not begin within {timeout:g} s"
            if self.answer_began:
                what, phase = "the head of the answer did not end in time", "first byte"
            self._break(self._failure(TimedOut, what, phase=phase))

    def _check_body(self, now: float) -> None:
        if self._pace.too_slow(now, self._delivered):
            options = self._options
            self._break(
                self._failure(
                    TimedOut,
                    f"under {options.low_speed} bytes a second for {options.timeout:g} s,"
                    f" after {self._delivered} bytes of the body",
                    phase="low speed",
                )
            )

    def _check_write(self, now: float) -> None:
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size() + len(self._out or b"")
        if waiting != self._drained_at[0]:
            self._drained_at = (waiting, now)
        elif now - self._drained_at[1] >= self._options.timeout:
            what = f"the peer took nothing for {self._options.timeout:g} s, {waiting} bytes waiting"
            self._break(self._failure(TimedOut, what, phase="write"))

    def _check_grace(self, now: float) -> None:
        if now >= self._deadline:
            self._wake()

    # -- writing -----------------------------------------------------------------------------------------

    def _send(self, data: memoryview) -> None:
        """Give bytes to the loop. Overridden by TLS, which gives it their ciphertext."""
        assert self._transport is not None
        self._transport.write(data)

    def _pump(self) -> None:
        """Give the loop pieces until it holds one back; note when the kernel has everything."""
        assert self._transport is not None
        while self._draining and not self._write_blocked and not self._transport.is_closing():
            if not self._out:
                self._draining = False
                if not self._unsent and self.state is State.SENDING:
                    self.state = State.HEAD
                self._wake()
                return
            piece, self._out = self._out[:WRITE_PIECE], self._out[WRITE_PIECE:]
            self.moved += len(piece)
            self._send(piece)

    # -- reading: `_land_*` are told how many bytes came to `_next` ---------------------------------------

    def _land_unsolicited(self, count: int) -> None:
        """Bytes that no request asked for (or that come after the end)."""
        self._end(None)

    def _land_head(self, count: int) -> None:
        self.moved += count
        if not self.answer_began:
            self.answer_began = True
            self._deadline = max(self._deadline, self._loop.time() + self._options.timeout)
        head = self._parser.filled(count)
        while head is not None and head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise ProtocolError(
                    f"an unasked {head.status} answer, or more than {MAX_INTERIM} interim ones"
                )
            head = self._parser.skip()
        if head is None:
            self._next = self._parser.get_buffer()
            return
        self._head = head
        # A state of SENDING means that the request is incomplete: the peer needs no more of it (U12).
        self.answered_early = self.state is State.SENDING
        if (
            self._method == "HEAD"
            or head.status in (204, 304)
            or (self._method == "CONNECT" and head.status < 300)
        ):
            self._left = 0
        elif head.chunked:
            self._decoder = ChunkedDecoder()
        elif head.content_length is None:
            self._decoder = UntilClose()
        else:
            self._left = head.content_length
        self._land = self._land_stash
        self._land_stash(0)
        self._wake()

    def _land_stash(self, count: int) -> None:
        """Body bytes before anyone asked for them stay in the parser's buffer."""
        self.moved += count
        self._parser.stash(count)
        if self._parser.room:
            self._next = self._parser.get_buffer()
        else:
            self._hold()
        if self._draining and (self._held or self._answer_is_here()):
            self._wake()

    def _answer_is_here(self) -> bool:
        """Whether waiting longer for an early answer is pointless."""
        if self.state is State.CLOSED or self._held:
            return True
        if self._decoder is None:
            return len(self._parser.rest) >= self._left
        return isinstance(self._decoder, ChunkedDecoder) and bytes(self._parser.rest[-5:]) == b"0\r\n\r\n"

    def _take_stash(self) -> None:
        rest = self._parser.rest
        if self._decoder is None:
            self._payload, self._raw = rest[: self._left], rest[self._left :]
            self._left -= len(self._payload)
        else:
            self._raw = rest
            self._end_unframed()

    def _advance(self) -> bool:
        """Deliver what is buffered, then aim the socket at the sink. False: read nothing more now."""
        sink = self._sink
        assert sink is not None
        while True:
            while self._payload:
                room = sink.get_buffer()
                if room is None:
                    self._hold()
                    return False
                count = min(len(room), len(self._payload))
                room[:count] = self._payload[:count]
                sink.received(count)
                self._delivered += count
                self._payload = self._payload[count:]
            if self._decoder is None or not self._raw:
                break
            self._payload, used = self._decoder.next(self._raw)
            if not used:
                break
            self._raw = self._raw[used:]
        if not self._left if self._decoder is None else self._decoder.done:
            self._body_done()
            return False
        if self.state is State.CLOSED:
            raise self._truncated()
        if self._decoder is not None:
            self._next, self._land = self._parser.memory, self._land_encoded
            return True
        self._land = self._land_body
        return self._aim(sink.get_buffer())

    def _aim(self, room: memoryview | None) -> bool:
        if room is None:
            self._hold()
            return False
        self._next = room if len(room) <= self._left else room[: self._left]
        return True

    def _land_body(self, count: int) -> None:
        """The hot path: once per read, directly in the sink's memory."""
        sink = self._sink
        assert sink is not None
        self.moved += count
        self._delivered += count
        self._left -= count
        sink.received(count)
        if self._left:
            self._aim(sink.get_buffer())
        else:
            self._body_done()

    def _land_encoded(self, count: int) -> None:
        self.moved += count
        self._raw = self._parser.memory[:count]
        self._advance()

    def _body_done(self) -> None:
        assert self._head is not None
        framed = not self._raw and not self.answered_early and not isinstance(self._decoder, UntilClose)
        self._sink = None
        self._raw = self._payload = self._parser.memory[:0]
        self._parser.reset()
        self._next = self._parser.get_buffer()
        self._land = self._land_unsolicited
        if framed and self._head.keep_alive and self.state is not State.CLOSED:
            self.state = State.IDLE
            self.idle_since = self._loop.time()
            self._watchdog.remove(self)
            self._restart_reading()
            self._wake()
        else:
            self._drop(None)

    def _hold(self) -> None:
        """There is nowhere to put bytes: stop reading."""
        if self._sink is not None:
            self._pace.hold(self._loop.time())
        self._next = self._parser.memory
        if not self._held:
            self._held = True
            assert self._transport is not None
            self._transport.pause_reading()

    def _restart_reading(self) -> None:
        if self._held:
            self._held = False
            assert self._transport is not None
            self._transport.resume_reading()
