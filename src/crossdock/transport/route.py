"""Routes to an origin: direct, through a proxy, or to another address."""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.redact import redact_url
from crossdock.url import Origin, Url

PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(Struct, frozen=True):
    """An HTTP proxy, with or without TLS, or a SOCKS5 proxy. ``login`` is user and password."""

    host: str
    port: int
    login: tuple[str, str] | None = None
    scheme: str = "http"  # a key of PROXY_PORTS

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization, or empty."""
        if self.login is None:
            return ""
        return f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}"

    @property
    def is_socks(self) -> bool:
        """Whether it is a SOCKS proxy, which is transparent once connected."""
        return self.scheme.startswith("socks")

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"


class Route(Struct, frozen=True):
    """The key by which connections are shared: origin, and the proxy or the address it is served at."""

    origin: Origin
    proxy: Proxy | None = None
    served_at: tuple[str, int] | None = None

    @property
    def is_forwarded(self) -> bool:
        """Whether requests are sent to the proxy itself, with the whole URL."""
        return self.origin.scheme == "http" and self.proxy is not None and not self.proxy.is_socks

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the socket connects to."""
        if self.proxy is not None:
            return self.proxy.host, self.proxy.port
        return self.served_at or (self.origin.host, self.origin.port)


def parse_proxy(url: str) -> Proxy:
    """The proxy of a proxy URL. Raises `InvalidInput`, which never quotes its password."""
    if "://" not in url:
        url = f"http://{url}"  # curl's and Go's reading of HTTP_PROXY=host:port
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in PROXY_PORTS:
        raise InvalidInput(
            f"unsupported kind of proxy: {redact_url(url)}",
            advice=Advice("set-variable", f"supported kinds are {', '.join(PROXY_PORTS)}"),
        )
    parts = urlsplit(f"http://{rest}")
    place = parts.netloc.rpartition("@")[2]
    if not place.isascii():
        place = place.encode("idna").decode()
    origin = Url.parse(f"http://{place}").origin
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    return Proxy(origin.host, parts.port or PROXY_PORTS[scheme], login, scheme)
