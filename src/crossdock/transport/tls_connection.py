"""A connection with a `TlsEngine` between it and its socket."""

from __future__ import annotations

import asyncio
import socket

from crossdock.errors import (
    Advice,
    TlsFailed,
)
from crossdock.options import NetworkOptions
from crossdock.transport.connection import Connection
from crossdock.transport.state import State
from crossdock.transport.tls import PLAINTEXT_PIECE, TlsEngine
from crossdock.transport.watchdog import Watchdog


class TlsConnection(Connection):
    """`Connection` over TLS. It receives ciphertext into the engine's memory and decrypts into the sink's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: NetworkOptions,
        watchdog: Watchdog,
        sock: socket.socket,
        engine: TlsEngine,
    ) -> None:
        super().__init__(loop, options, watchdog, sock)
        self._engine = engine
        self._handshaking = True

    @property
    def engine(self) -> TlsEngine:
        """As `Connection.engine`."""
        return self._engine

    async def handshake(self) -> None:
        """As `Connection.handshake`."""
        self._shake()
        if self._handshaking and self._error is None:
            await self._wait(lambda now: None)  # network; the caller bounds its time
        if self._error is not None:
            raise self._error

    def _shake(self) -> None:
        try:
            done = self._engine.handshake()
        finally:
            self._flush()  # after a failure there is an alert to send
        if done:
            self._handshaking = False
            self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._engine.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._engine.received(nbytes)
            if self._handshaking:
                self._shake()
            if not self._handshaking:
                self._decrypt()
        except Exception as error:
            self._break(error)

    def _decrypt(self) -> None:
        engine, response = self._engine, self._response
        while not self._held and self.state is not State.CLOSED:
            memory = response.memory
            count = engine.read_into(memory)
            if count:
                super().buffer_updated(count)
            if count < len(memory) and not self._held:  # else there may be more, or reading is paused
                if engine.closed:
                    self.eof_received()
                    return
                break
        self._flush()  # responses to key updates

    def _flush(self) -> None:
        ciphertext = self._engine.take()
        if ciphertext and self._transport is not None and not self._transport.is_closing():
            self._transport.write(ciphertext)

    def _restart_reading(self) -> None:
        """Decrypt received bytes first; then read the socket, if there is still room."""
        if not self._held:
            return
        self._held = False
        self._decrypt()
        if not self._held and self._transport is not None:
            self._transport.resume_reading()

    def _send(self, data: memoryview) -> None:
        while data:
            self._engine.write(data[:PLAINTEXT_PIECE])
            data = data[PLAINTEXT_PIECE:]
            self._flush()

    def eof_received(self) -> bool:
        if self._handshaking:
            self._break(
                TlsFailed(
                    "the server closed the connection during the TLS handshake",
                    advice=Advice("check-tls"),
                    retryable=True,
                )
            )
            return False
        self._eof = self._engine.closed
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshaking and self.state is not State.CLOSED:
            why = f": {exc}" if exc else ""
            self._break(TlsFailed(f"the connection broke during the TLS handshake{why}", retryable=True))
        super().connection_lost(exc)

    def close(self) -> None:
        if not self._handshaking and self.state is not State.CLOSED:
            self._engine.close()
            self._flush()
        super().close()
