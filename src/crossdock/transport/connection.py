"""One HTTP/1.1 connection, one exchange at a time. Its states are in `state`.

Rules:

1. Only `Response` handles body bytes: the loop receives into `Response.memory`, which is the sink's.
2. Reading pauses (`_held`) if the response has no room: the sink is full, or the body has not been requested
   yet and the buffer behind the head is full.
3. `write` returns only when the kernel has all of the given memory, or when the socket is shut down and the
   loop has dropped the memory.
4. A connection is closed, never reused, unless its exchange ended exactly where its framing says.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from crossdock.errors import InvalidInput, ProtocolError, ReadFailed, TimedOut, TransportError, WriteFailed
from crossdock.redact import redact_text
from crossdock.transport.outgoing import Outgoing
from crossdock.transport.response import DONE, FULL, HEAD, MORE, UNASKED, Event, Response
from crossdock.transport.state import State, left_over, silent, unacknowledged
from crossdock.transport.watchdog import Pace, Watchdog

if TYPE_CHECKING:
    from crossdock.options import NetworkOptions
    from crossdock.transport.base import ResponseHead, Sink
    from crossdock.transport.tls import TlsEngine
    from crossdock.url import Url

_E = TypeVar("_E", bound=TransportError)

EARLY_RESPONSE_GRACE = 2.0  # seconds for the rest of a response that starts before the request is complete


class Connection(asyncio.BufferedProtocol):
    """A plaintext connection; `TlsConnection` adds a TLS engine between it and the socket.

    Driven by `HttpExchange`. Every coroutine that fails or is cancelled closes the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: NetworkOptions,
        watchdog: Watchdog,
        sock: socket.socket,
    ) -> None:
        self.state = State.NEW
        self.idle_since = 0.0
        self.exchanges = 0  # started on this connection; all but the first reuse it
        self.moved = 0  # bytes received and given to the loop, the pool's measure of progress
        self.peer_ended = False  # the peer closed it or it broke; not set by our own close
        self.on_lost: Callable[[Connection], None] | None = None  # called when it ends while idle
        self._loop = loop
        self._options = options
        self._watchdog = watchdog
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = loop.create_future()  # set when the loop has released the socket
        self._waiter: asyncio.Future[None] | None = None
        self._check: Callable[[float], None] | None = None  # called by the watchdog while a coroutine waits
        self._deadline = 0.0
        self._error: Exception | None = None  # what broke the exchange
        self._cause: Exception | None = None  # what ended the connection, as the loop reported it
        self._response = Response()
        self._out = Outgoing()
        self._held = False
        self._eof = False  # the peer closed its side cleanly (over TLS: by close_notify)
        self._write_blocked = False  # the loop holds bytes that the kernel has not accepted
        self._pace = Pace(0.0, options.timeout, options.low_speed)
        self._reset("", "")

    def _reset(self, method: str, url: Url | str) -> None:
        self._method = method
        self._url = url
        self._receiving = False  # the response has a sink and is not done
        self.responded_early = False  # the response's head came before the request's body was complete

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} {self._method} {self._url}>"

    @property
    def connected(self) -> bool:
        """The loop owns the socket and will close it."""
        return self._transport is not None

    @property
    def response_began(self) -> bool:
        """A byte of the response has arrived."""
        return self._response.began

    @property
    def waits_here(self) -> bool:
        """The peer waits for this process: for more of the request's body, or for room for the response's."""
        if self.state is State.SENDING:
            return self._out.unsent > 0 and not self._out.is_draining and not self.responded_early
        return self._receiving and self._held

    # -- called by the loop --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport always is one
        # Rule 3: with this limit, pause_writing is called whenever the kernel does not have everything.
        transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._response.memory

    def buffer_updated(self, nbytes: int) -> None:
        self.moved += nbytes
        try:
            event = self._response.landed(nbytes)
            if event is not MORE:
                self._react(event)
        except Exception as error:
            self._break(error)

    def eof_received(self) -> bool:
        self._eof = True
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response.head is None and self.state in (State.SENDING, State.HEAD):
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

    # -- of a TLS connection -------------------------------------------------------------------------------

    @property
    def engine(self) -> TlsEngine | None:
        """Its TLS session; None for plaintext."""
        return None

    async def handshake(self) -> None:
        """Do the TLS handshake, if any. Raises `TlsFailed`. The caller bounds its time."""

    # -- one exchange --------------------------------------------------------------------------------------

    def begin(self, method: str, url: Url | str, head: bytes, content_length: int | None) -> None:
        """Send a request's head, possibly with a small body.

        If `content_length` bytes of a body are still to be written, the head leaves with the first of them.
        """
        self._reset(method, url)
        self._out.begin(content_length or 0, head)
        if self.state is State.CLOSED:
            self._error = self._failure(ReadFailed, "the connection was closed before the request was sent")
            return
        self._response.expect(method)
        self.exchanges += 1
        self.state = State.SENDING if content_length else State.HEAD
        self._watchdog.add(self)
        if not content_length:
            self._send(memoryview(head))

    async def write(self, data: memoryview) -> None:
        """Send body bytes; returns when `data` may be reused, early when the peer has responded."""
        out = self._out
        out.check(len(data))
        if self._response.head is not None:
            return
        if self._error is not None:
            raise self._error
        if (head := out.give(data)) is not None:
            self._send(head)
        self._pump()
        if out.is_draining:
            out.watch(self._loop.time())
            try:
                await self._wait(self._check_write)  # network
            finally:
                out.drop()
                if out.is_draining:  # rule 3
                    self._drop(None)
                    await self.gone()

    async def response(self, timeout: float, phase: str) -> ResponseHead:
        """The head of the final response. `timeout` bounds the wait for its first byte."""
        if self._response.head is None:
            if self._error is not None:
                raise self._error
            if self._out.unsent:
                raise InvalidInput(f"{self._out.unsent} bytes of the request's body were not written")
            self._deadline = self._loop.time() + timeout
            await self._wait(lambda now: self._check_head(now, timeout, phase))  # network
        assert self._response.head is not None
        return self._response.head

    @property
    def body_length(self) -> int | None:
        """The response's length by its framing, once the head is known and before the body is requested."""
        return self._response.length

    def take_body(self) -> bytes | None:
        """The response's body, if it arrived completely with the head; the exchange is then done."""
        if self.state is not State.HEAD or self.responded_early:
            return None
        body = self._response.whole()
        if body is not None:
            self._done()
        return body

    async def receive(self, sink: Sink, within: float = math.inf) -> int:
        """Deliver the body; returns its length. The connection is IDLE or CLOSED afterwards.

        `within` bounds the total time in seconds, in addition to the low-speed rule.
        """
        if self._error is not None:
            raise self._error
        self._deadline = self._loop.time() + within
        self._pace = Pace(self._loop.time(), self._options.timeout, self._options.low_speed)
        self._receiving = True
        if self.state is not State.CLOSED:
            self.state = State.BODY
        self._continue(lambda: self._response.attach(sink))
        if self._receiving:
            await self._wait(lambda now: self._check_body(now, within))  # network
        if self._error is not None:
            raise self._error
        return self._response.delivered

    def resume(self) -> None:
        """The sink has room again."""
        if self._receiving and self._held:
            self._pace.release(self._loop.time())
            before = self._response.delivered
            self._continue(self._response.proceed)
            self.moved += self._response.delivered - before

    def finish(self) -> None:
        """End the exchange: IDLE if nothing is outstanding, else CLOSED. Safe in any state."""
        if self.state is State.HEAD and self._response.head is not None and not self._response.outstanding:
            self._done()
        if self.state is State.CLOSED and self._waiter is None:
            self._response.forget()
        elif self.state is not State.IDLE:
            self.abort()

    def hand_over(self) -> asyncio.Transport:
        """Hand the transport over after a CONNECT; this object is then done."""
        assert self._transport is not None
        if self._response.outstanding:
            raise self._failure(ProtocolError, "the proxy sent more than its response")
        self.state = State.CLOSED
        self._watchdog.remove(self)
        return self._transport

    # -- reactions to input --------------------------------------------------------------------------------

    def _react(self, event: Event) -> None:
        if event is DONE:
            self._done()
        elif event is FULL:
            self._hold()
        elif event is HEAD:
            self._head_is_known()
        elif event is UNASKED:
            self._end(None)

    def _head_is_known(self) -> None:
        if self._response.full:
            self._hold()
        if self.state is not State.SENDING:
            self._wake()
            return
        self.responded_early = True  # the peer does not need the rest of the request (U12)
        if not self._out.is_draining:
            return
        # Releasing the request's memory closes the connection, so the whole response is read first.
        if self._response.complete or self._held:
            self._wake()
        elif self._check is not None and self._out.drop():
            self._deadline = self._loop.time() + EARLY_RESPONSE_GRACE
            self._check = self._check_grace

    def _continue(self, step: Callable[[], Event]) -> None:
        try:
            event = step()
            if event is MORE:
                self._restart_reading()
            else:
                self._react(event)
        except Exception as error:
            self._break(error)

    def _done(self) -> None:
        """The body is complete."""
        self._receiving = False
        head = self._response.head
        assert head is not None
        whole = self.state in (State.HEAD, State.BODY) and not self.responded_early and self._response.exact
        if not whole or not head.keep_alive:
            self._drop(None)
            return
        self.state = State.IDLE
        self.idle_since = self._loop.time()
        self._watchdog.remove(self)
        self._response.forget()
        self._restart_reading()
        self._wake()

    def _hold(self) -> None:
        if self._receiving:
            self._pace.hold(self._loop.time())
        if not self._held and self._transport is not None:
            self._held = True
            self._transport.pause_reading()

    def _restart_reading(self) -> None:
        if self._held and self._transport is not None:
            self._held = False
            self._transport.resume_reading()

    # -- writing -------------------------------------------------------------------------------------------

    def _send(self, data: memoryview) -> None:
        """Give bytes to the loop; `TlsConnection` gives it ciphertext instead."""
        assert self._transport is not None
        self._transport.write(data)

    def _pump(self) -> None:
        """Give pieces to the loop until it blocks; note when the kernel has everything."""
        assert self._transport is not None
        out = self._out
        while out.is_draining and not self._write_blocked and not self._transport.is_closing():
            piece = out.take()
            if piece is None:
                if not out.unsent and self.state is State.SENDING:
                    self.state = State.HEAD
                self._wake()
                return
            self.moved += len(piece)
            self._send(piece)

    # -- the end -------------------------------------------------------------------------------------------

    def alive(self, now: float, idle_for: float) -> bool:
        """Whether an idle connection may be reused: open, and idle for at most `idle_for` seconds."""
        return self.state is State.IDLE and now - self.idle_since <= idle_for and silent(self._sock)

    def close(self) -> None:
        """Close an idle connection cleanly."""
        self.state = State.CLOSED
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once. No byte given to `write` leaves the process after this call."""
        if self._error is None:
            self._error = self._failure(ReadFailed, "the connection was closed by this side")
        self._drop(self._error)

    async def gone(self) -> None:
        """Wait until the loop has released the socket and all memory it was given."""
        if self._transport is not None:
            await asyncio.shield(self._gone)
            # uvloop closes its handle after connection_lost and drops pending writes one turn later.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def _drop(self, error: Exception | None) -> None:
        """Close the socket and wake all waiters. Without an `error` the response stays readable."""
        self.state = State.CLOSED
        self._watchdog.remove(self)
        self._response.end(False)
        if error is not None:
            self._receiving = False
            self._response.forget()
        if self._transport is not None:
            if self._transport.get_write_buffer_size():
                try:  # uvloop may write once more before it closes; rule 3
                    self._sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # already disconnected, which is just as good
            self._transport.abort()
        self._wake(error)

    def _break(self, error: Exception) -> None:
        """The exchange failed."""
        if isinstance(error, TransportError) and self._method and not error.method:
            bare, why = error, f": {self._cause}" if str(self._cause or "") else ""
            what = f"{redact_text(str(bare))}{why}"
            error = self._failure(type(bare), what, advice=bare.advice, retryable=bare.retryable)
            error.__cause__ = bare.__cause__ or self._cause
        if self._error is None:
            self._error = error
        self._drop(self._error)

    def _end(self, exc: Exception | None) -> None:
        """The peer ended the connection, or it broke."""
        if self.state is State.CLOSED:
            return
        self._cause = exc
        self.peer_ended = True
        self._response.end(self._eof and exc is None)
        if self.state in (State.NEW, State.IDLE):
            self._drop(None)
            if self.on_lost is not None:
                self.on_lost(self)
        elif self._response.head is None:
            self._break(self._no_response())
        elif self._receiving:
            self.state = State.CLOSED
            self._continue(self._response.proceed)
        else:  # the head is known and the body not requested yet: `receive` handles it
            self._drop(None)

    def _no_response(self) -> TransportError:
        if self.state is State.SENDING:
            size, sent = self._out.size, self._out.size - self._out.unsent
            return WriteFailed(f"the connection broke with at most {sent} of {size} bytes sent")
        where = "in the head of the response" if self._response.began else "before a response"
        return ReadFailed(f"the connection was closed {where}")

    def _failure(self, kind: type[_E], what: str, **details: Any) -> _E:
        url = str(self._url)
        return kind(f"{self._method} {url}: {what}", method=self._method, url=url, **details)

    def _salvage(self) -> None:
        """Read what the kernel still holds: a response that arrived before our write met a reset."""
        while self.state is not State.CLOSED and not self._held:
            if not (count := left_over(self._sock, self.get_buffer(-1))):
                return
            self.buffer_updated(count)

    # -- waiting -------------------------------------------------------------------------------------------

    async def _wait(self, check: Callable[[float], None]) -> None:
        """Wait for `_wake`, bounded by `check`. Cancellation closes the connection."""
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
        if self._response.began:
            if now >= self._deadline + self._options.timeout:
                what = "the head of the response did not arrive completely in time"
                self._break(self._failure(TimedOut, what, phase="first byte"))
        elif waiting := unacknowledged(self._sock):
            # Part of the request is still here (the kernel's buffers hold megabytes), so the peer cannot be
            # working on its response: that wait has not started, and this one has its own bound.
            self._deadline = now + timeout
            self._check_taken(now, waiting)
        elif now >= self._deadline:
            self._break(self._failure(TimedOut, f"no response within {timeout:g} s", phase=phase))

    def _check_body(self, now: float, within: float) -> None:
        if now >= self._deadline:  # it trickled, just fast enough for the low-speed rule
            what = f"a small response did not arrive completely within {within:g} s"
            self._break(self._failure(TimedOut, what, phase="low speed"))
        elif self._pace.too_slow(now, self._response.delivered):
            slow = f"under {self._options.low_speed} bytes a second for {self._options.timeout:g} s"
            what = f"{slow}, after {self._response.delivered} bytes of the body"
            self._break(self._failure(TimedOut, what, phase="low speed"))

    def _check_write(self, now: float) -> None:
        assert self._transport is not None
        self._check_taken(now, self._transport.get_write_buffer_size())

    def _check_taken(self, now: float, beyond: int) -> None:
        waiting = self._out.stuck(now, beyond, self._options.timeout)
        if waiting is not None:
            what = f"the peer accepted nothing for {self._options.timeout:g} s, {waiting} bytes waiting"
            self._break(self._failure(TimedOut, what, phase="write"))

    def _check_grace(self, now: float) -> None:
        if now >= self._deadline:
            self._wake()
