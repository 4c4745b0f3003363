"""From a route to a connection that is ready for a request: name, TCP, proxy, TLS."""

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

RESOLVED_FOR = 30.0  # seconds; storage hosts resolve to other addresses from one minute to the next
ATTEMPT_DELAY = 0.25  # before the next address is tried beside the last one (RFC 8305 5)


class Resolver:
    """Addresses of hosts, kept briefly, and handed out so that connections spread over all of them (R13)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._resolved: set[str] = set()  # names that had addresses at some time
        self._turn = itertools.count()

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses to be tried, in order. Raises `ConnectFailed`."""
        expires, addresses = self._known.get((host, port), (0.0, []))
        if expires <= self._loop.time():
            addresses = await self._look_up(host, port)
            self._known[host, port] = self._loop.time() + RESOLVED_FOR, addresses
        # The system's order of families is kept (RFC 6724); the addresses of each take turns.
        turn = next(self._turn)
        rotated: list[AddrInfoType] = []
        for _, group in itertools.groupby(addresses, key=lambda address: address[0]):
            family = list(group)
            first = turn % len(family)
            rotated += family[first:] + family[:first]
        return rotated

    def forget(self, host: str, port: int) -> None:
        """The addresses did not serve: look them up afresh next time."""
        self._known.pop((host, port), None)

    def prefer(self, host: str, port: int, family: int) -> None:
        """A connect by this family worked: do not wait for a broken one again."""
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
            # A name that was known before is known again soon: resolvers of clusters stumble (Kubernetes).
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
        return sorted(found, key=lambda address: address[0] != found[0][0])  # families in blocks, order kept

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
    """Makes connections. Everything within `connect_timeout`."""

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
        self._engines: dict[bool, TlsEngines] = {}  # of routes, and of proxies, around them
        self._resolver = Resolver(loop)
        self._direct = cast("asyncio.AbstractEventLoop", _Direct(loop))
        self._reached: set[tuple[str, int]] = set()  # took a connection at some time

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
            except _WorthSsl as worth:  # once for each place: those in `by_ssl` have had their chance
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
        """Have `connection` speak through what `outer` has given away."""
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
        """The TLS handshake, if `connection` has any."""
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
        # Imported for the first connection that needs it: a plain copy has none. Engines in engines have
        # memory of their own.
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
            # These very addresses are connected to below: what the name means next does not count.
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
    """A handshake with `place` is to be made once more, by `ssl`."""

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
