"""The only door to the engines: which of them serves a host."""

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

    rustls where it is installed; `ssl` else, for settings that rustls does not cover, and for hosts with
    which only `ssl` came to terms.
    """

    def __init__(self, tls_for: TlsFor) -> None:
        self._tls_for = tls_for
        self._settings: dict[Place, TlsSettings] = {}
        self._clients: dict[Place, RustlsClient | None] = {}  # None: this place is served by `ssl`
        # Ciphertext, for all engines of a kind: used within one callback, and so it stays in the cache.
        self._memory = memoryview(bytearray(CIPHERTEXT_SIZE))
        self._rustls_memory = _tls.rustls.Memory(CIPHERTEXT_SIZE) if _tls.rustls is not None else None

    def engine_for(self, host: str, port: int, *, by_ssl: bool = False) -> TlsEngine:
        """A new session. Raises what `tls_for` raises, and `TlsFailed` for a host that is not a name."""
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
        """Whether a handshake that failed by `error` is to be repeated on `ssl`, whose word is the last.

        Not when OpenSSL has refused the server's certificate, nor when the server has refused ours. A place
        that needs `ssl` keeps it. A server that hung up may have had reasons of its own: rustls asks it again
        next time.
        """
        place = host, port
        if self._clients.get(place) is None:
            return False
        if isinstance(error, NeedsSsl):
            self._clients[place] = None
            return True
        return error.retryable

    def advised(self, host: str, port: int, error: TlsFailed) -> TlsFailed:
        """`error`, whose advice names the inventory's entry where the settings are from one."""
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
