"""Verifies certificates with OpenSSL, whichever engine moves the bytes.

`ssl` has no call that verifies a chain, but in every handshake it verifies the chain as soon as it has read
the server's Certificate message, before the server proves that it has the key. So the chain is shown to a
session without a server: it gets a ServerHello of TLS 1.2, in which certificates are not encrypted, and the
Certificate message. If the session raises `ssl.SSLCertVerificationError`, the chain is refused, with the same
words as on a connection with `ssl`; if it waits for more bytes, the chain is accepted. The engine that talks
to the server checks the proof of the key.

Thus the context's roots, directories of roots, partial chains, strictness, names and dates apply, in every
version of Python and OpenSSL.
"""

from __future__ import annotations

import ssl

from crossdock.errors import TlsFailed
from crossdock.transport.tls import handshake_failure

_RECORD = 1 << 14  # a record's largest content (RFC 5246 6.2.1)
_HANDSHAKE, _SERVER_HELLO, _CERTIFICATE = 22, 2, 11
_VERSION = b"\3\3"
_EXTENSIONS = b"\xff\1\0\1\0"  # renegotiation_info, which OpenSSL 3 requires (RFC 5746 3.4)


class CannotJudge(Exception):
    """The context cannot verify this way: it excludes TLS 1.2, or has no cipher suite with certificates."""


class Judge:
    """Verifies chains with one context, in about half a millisecond each."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """Raises `CannotJudge`."""
        self._context = context
        # One suite for each kind of key, because a certificate of another kind would be refused.
        suites = {
            suite["auth"]: suite["id"] & 0xFFFF
            for suite in reversed(context.get_ciphers())
            if suite["protocol"] == "TLSv1.2" and suite["kea"] == "kx-ecdhe"
        }
        self._suites = [suites[auth] for auth in ("auth-ecdsa", "auth-rsa") if auth in suites]
        lowest = context.minimum_version
        if not self._suites or lowest > ssl.TLSVersion.TLSv1_2 or context.options & ssl.OP_NO_TLSv1_2:
            raise CannotJudge

    def judge(self, host: str, chain: list[bytes]) -> None:
        """Return if `chain` (DER, the server's certificate first) is valid for `host`.

        Raises `TlsFailed` if it is not, `CannotJudge` if OpenSSL fails for another reason.
        """
        for suite in self._suites:
            error = self._try(host, chain, suite)
            if error is None:
                return
            if isinstance(error, ssl.SSLCertVerificationError):
                raise handshake_failure(error, host) from error
        raise CannotJudge

    def _try(self, host: str, chain: list[bytes], suite: int) -> ssl.SSLError | None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self._context.wrap_bio(incoming, outgoing, server_hostname=host)
        incoming.write(_server_flight(chain, suite))
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            return error
        # a session cannot complete after so few messages
        raise TlsFailed(f"the certificate of {host} could not be verified")


def _server_flight(chain: list[bytes], suite: int) -> bytes:
    no_session, no_compression = b"\0", b"\0"
    random = bytes(32)  # need not be random: nothing is encrypted and no key is derived
    hello = _VERSION + random + no_session + suite.to_bytes(2, "big") + no_compression
    certificates = b"".join(_sized(certificate, 3) for certificate in chain)
    flight = _message(_SERVER_HELLO, hello + _sized(_EXTENSIONS, 2))
    flight += _message(_CERTIFICATE, _sized(certificates, 3))
    pieces = [flight[at : at + _RECORD] for at in range(0, len(flight), _RECORD)]
    return b"".join(bytes([_HANDSHAKE]) + _VERSION + _sized(piece, 2) for piece in pieces)


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _sized(body, 3)


def _sized(body: bytes, width: int) -> bytes:
    return len(body).to_bytes(width, "big") + body
