"""The HTTP client: turns requests into exchanges and keeps connections between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.descriptors import PAUSES_S, affordable
from crossdock.errors import ConnectFailed, InvalidInput, TransportError
from crossdock.transport.connect import Connector
from crossdock.transport.exchange import HttpExchange
from crossdock.transport.head import RESERVED, encode_fields, encode_request_line
from crossdock.transport.pool import Pool
from crossdock.transport.route import Route, parse_proxy
from crossdock.transport.watchdog import Watchdog

if TYPE_CHECKING:
    from crossdock.options import NetworkOptions
    from crossdock.transport.base import CheckAddresses, Headers, ProxyFor, Request, ServedAt, TlsFor
    from crossdock.transport.connection import Connection
    from crossdock.url import Origin

FIELDS_KEPT = 64  # encoded sets of header fields
ORIGINS = 4  # in use at once: two registries, and the storage that each redirects to
CLOSE_WITHIN = 2.0  # seconds that `close` waits for sockets to close


class HttpClient:
    """`base.HttpClientInterface`: HTTP/1.1 over pooled connections. Belongs to the running event loop."""

    def __init__(
        self,
        options: NetworkOptions,
        tls_for: TlsFor,
        proxy_for: ProxyFor,
        user_agent: str = "crossdock",
        served_at: ServedAt | None = None,
        check: CheckAddresses | None = None,
        side: str = "",
    ) -> None:
        """Connections to an origin that is `served_at` another address go there, without a proxy.

        `check` is called before every connection. Requests are counted for this `side` of a copy.
        """
        loop = asyncio.get_running_loop()
        self.options = options
        self.side = side
        self._proxy_for = proxy_for
        self._user_agent = user_agent
        self._served_at = served_at
        self._watchdog = Watchdog(loop, options.timeout)
        self._connector = Connector(loop, options, self._watchdog, tls_for, check)
        # A closing PUT may be idle for up to `commit_timeout`; a queue behind it must wait as long.
        limit = affordable(options.connections_per_host, per=ORIGINS, least=2)
        self._pool = Pool(loop, limit, max(options.commit_timeout, options.timeout))
        self._routes: dict[Origin, Route] = {}
        self._fields: dict[tuple[Route, Headers], bytes] = {}  # encoded; most requests repeat those of others

    def __repr__(self) -> str:
        return f"<HttpClient {self._pool!r}>"

    async def send(self, request: Request) -> HttpExchange:
        """As `HttpClientInterface.send`. Raises `InvalidInput` for requests that HTTP cannot express."""
        url = request.url
        route = self._routes.get(url.origin) or self._new_route(url.origin)
        head = self._encode(request, route)
        try:
            pool = self._pool  # from here on this exchange holds a place
            connection = pool.take_idle(route) if pool.place_now(route) else await pool.place(route)
            try:
                if connection is None:
                    connection = await self._connect(route)
                return HttpExchange(self, request, route, connection, head)
            except BaseException:
                if connection is not None:
                    connection.abort()
                self.release(route, connection)
                raise
        except TransportError as error:
            raise self._during(request, error) from error.__cause__

    async def replace(self, route: Route, dead: Connection) -> Connection:
        """A new connection in the place of `dead`."""
        self.discard(route, dead)
        return await self._connect(route)

    def discard(self, route: Route, connection: Connection) -> None:
        """Close a connection without releasing its place."""
        connection.abort()
        self._pool.discard(route, connection)

    def release(self, route: Route, connection: Connection | None) -> None:
        """Release the place of an exchange that has ended."""
        self._pool.release(route, connection)

    async def close(self) -> None:
        """As `HttpClientInterface.close`. Safe to call twice."""
        connections = self._pool.close()
        self._watchdog.stop()
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                for connection in connections:
                    await connection.gone()
        except TimeoutError:
            pass
        finally:
            for connection in connections:
                connection.abort()

    async def _connect(self, route: Route) -> Connection:
        pauses = iter(PAUSES_S)
        while True:
            try:
                connection = await self._connector.connect(route)
                break
            except ConnectFailed as error:
                if not error.lacks_descriptors:
                    raise
                if not await self._pool.make_room():
                    if (pause_s := next(pauses, None)) is None:
                        raise
                    await asyncio.sleep(pause_s)
        try:
            self._pool.occupy(route, connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _new_route(self, origin: Origin) -> Route:
        place = self._served_at(origin.host, origin.port) if self._served_at else None
        proxy = self._proxy_for(origin.scheme, origin.host, origin.port) if place is None else None
        route = self._routes[origin] = Route(origin, parse_proxy(proxy) if proxy else None, place)
        return route

    def _during(self, request: Request, error: TransportError) -> TransportError:
        """`error` with the request that it ended."""
        if error.method:
            return error
        url = str(request.url)
        return error.replace(f"{request.method} {url}: {error}", method=request.method, url=url)

    def _encode(self, request: Request, route: Route) -> bytes:
        target = request.url.target
        if route.is_forwarded:
            target = f"{route.origin}{target}"
        key = route, tuple(request.headers)
        fields = self._fields.get(key)
        if fields is None:
            if len(self._fields) >= FIELDS_KEPT:
                self._fields.clear()
            fields = self._fields[key] = self._encode_fields(route, request.headers)
        line = encode_request_line(request.method, target)
        if request.content_length is None:
            return b"%b%b\r\n" % (line, fields)
        return b"%b%bContent-Length: %d\r\n\r\n" % (line, fields, request.content_length)

    def _encode_fields(self, route: Route, given: Headers) -> bytes:
        names = {name.lower() for name, _ in given}
        if names & RESERVED:
            raise InvalidInput(
                f"the transport sets these headers itself: {', '.join(sorted(names & RESERVED))}"
            )
        headers = [("Host", route.origin.authority)]
        if "user-agent" not in names:
            headers.append(("User-Agent", self._user_agent))
        if "accept-encoding" not in names:
            # Without it a server may compress on the fly, which makes byte offsets meaningless (R1, R11).
            headers.append(("Accept-Encoding", "identity"))
        headers += given
        if route.is_forwarded and route.proxy is not None and route.proxy.authorization:
            headers.append(("Proxy-Authorization", route.proxy.authorization))
        return encode_fields(headers)
