"""Chooses the TLS engine for a host. Nothing else creates engines."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from crossdock import _tls
from crossdock.errors import TlsFailed
from crossdock.transport.base import TlsSettings
from crossdock.transport.tls import CIPHERTEXT_SIZE, SslEngine, TlsEngine
from crossdock.transport.tls_rustls import NeedsSsl, RustlsClient

if TYPE_CHECKING:
    from crossdock.transport.base import TlsFor

Place = tuple[str, int]  # host and port


class TlsEngines:
    """Engines for the connections of one event loop.

    rustls, if it is installed; `ssl` otherwise, for settings that rustls does not support, and for hosts with
    which only `ssl` completed a handshake.
    """

    def __init__(self, tls_for: TlsFor) -> None:
        self._tls_for = tls_for
        self._settings: dict[Place, TlsSettings] = {}
        self._clients: dict[Place, RustlsClient | None] = {}  # None: this place uses `ssl`
        # Ciphertext, shared by all engines of a kind: it is used within one callback and so stays in the CPU
        # cache.
        self._memory = memoryview(bytearray(CIPHERTEXT_SIZE))
        self._rustls_memory = _tls.rustls.Memory(CIPHERTEXT_SIZE) if _tls.rustls is not None else None

    def engine_for(self, host: str, port: int, *, by_ssl: bool = False) -> TlsEngine:
        """A new session. Raises the errors of `tls_for`, and `TlsFailed` for an invalid host name."""
        place = host, port
        if place not in self._settings:
            self._open(place)
        client = self._clients[place]
        if client is not None and not by_ssl:
            try:
                return client.engine(host, self._rustls_memory)
            except NeedsSsl:
                self._clients[place] = None
        return SslEngine(self._settings[place].context, host, self._memory)

    def worth_ssl(self, host: str, port: int, error: TlsFailed) -> bool:
        """Whether to repeat a handshake that failed with `error` on `ssl`, whose result is final.

        Not if OpenSSL refused the server's certificate, or the server refused ours. A place that needs `ssl`
        keeps using it. A server that closed the connection may have had other reasons, so the next connection
        tries rustls again.
        """
        place = host, port
        if self._clients.get(place) is None:
            return False
        if isinstance(error, NeedsSsl):
            self._clients[place] = None
            return True
        return error.retryable

    def advised(self, host: str, port: int, error: TlsFailed) -> TlsFailed:
        """`error` with advice that names the inventory's entry, if the settings come from one."""
        file, entry = self._settings[host, port].entry
        if not entry or error.advice is None:
            return error
        return error.replace(advice=error.advice.replace(file=file, entry=entry))

    def _open(self, place: Place) -> None:
        given = self._tls_for(*place)
        settings = TlsSettings(given) if isinstance(given, ssl.SSLContext) else given
        self._settings[place] = settings
        self._clients[place] = None
        if _tls.rustls is not None:
            try:
                self._clients[place] = RustlsClient(_tls.rustls, settings)
            except NeedsSsl:
                pass
