"""Connects a route: name resolution, TCP, proxy, TLS."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from typing import TYPE_CHECKING, Any, cast

import aiohappyeyeballs
from aiohappyeyeballs.utils import addr_to_addr_infos

from crossdock.descriptors import lacks_descriptors
from crossdock.errors import (
    Advice,
    ConnectFailed,
    TimedOut,
    TlsFailed,
)
from crossdock.transport.connection import Connection
from crossdock.transport.head import encode_request
from crossdock.transport.reason import is_refused, is_unknown_name, os_reason
from crossdock.transport.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from aiohappyeyeballs.types import AddrInfoType

    from crossdock.options import NetworkOptions
    from crossdock.transport.base import CheckAddresses, TlsFor
    from crossdock.transport.route import Proxy, Route
    from crossdock.transport.tls_connection import TlsConnection
    from crossdock.transport.tls_door import TlsEngines

RESOLVED_FOR = 30.0  # seconds; storage hosts change their addresses from one minute to the next
ATTEMPT_DELAY = 0.25  # seconds before the next address is tried in parallel (RFC 8305 5)


class Resolver:
    """Resolves hosts with a short cache, and spreads connections over all addresses of a host (R13)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._resolved: set[str] = set()  # names that have been resolved before
        self._turn = itertools.count()

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses to try, in order. Raises `ConnectFailed`."""
        expires, addresses = self._known.get((host, port), (0.0, []))
        if expires <= self._loop.time():
            addresses = await self._look_up(host, port)
            self._known[host, port] = self._loop.time() + RESOLVED_FOR, addresses
        # The system's order of families is kept (RFC 6724); addresses rotate within each family.
        turn = next(self._turn)
        rotated: list[AddrInfoType] = []
        for _, group in itertools.groupby(addresses, key=lambda address: address[0]):
            family = list(group)
            first = turn % len(family)
            rotated += family[first:] + family[:first]
        return rotated

    def forget(self, host: str, port: int) -> None:
        """Resolve the host again next time, because its addresses failed."""
        self._known.pop((host, port), None)

    def prefer(self, host: str, port: int, family: int) -> None:
        """Try this address family first from now on, since it connected."""
        if (host, port) in self._known:
            expires, addresses = self._known[host, port]
            self._known[host, port] = expires, sorted(addresses, key=lambda address: address[0] != family)

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return addr_to_addr_infos((host, port)) or []
        try:
            found = await self._ask(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
            # A name that was resolved before is worth a retry: resolvers in Kubernetes clusters fail at
            # times.
            is_final = is_unknown_name(error) and host not in self._resolved
            raise ConnectFailed(
                f"the host name {host} could not be resolved: {os_reason(error)}",
                advice=Advice("check-host-name") if is_final else None,
                retryable=not is_final,
                is_unknown_name=is_final,
            ) from error
        if not found:
            raise ConnectFailed(f"the host name {host} has no address")
        self._resolved.add(host)
        # groups the families and keeps their order
        return sorted(found, key=lambda address: address[0] != found[0][0])

    async def _ask(self, host: str, port: int) -> Sequence[AddrInfoType]:
        return await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # network


class _Direct:
    """The event loop as `aiohappyeyeballs` uses it: uvloop's own has a thread look up each address again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket to an address. Raises OSError."""
        try:
            sock.connect(address)
        except BlockingIOError:
            writable = self._loop.create_future()
            self._loop.add_writer(sock, _wake, writable)
            try:
                await writable  # network
            finally:
                self._loop.remove_writer(sock)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code)) from None


