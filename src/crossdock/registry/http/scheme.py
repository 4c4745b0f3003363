"""HTTPS or plain HTTP: decided once per registry, before anything that matters is sent.

HTTPS always, with two exceptions: plain HTTP was requested, or the registry is on loopback and its port
does not speak TLS. A TLS ClientHello alone decides the second. A server that answers it in TLS (a
handshake or an alert record) gets HTTPS, whatever its certificate: an untrusted one must fail there, not
fall back to plain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

from crossdock.descriptors import lacks_descriptors
from crossdock.errors import (
    Advice,
    ConnectFailed,
    InvalidInput,
    TimedOut,
)
from crossdock.options import RegistryOptions
from crossdock.protocol.addresses import literal
from crossdock.protocol.redirect import is_loopback
from crossdock.transport.base import CheckAddresses, ServedAt
from crossdock.transport.reason import is_refused, os_reason

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_TLS_RECORDS = frozenset({0x15, 0x16})  # alert, handshake (RFC 8446 section 5.1)
_SILENCE_S = (
    1.0  # an HTTP server may wait for a line's end that a ClientHello does not have: then say "that is all"
)
_BOUND_S = 5.0


def split_host(host: str) -> tuple[str, int | None]:
    """``host[:port]`` as a pair, IPv6 brackets removed. Raises `InvalidInput` when it is not of that form."""
    match = _HOST.fullmatch(host)
    port = int(match[3]) if match and match[3] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise InvalidInput(f"{host!r} is not a host[:port]")
    return match[1] or match[2], port


async def choose_scheme(
    host: str,
    options: RegistryOptions,
    connect_timeout: float,
    served_at: ServedAt | None = None,
    check: CheckAddresses | None = None,
) -> str:
    """``https`` or ``http`` for the registry at `host`. # network, on loopback only

    What counts is where the registry is served.

    Raises `ConnectFailed` or `TimedOut` when a loopback port that must be tried does not accept connections,
    and what `check` does.
    """
    if options.plain_http:
        return "http"
    given_tls = options.ca_file is not None or options.cert_file is not None
    own_name, own_port = split_host(host)
    # Without a port, plain HTTP would mean 80 and HTTPS 443: only one of them can be listening as meant.
    name, port = place_of(own_name, own_port or 443, served_at)
    if options.plain_http is False or given_tls or not is_loopback(name):
        return "https"
    if check is not None:
        check(own_name, own_port or 443, ["127.0.0.1" if literal(name) is None else name])
    return "https" if await speaks_tls(name, port, connect_timeout) else "http"


def place_of(host: str, port: int, served_at: ServedAt | None) -> tuple[str, int]:
    """The address at which `host` and `port` are served."""
    return (served_at(host, port) if served_at else None) or (host, port)


async def speaks_tls(host: str, port: int, connect_timeout: float) -> bool:
    """Whether the port answers a TLS ClientHello in TLS. Nothing else is sent. # network"""
    try:
        async with asyncio.timeout(connect_timeout):
            reader, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise TimedOut(
            f"{host}:{port}: no connection within {connect_timeout:g} s", phase="connect"
        ) from None
    except OSError as error:
        raise ConnectFailed(
            f"no connection to {host}:{port}: {os_reason(error)}",
            advice=Advice("raise-open-files") if lacks_descriptors(error) else None,
            is_closed=is_refused(error),
        ) from None
    try:
        writer.write(_client_hello(host))
        return await _first_byte(reader, writer) in _TLS_RECORDS
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_BOUND_S):
                await writer.wait_closed()


async def _first_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    for patience in (_SILENCE_S, _BOUND_S):
        try:
            async with asyncio.timeout(patience):
                answer = await reader.read(1)
        except TimeoutError:
            with contextlib.suppress(OSError):
                writer.write_eof()
        except OSError:
            return None
        else:
            return answer[0] if answer else None
    return None


def _client_hello(host: str) -> bytes:
    """A ClientHello for TLS 1.2 and 1.3 that any server answers, be it by an alert (RFC 8446 4.1.2).

    By hand: a context of `ssl` takes 5 ms, and the handshake is never finished. It shares no key, which asks
    a server of TLS 1.3 to name a group first (RFC 8446 4.2.8).
    """
    extensions = {
        10: _sized(2, b"\x00\x1d\x00\x17\x00\x18"),  # supported_groups: x25519, secp256r1, secp384r1
        11: b"\x01\x00",  # ec_point_formats: uncompressed
        13: _sized(2, bytes.fromhex("04030503060308070804080508060401050106010201")),  # signature_algorithms
        16: _sized(2, _sized(1, b"http/1.1")),  # application_layer_protocol_negotiation
        23: b"",  # extended_master_secret
        43: _sized(1, b"\x03\x04\x03\x03"),  # supported_versions
        51: _sized(2, b""),  # key_share
        0xFF01: b"\x00",  # renegotiation_info
    }
    if any(letter.isalpha() for letter in host) and ":" not in host:  # server_name is for names alone
        extensions[0] = _sized(2, b"\x00" + _sized(2, host.encode()))
    suites = bytes.fromhex("130113021303c02bc02fc02cc030cca9cca8c009c013c00ac014009c009d002f0035")
    hello = b"".join(
        (
            b"\x03\x03" + os.urandom(32),
            _sized(1, os.urandom(32)),  # a session's name, as middleboxes like it (RFC 8446 D.4)
            _sized(2, suites),
            _sized(1, b"\x00"),  # no compression
            _sized(
                2, b"".join(kind.to_bytes(2, "big") + _sized(2, body) for kind, body in extensions.items())
            ),
        )
    )
    return b"\x16\x03\x01" + _sized(2, b"\x01" + _sized(3, hello))


def _sized(width: int, content: bytes) -> bytes:
    """`content` behind its length, as TLS writes vectors."""
    return len(content).to_bytes(width, "big") + content
