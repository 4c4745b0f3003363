"""The engine on rustls: rustls handles records, OpenSSL verifies certificates.

Whenever rustls fails, it raises `NeedsSsl` and the connection is opened again with `ssl`, whose result is
final. So rustls affects speed but never trust.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

from crossdock.errors import ReadFailed, TlsFailed, TransportError, WriteFailed
from crossdock.transport.tls import alert_advice
from crossdock.transport.tls_judge import CannotJudge, Judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from crossdock.transport.base import TlsSettings

# Alerts by which the peer refuses our certificate, or the lack of one (RFC 8446 6.2). It would refuse `ssl`
# as
# well.
_ABOUT_OUR_CERTIFICATE = frozenset({42, 43, 44, 45, 46, 48, 49, 116})


class NeedsSsl(TlsFailed):
    """rustls cannot do this handshake; `ssl` may, or reports a better reason."""


class RustlsClient:
    """Shared by all sessions with the same settings."""

    judge: Judge
    error: type[Exception]  # raised by sessions
    must_not_be_asked: bool  # for a client certificate, since OpenSSL's choice of it is unknown

    def __init__(self, rustls: ModuleType, settings: TlsSettings) -> None:
        """Raises `NeedsSsl` for settings that rustls does not support. Reads the files of the client pair."""
        context = settings.context
        if context.keylog_filename is not None:
            raise NeedsSsl("rustls does not write a key log")
        pairs = settings.client_pairs or ()
        tls13 = context.maximum_version in (ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3)
        try:
            certificate, key = _read_pair(context, pairs[0]) if len(pairs) == 1 else (None, None)
            self.judge = Judge(context)
            self._client: Any = rustls.Client(
                suites=[suite["id"] & 0xFFFF for suite in context.get_ciphers()],
                tls13=tls13 and not context.options & ssl.OP_NO_TLSv1_3,
                certificate=certificate,
                key=key,
            )
        except (CannotJudge, ValueError, OSError) as error:
            raise NeedsSsl(f"rustls cannot work with these settings: {error}") from error
        self.error = rustls.TlsError
        self.must_not_be_asked = settings.client_pairs is None or len(pairs) > 1

    def engine(self, host: str, memory: Any) -> RustlsEngine:
        """A new session with `host`. Raises `NeedsSsl` for a name that rustls does not accept.

        `memory`: a `crossdock_tls.Memory`, which all engines of one event loop share.
        """

        def judge(chain: list[bytes]) -> None:
            self.judge.judge(host, chain)

        try:
            session = self._client.session(host, memory, judge)
        except (ValueError, self.error) as error:
            raise NeedsSsl(f"rustls cannot connect to {host}: {error}") from error
        return RustlsEngine(self, session, host)


class RustlsEngine:
    """`TlsEngine` on a session of `crossdock_tls`, which releases the GIL while it processes records."""

    def __init__(self, client: RustlsClient, session: Any, host: str) -> None:
        self._client = client
        self._session = session
        self._host = host
        # Called for every piece of a body, so directly.
        self.get_buffer: Callable[[], memoryview] = session.get_buffer
        self.received: Callable[[int], None] = session.received
        self.take: Callable[[], bytes | memoryview] = session.take

    @property
    def closed(self) -> bool:
        """As `TlsEngine.closed`."""
        return bool(self._session.closed)

    def handshake(self) -> bool:
        """As `TlsEngine.handshake`. Raises `NeedsSsl` too."""
        try:
            ready = bool(self._session.handshake())
        except CannotJudge as error:
            raise NeedsSsl(f"the certificate of {self._host} could not be judged") from error
        except self._client.error as error:
            if _about_our_certificate(error):
                raise self._refused("handshake", error) from error
            raise NeedsSsl(f"the TLS handshake with {self._host} failed: {_words(error)}") from error
        if self._session.asked and self._client.must_not_be_asked:
            raise NeedsSsl(f"{self._host} asks for a client certificate")
        return ready

    def read_into(self, buffer: memoryview) -> int:
        """As `TlsEngine.read_into`."""
        try:
            return int(self._session.read_into(buffer))
        except self._client.error as error:
            raise self._broken(error, ReadFailed) from error

    def write(self, data: memoryview) -> None:
        """As `TlsEngine.write`."""
        try:
            self._session.write(data)
        except self._client.error as error:
            raise self._broken(error, WriteFailed) from error

    def close(self) -> None:
        """As `TlsEngine.close`."""
        try:
            self._session.close()
        except self._client.error:
            pass  # the session is broken, or the handshake was not completed

    def _broken(self, error: Exception, kind: type[TransportError]) -> TransportError:
        """The error of a broken session. A TLS 1.3 server refuses our certificate only after the
        handshake."""
        if _about_our_certificate(error):
            return self._refused("session", error)
        return kind(f"the TLS session with {self._host} broke: {_words(error)}")

    def _refused(self, what: str, error: Exception) -> TlsFailed:
        words = _words(error)
        return TlsFailed(f"{self._host} refused the TLS {what}: {words}", advice=alert_advice(words))


def _read_pair(context: ssl.SSLContext, pair: tuple[Path, Path]) -> tuple[bytes, bytes]:
    certificate, key = (file.read_bytes() for file in pair)
    if certificate.count(b"-----BEGIN CERTIFICATE-----") == 1 and any(
        authority["subject"] != authority["issuer"] for authority in context.get_ca_certs()
    ):
        raise ValueError("OpenSSL may complete the chain of the client certificate")
    return certificate, key


def _about_our_certificate(error: Exception) -> bool:
    return error.args[1] in _ABOUT_OUR_CERTIFICATE


def _words(error: Exception) -> str:
    """``received fatal alert: CertificateRequired`` → ``received fatal alert: certificate required``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(error.args[0])).lower()