class Connector:
    """Opens connections, each within `connect_timeout`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: NetworkOptions,
        watchdog: Watchdog,
        tls_for: TlsFor,
        check: CheckAddresses | None = None,
    ) -> None:
        self._loop = loop
        self._check = check
        self._options = options
        self._watchdog = watchdog
        self._tls_for = tls_for
        # for routes (False), and for TLS to proxies around them (True)
        self._engines: dict[bool, TlsEngines] = {}
        self._resolver = Resolver(loop)
        self._direct = cast("asyncio.AbstractEventLoop", _Direct(loop))
        self._reached: set[tuple[str, int]] = set()  # accepted a connection before

    async def connect(self, route: Route) -> Connection:
        """A new connection to `route`.

        Raises `ConnectFailed`, `TlsFailed`, `TimedOut` (phase connect), `AddressRefused`.
        """
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                return await self._connect(route)
        except TimedOut:
            raise
        except TimeoutError as error:
            self._forget(route)
            raise TimedOut(
                f"no connection to {_place(route)} within {self._options.connect_timeout:g} s",
                phase="connect",
            ) from error

    async def _connect(self, route: Route) -> Connection:
        by_ssl: set[tuple[str, int]] = set()
        while True:
            try:
                return await self._open(route, by_ssl)
            except _WorthSsl as worth:  # once for each place, then it is in `by_ssl`
                by_ssl.add(worth.place)

    async def _open(self, route: Route, by_ssl: Set[tuple[str, int]]) -> Connection:
        proxy, place = route.proxy, (route.origin.host, route.origin.port)
        sock = await self._dial(route)
        connection = Connection(self._loop, self._options, self._watchdog, sock)
        try:
            if proxy is not None and proxy.is_socks:
                from crossdock.transport.socks5 import Dialogue

                await Dialogue(self._loop, sock, proxy).connect(*place)
                proxy = None
            around = (proxy.host, proxy.port) if proxy is not None and proxy.scheme == "https" else None
            if around is not None:
                connection = self._tls_connection(around, sock, by_ssl, is_proxy=True)
            elif route.origin.scheme == "https" and proxy is None:
                connection = self._tls_connection(place, sock, by_ssl)
            await self._loop.create_connection(lambda: connection, sock=sock)
            await self._shake(connection, around or place, by_ssl, is_proxy=around is not None)
            if route.origin.scheme == "https" and proxy is not None:
                await self._open_tunnel(connection, route, proxy)
                transport, outer = connection.hand_over(), connection
                connection = self._tls_connection(place, sock, by_ssl)
                self._put_inside(connection, outer, transport)
                await self._shake(connection, place, by_ssl)
        except BaseException:
            connection.abort()
            if not connection.connected:
                sock.close()
            raise
        return connection

    def _put_inside(self, connection: Connection, outer: Connection, transport: asyncio.Transport) -> None:
        """Run `connection` over the transport that `outer` has handed over."""
        if outer.engine is not None:
            from crossdock.transport.tls_tunnel import TlsTunnel

            transport.set_protocol(tunnel := TlsTunnel(self._loop, outer.engine, transport, connection))
            connection.connection_made(tunnel)
        else:
            transport.set_protocol(connection)
            connection.connection_made(transport)

    async def _shake(
        self,
        connection: Connection,
        place: tuple[str, int],
        by_ssl: Set[tuple[str, int]],
        *,
        is_proxy: bool = False,
    ) -> None:
        """The TLS handshake, if `connection` uses TLS."""
        try:
            await connection.handshake()
        except TlsFailed as error:
            engines = self._engines[is_proxy]
            if place in by_ssl or not engines.worth_ssl(*place, error):
                raise engines.advised(*place, error) from error.__cause__
            raise _WorthSsl(place) from error

    def _tls_connection(
        self,
        place: tuple[str, int],
        sock: socket.socket,
        by_ssl: Set[tuple[str, int]],
        *,
        is_proxy: bool = False,
    ) -> TlsConnection:
        # Imported with the first TLS connection, since a plaintext copy needs none. Nested engines do not
        # share
        # memory.
        from crossdock.transport.tls_connection import TlsConnection
        from crossdock.transport.tls_door import TlsEngines

        engines = self._engines.get(is_proxy)
        if engines is None:
            engines = self._engines[is_proxy] = TlsEngines(self._tls_for)
        engine = engines.engine_for(*place, by_ssl=place in by_ssl)
        return TlsConnection(self._loop, self._options, self._watchdog, sock, engine)

    async def _dial(self, route: Route) -> socket.socket:
        host, port = route.address
        if self._check is not None:
            self._check(route.origin.host, route.origin.port, None if route.proxy is None else ())
        advice = Advice("check-proxy") if route.proxy is not None else None
        try:
            addresses = await self._resolver.resolve(host, port)
        except ConnectFailed as error:
            if route.proxy is None:
                raise
            raise ConnectFailed(
                f"no connection to {route.origin.host_and_port} through a proxy: {error}",
                advice=advice,
                retryable=error.retryable,
            ) from error.__cause__
        if self._check is not None and route.proxy is None:
            # The connection below uses exactly the checked addresses; a later change of the name has no
            # effect.
            self._check(route.origin.host, route.origin.port, [str(address[4][0]) for address in addresses])
        try:
            sock = await aiohappyeyeballs.start_connection(  # network
                addresses, happy_eyeballs_delay=ATTEMPT_DELAY, loop=self._direct
            )
        except OSError as error:
            self._resolver.forget(host, port)
            has_none = lacks_descriptors(error)
            raise ConnectFailed(
                f"cannot connect to {_place(route)}: {os_reason(error)}",
                advice=Advice("raise-open-files") if has_none else advice,
                is_closed=is_refused(error) and (host, port) not in self._reached,
                lacks_descriptors=has_none,
            ) from error
        self._reached.add((host, port))
        self._resolver.prefer(host, port, sock.family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _open_tunnel(self, connection: Connection, route: Route, proxy: Proxy) -> None:
        headers = [("Host", route.origin.host_and_port)]
        if proxy.authorization:
            headers.append(("Proxy-Authorization", proxy.authorization))
        head = encode_request("CONNECT", route.origin.host_and_port, headers)
        connection.begin("CONNECT", route.origin.host_and_port, head, None)
        response = await connection.response(self._options.connect_timeout, "connect")
        if not 200 <= response.status < 300:
            raise ConnectFailed(
                f"the proxy {proxy.host}:{proxy.port} refused to connect to {route.origin.host_and_port}:"
                f" {response.status} {response.reason}",
                advice=Advice("proxy-login") if response.status == 407 else None,
                retryable=response.status >= 500,
            )

    def _forget(self, route: Route) -> None:
        self._resolver.forget(*route.address)


class _WorthSsl(Exception):
    """The handshake with `place` must be repeated with `ssl`."""

    def __init__(self, place: tuple[str, int]) -> None:
        super().__init__(place)
        self.place = place


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _place(route: Route) -> str:
    if route.served_at is not None:
        host, port = route.served_at
        return f"{route.origin.host_and_port} at {host}:{port}"
    if route.proxy is None:
        return route.origin.host_and_port
    return f"{route.origin.host_and_port} through the proxy {route.proxy.host}:{route.proxy.port}"
