"""TLS to a proxy, around the TLS of the tunnelled connection: nested engines of either kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossdock.transport.connection import Connection
    from crossdock.transport.tls import TlsEngine


class TlsTunnel(asyncio.BufferedProtocol, asyncio.Transport):
    """A protocol for the loop and a transport for the inner connection, with one more layer of encryption."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: TlsEngine,
        outer: asyncio.Transport,
        inner: Connection,
    ) -> None:
        """`engine` has completed its handshake with the proxy; `outer` is the loop's transport."""
        super().__init__()
        self._loop = loop
        self._engine = engine
        self._outer = outer
        self._inner = inner
        self._is_paused = False
        self._error: Exception | None = None

    # -- called by the loop --------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Memory for ciphertext of the session with the proxy."""
        return self._engine.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt and pass on."""
        try:
            self._engine.received(nbytes)
            self._pass_on()
        except Exception as error:
            self._break(error)

    def eof_received(self) -> bool:
        """The proxy closed the connection."""
        return bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._inner.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """The kernel has not accepted everything."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The kernel has accepted everything."""
        self._inner.resume_writing()

    # -- called by the inner connection --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        self._engine.write(memoryview(data))
        self._flush()

    def pause_reading(self) -> None:
        """Pass nothing on; at most one buffer of received bytes stays undecrypted."""
        self._is_paused = True
        self._outer.pause_reading()

    def resume_reading(self) -> None:
        """Resume, first with received bytes; not at once, because the caller is not reentrant."""
        self._is_paused = False
        self._loop.call_soon(self._go_on)

    def is_closing(self) -> bool:
        """As the loop's transport."""
        return self._outer.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As the loop's transport."""
        self._outer.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """As the loop's transport."""
        return self._outer.get_write_buffer_size()

    def close(self) -> None:
        """Send close_notify to the proxy as well, and close."""
        self._engine.close()
        self._flush()
        self._outer.close()

    def abort(self) -> None:
        """Close at once."""
        self._outer.abort()

    def _go_on(self) -> None:
        if self._is_paused or self._outer.is_closing():
            return
        try:
            self._pass_on()
        except Exception as error:
            self._break(error)
        if not self._is_paused and not self._outer.is_closing():
            self._outer.resume_reading()

    def _break(self, error: Exception) -> None:
        self._error = error
        self._outer.abort()

    def _pass_on(self) -> None:
        while not self._is_paused and not self._outer.is_closing():
            memory = self._inner.get_buffer(-1)
            count = self._engine.read_into(memory)
            if count:
                self._inner.buffer_updated(count)
            if count < len(memory):
                if self._engine.closed:
                    self._inner.eof_received()
                break
        self._flush()  # responses to key updates

    def _flush(self) -> None:
        ciphertext = self._engine.take()
        if ciphertext and not self._outer.is_closing():
            self._outer.write(ciphertext)
