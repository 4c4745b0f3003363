"""The client: requests in, exchanges out, connections kept between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crossdock.errors import InvalidInput
from crossdock.transport.connect import Connector
from crossdock.transport.exchange import HttpExchange
from crossdock.transport.head import RESERVED, encode_request
from crossdock.transport.origin import Origin, Proxy, parse_proxy, split_url
from crossdock.transport.pool import Pool
from crossdock.transport.watchdog import Watchdog

if TYPE_CHECKING:
    from crossdock.options import NetworkOptions
    from crossdock.transport.base import ProxyFor, Request, TlsFor
    from crossdock.transport.connection import Connection

CLOSE_WITHIN = 2.0  # seconds that `close` waits for sockets to be gone


class HttpClient:
    """`base.HttpClientInterface`: HTTP/1.1 over pooled connections. Belongs to the running event loop."""

    def __init__(
        self,
        options: NetworkOptions,
        tls_for: TlsFor,
        proxy_for: ProxyFor,
        user_agent: str = "crossdock",
    ) -> None:
        loop = asyncio.get_running_loop()
        self.options = options
        self._proxy_for = proxy_for
        self._user_agent = user_agent
        self._watchdog = Watchdog(loop, options.timeout)
        self._connector = Connector(loop, options, self._watchdog, tls_for)
        # A closing PUT may move nothing for as long as `commit_timeout`; a queue behind it is as patient.
        self._pool = Pool(loop, options.connections_per_host, max(options.commit_timeout, options.timeout))
        self._proxies: dict[tuple[str, str, int], Proxy | None] = {}

    def __repr__(self) -> str:
        return f"<HttpClient {self._pool!r}>"

    async def send(self, request: Request) -> HttpExchange:
        """As `HttpClientInterface.send`. Raises `InvalidInput` for what cannot be sent as HTTP."""
        scheme, host, port, target = split_url(request.url)
        origin = Origin(scheme, host, port, self._proxy(scheme, host, port))
        head = self._encode(request, origin, target)
        connection = await self._pool.place(origin)  # from here on a place is held
        try:
            if connection is None:
                connection = await self._connect(origin)
            return HttpExchange(self, request, origin, connection, head)
        except BaseException:
            if connection is not None:
                connection.abort()
            self.release(origin, connection)
            raise

    async def replace(self, origin: Origin, dead: Connection) -> Connection:
        """A new connection on the place of `dead`."""
        self.discard(origin, dead)
        return await self._connect(origin)

    def discard(self, origin: Origin, connection: Connection) -> None:
        """Close a connection without giving a place back."""
        connection.abort()
        self._pool.discard(origin, connection)

    def release(self, origin: Origin, connection: Connection | None) -> None:
        """An exchange has ended: its place is free."""
        self._pool.release(origin, connection)

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

    async def _connect(self, origin: Origin) -> Connection:
        connection = await self._connector.connect(origin)
        try:
            self._pool.occupy(origin, connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _proxy(self, scheme: str, host: str, port: int) -> Proxy | None:
        key = scheme, host, port
        if key not in self._proxies:
            url = self._proxy_for(*key)
            self._proxies[key] = parse_proxy(url) if url else None
        return self._proxies[key]

    def _encode(self, request: Request, origin: Origin, target: str) -> bytes:
        given = {name.lower() for name, _ in request.headers}
        if given & RESERVED:
            raise InvalidInput(
                f"headers that the transport sets itself: {', '.join(sorted(given & RESERVED))}"
            )
        headers = [("Host", origin.authority)]
        if "user-agent" not in given:
            headers.append(("User-Agent", self._user_agent))
        if "accept-encoding" not in given:
            # Without it a server may compress on the fly, and byte offsets lose their meaning (R1, R11).
            headers.append(("Accept-Encoding", "identity"))
        headers += request.headers
        if request.content_length is not None:
            headers.append(("Content-Length", str(request.content_length)))
        if origin.proxy is not None and origin.scheme == "http":
            target = f"http://{origin.authority}{target}"
            if origin.proxy.authorization:
                headers.append(("Proxy-Authorization", origin.proxy.authorization))
        return encode_request(request.method, target, headers)
