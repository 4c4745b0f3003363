"""TLS without sockets: the interface of an engine, and the engine on Python's `ssl`.

The connection receives ciphertext into the engine's memory and has it decrypted into the sink's memory; the
rest of the byte path does not know about TLS.
"""

from __future__ import annotations

import ssl
from typing import Protocol

from crossdock.errors import (
    Advice,
    ReadFailed,
    TlsFailed,
    TransportError,
    WriteFailed,
)

# Ciphertext received at once: 16 records. CPU measured through a memory BIO on loopback: 16 KiB costs half as
# much
# again, 64 KiB a tenth more, 512 KiB and 1 MiB no less. It also bounds the bytes that stay undecrypted when
# the sink
# is full.
CIPHERTEXT_SIZE = 256 * 1024

# Plaintext encrypted at once; the loop holds the ciphertext until the kernel accepts it.
PLAINTEXT_PIECE = 256 * 1024


class TlsEngine(Protocol):
    """One TLS client session. Raises `TlsFailed` from `handshake`, `ReadFailed`, `WriteFailed` after it."""

    @property
    def closed(self) -> bool:
        """The peer closed cleanly, by close_notify; no more bytes will arrive."""

    def get_buffer(self) -> memoryview:
        """Memory for the next ciphertext, never empty, valid until `received`."""

    def received(self, count: int) -> None:
        """Note that `count` bytes of ciphertext are in the buffer. All are consumed."""

    def handshake(self) -> bool:
        """Proceed as far as the received bytes allow; True once the session is ready."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with available plaintext. If it is not filled, more ciphertext is needed, or the
        session is `closed`."""

    def write(self, data: memoryview) -> None:
        """Encrypt all of `data`."""

    def take(self) -> bytes | memoryview:
        """The ciphertext to send, in order; empty if there is none. Release the view as soon as possible: its
        memory is then reused."""

    def close(self) -> None:
        """Send close_notify. Never raises."""


class SslEngine:
    """`TlsEngine` on `ssl.MemoryBIO`. `memory` may be shared by all engines of one event loop."""

    def __init__(self, context: ssl.SSLContext, host: str, memory: memoryview) -> None:
        self.closed = False
        self._host = host
        self._memory = memory
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        except ValueError as error:
            raise TlsFailed(f"no certificate can be verified for {host}: {error}") from error

    def get_buffer(self) -> memoryview:
        """As `TlsEngine.get_buffer`."""
        return self._memory

    def received(self, count: int) -> None:
        """As `TlsEngine.received`."""
        self._incoming.write(self._memory[:count])

    def handshake(self) -> bool:
        """As `TlsEngine.handshake`."""
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise handshake_failure(error, self._host) from error
        return True

    def read_into(self, buffer: memoryview) -> int:
        """As `TlsEngine.read_into`. OpenSSL returns one record of 16 KiB per call, hence the loop."""
        read = self._session.read
        filled, size = 0, len(buffer)
        try:
            while filled < size:
                count = read(size - filled, buffer[filled:])
                if not count:
                    self.closed = True
                    break
                filled += count  # type: ignore[operator]  # with a buffer it returns a count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as error:
            raise session_failure(error, self._host, ReadFailed) from error
        return filled

    def write(self, data: memoryview) -> None:
        """As `TlsEngine.write`."""
        try:
            while data:
                data = data[self._session.write(data) :]
        except (
            ssl.SSLError
        ) as error:  # includes SSLWantReadError: a TLS 1.2 renegotiation, which is not supported
            raise session_failure(error, self._host, WriteFailed) from error

    def take(self) -> bytes:
        """As `TlsEngine.take`."""
        return self._outgoing.read()

    def close(self) -> None:
        """As `TlsEngine.close`."""
        try:
            self._session.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer has not responded, or the handshake was not completed


# OpenSSL's X509_V_ERR_*: no chain to a trusted root.
_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 27})
_EXPIRED = frozenset({9, 10})
_WRONG_NAME = frozenset({62, 64})

_NOT_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    }
)


def handshake_failure(error: ssl.SSLError, host: str) -> TlsFailed:
    """The failure in OpenSSL's words, with advice."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = Advice("replace-certificate")
        if error.verify_code in _UNTRUSTED:
            advice = Advice("give-ca")
        elif error.verify_code in _EXPIRED:
            advice = Advice("renew-certificate")
        elif error.verify_code in _WRONG_NAME:
            advice = Advice("use-certified-name")
        return TlsFailed(f"the certificate of {host} was refused: {error.verify_message}", advice=advice)
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        return TlsFailed(f"{host} does not speak TLS ({reason})", advice=Advice("plain-http"))
    if "ALERT" in reason:
        return TlsFailed(f"{host} refused the TLS handshake: {_words(reason)}", advice=alert_advice(reason))
    return TlsFailed(f"the TLS handshake with {host} failed: {_words(reason)}")


def session_failure(error: ssl.SSLError, host: str, kind: type[TransportError]) -> TransportError:
    """An error after the handshake, which is when a TLS 1.3 server refuses our certificate."""
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason or "ACCESS_DENIED" in reason):
        return TlsFailed(f"{host} refused the TLS session: {_words(reason)}", advice=alert_advice(reason))
    return kind(f"the TLS session with {host} broke: {_words(reason)}")


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def alert_advice(reason: str) -> Advice | None:
    """Advice for a peer's refusal, by the name of its alert."""
    reason = reason.upper().replace(" ", "_")
    if "CERT" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE_FAILURE" in reason:
        return Advice("client-certificate", why="the server may want a client certificate")
    return None
