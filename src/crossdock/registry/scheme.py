"""HTTPS or plain HTTP: decided once per registry, before anything that matters is sent.

HTTPS always, with two exceptions: plain HTTP was asked for, or the registry is on loopback and its port
does not speak TLS. The second is found out by a TLS ClientHello alone. A server that answers it in TLS (a
handshake or an alert record) gets HTTPS, whatever its certificate: an untrusted one must fail there, not
fall back to plain.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl

from crossdock.errors import ConnectFailed, InvalidInput, TimedOut
from crossdock.options import RegistryOptions
from crossdock.protocol.redirect import is_loopback
from crossdock.transport.reason import os_reason

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
        raise InvalidInput(f"{host!r} is no host[:port]")
    return match[1] or match[2], port


async def choose_scheme(host: str, options: RegistryOptions, connect_timeout: float) -> str:
    """``https`` or ``http`` for the registry at `host`. # network, on loopback only

    Raises `ConnectFailed` or `TimedOut` when a loopback port that must be tried does not accept connections.
    """
    if options.plain_http:
        return "http"
    given_tls = options.ca_file is not None or options.cert_file is not None
    name, port = split_host(host)
    if options.plain_http is False or given_tls or not is_loopback(name):
        return "https"
    # Without a port, plain HTTP would mean 80 and HTTPS 443: only one of them can be listening as meant.
    return "https" if await speaks_tls(name, port or 443, connect_timeout) else "http"


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
        raise ConnectFailed(f"no connection to {host}:{port}: {os_reason(error)}") from None
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the handshake is never finished: no roots, no trust
    context.set_alpn_protocols(["http/1.1"])
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
