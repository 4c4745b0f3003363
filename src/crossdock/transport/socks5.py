"""Connects through a SOCKS5 proxy (RFC 1928), with user and password if it requires them (RFC 1929).

The proxy resolves names, for ``socks5`` as for ``socks5h``, as with Go's tools.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    ConnectFailed,
)
from crossdock.transport.reason import os_reason

if TYPE_CHECKING:
    from crossdock.transport.route import Proxy

_VERSION, _LOGIN_VERSION = 5, 1
_NO_LOGIN, _BY_PASSWORD, _NONE_FITS = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
# RFC 1928 6: the reason, and whether it may be transient.
_REFUSALS = {
    1: ("general failure", True),
    2: ("not allowed by its rules", False),
    3: ("network unreachable", True),
    4: ("host unreachable", True),
    5: ("Connection refused", True),
    6: ("time to live expired", True),
    7: ("command not supported", False),
    8: ("address type not supported", False),
}
_CHECK_LOGIN = Advice("proxy-login")


class Dialogue:
    """The negotiation on a socket that then carries the connection's bytes. The caller bounds its time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy) -> None:
        self._loop = loop
        self._sock = sock
        self._proxy = proxy
        self._who = f"the proxy {proxy.host}:{proxy.port}"

    async def connect(self, host: str, port: int) -> None:
        """Make the proxy connect to `host` and `port`. Raises `ConnectFailed`. # network"""
        try:
            await self._log_in()
            await self._send(bytes((_VERSION, _CONNECT, 0)) + _address(host) + port.to_bytes(2, "big"))
            await self._read_answer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except OSError as error:
            if isinstance(error, ConnectFailed):
                raise
            raise ConnectFailed(f"{self._who} broke the connection: {os_reason(error)}") from error

    async def _log_in(self) -> None:
        methods = (_NO_LOGIN, _BY_PASSWORD) if self._proxy.login else (_NO_LOGIN,)
        await self._send(bytes((_VERSION, len(methods), *methods)))
        version, method = await self._read(2)
        if version != _VERSION:
            raise ConnectFailed(f"{self._who} does not speak SOCKS5", retryable=False)
        if method == _BY_PASSWORD and self._proxy.login is not None:
            words = [word.encode() for word in self._proxy.login]
            if not all(0 < len(word) < 256 for word in words):
                raise ConnectFailed(
                    f"{self._who} takes a user and a password of 1 to 255 bytes",
                    advice=_CHECK_LOGIN,
                    retryable=False,
                )
            await self._send(
                bytes((_LOGIN_VERSION,)) + b"".join(bytes((len(word),)) + word for word in words)
            )
            _, status = await self._read(2)
            if status:
                raise ConnectFailed(
                    f"{self._who} refused user and password", advice=_CHECK_LOGIN, retryable=False
                )
        elif method != _NO_LOGIN:
            raise ConnectFailed(f"{self._who} wants another login", advice=_CHECK_LOGIN, retryable=False)

    async def _read_answer(self, place: str) -> None:
        version, status, _, kind = await self._read(4)
        if version != _VERSION:
            raise ConnectFailed(f"{self._who} does not speak SOCKS5", retryable=False)
        if status:
            words, may_pass = _REFUSALS.get(status, (f"SOCKS5 status {status}", False))
            raise ConnectFailed(
                f"{self._who} refused to connect to {place}: {words}",
                retryable=may_pass,
                is_closed=status == 5,
            )
        # The proxy's own address is ignored; the peer's bytes follow it.
        size = {_IPV4: 4, _IPV6: 16}.get(kind)
        await self._read((size if size is not None else (await self._read(1))[0]) + 2)

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def _read(self, count: int) -> bytes:
        """Exactly `count` bytes: those that follow belong to the connection."""
        data = b""
        while len(data) < count:
            piece = await self._loop.sock_recv(self._sock, count - len(data))
            if not piece:
                raise ConnectFailed(f"{self._who} closed the connection")
            data += piece
        return data


def _address(host: str) -> bytes:
    for kind, family in ((_IPV4, socket.AF_INET), (_IPV6, socket.AF_INET6)):
        try:
            return bytes((kind,)) + socket.inet_pton(family, host)
        except OSError:
            continue
    name = host.encode("ascii")[:255]
    return bytes((_NAME, len(name))) + name
