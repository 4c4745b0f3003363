"""The connections to one registry: by HTTPS or plain HTTP, through which proxy, with which TLS settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from crossdock.protocol.redirect import is_internal
from crossdock.registry.http.proxies import ProxySettings
from crossdock.registry.http.scheme import choose_scheme, place_of, split_host
from crossdock.registry.http.tls import TlsContexts, certs_dirs
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.errors import Side
    from crossdock.options import RegistryOptions
    from crossdock.registry.context import Context
    from crossdock.transport.base import HttpClientInterface


class Connections:
    """The connections of one client, and how they are made."""

    def __init__(
        self,
        host: str,
        side: Side,
        options: RegistryOptions,
        context: Context,
        http: HttpClientInterface | None = None,
    ) -> None:
        """As `RegistryClient`, and raises as it does."""
        name, port = split_host(host)
        served_at, guard = context.served_at, context.guard
        self.is_inside = is_internal(place_of(name, port or 443, served_at)[0])
        """The registry is served on an internal address: its redirects may lead to such ones."""
        self._host = host
        self._side = side
        self._options = options
        self._context = context
        self._proxies = ProxySettings.from_environ(context.environ)
        scheme, usual = ("http", 80) if options.plain_http else ("https", 443)
        if served_at is None or served_at(name, port or usual) is None:
            self._proxies.proxy_for(scheme, name, port or usual)  # one that cannot be used is an error now
        self._tls = TlsContexts(
            options, side=side, host=name, port=port or 443, base_dirs=certs_dirs(context.environ)
        )
        self._check = partial(guard.check, registry=host) if guard is not None else None
        self._http = http
        self._owns_http = http is None

    def http(self) -> HttpClientInterface:
        """The transfer core, made when first needed."""
        if self._http is None:
            from crossdock.transport.client import HttpClient

            self._http = HttpClient(
                self._context.network_of(self._host),
                self._tls.settings_for,
                self._proxies.proxy_for,
                self._context.user_agent,
                self._context.served_at,
                self._check,
                self._side,
            )
        return self._http

    async def choose_base(self) -> Url:
        """The registry's root, as `choose_scheme` decides. # network, on loopback only"""
        context = self._context
        scheme = await choose_scheme(
            self._host, self._options, context.network.connect_timeout, context.served_at, self._check
        )
        return Url.parse(f"{scheme}://{self._host}/")

    async def close(self) -> None:
        """Close every connection that was opened here, also when it is cancelled meanwhile."""
        if self._owns_http and self._http is not None:
            await self._http.close()
