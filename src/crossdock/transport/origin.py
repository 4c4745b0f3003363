"""Where a URL leads: the origin of its connections and the target of its request line."""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from crossdock.errors import (
    Advice,
    InvalidInput,
)
from crossdock.transport.redact import redact_url

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSENDABLE = re.compile(rb"[^\x21-\x7e]")
_PORTS = {"http": 80, "https": 443}
# A URL that needs no encoding, as place and target; whatever else it is, the slow way says.
_PLAIN_URL = re.compile(r"(https?://[A-Za-z0-9.:_-]+)(/[\x21\x22\x24-\x7e]*)")


PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(Struct, frozen=True):
    """An HTTP proxy, reached by TLS or without, or a SOCKS5 proxy. ``login`` is a user and a password."""

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
        """SOCKS: the connection behind it is as one without a proxy."""
        return self.scheme.startswith("socks")

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"


class Origin(NamedTuple):
    """What connections may be shared for: scheme, host, port, the proxy on the way, or another address."""

    scheme: str
    host: str  # lower case, no brackets
    port: int
    proxy: Proxy | None = None
    served_at: tuple[str, int] | None = None

    @property
    def authority(self) -> str:
        """``host[:port]`` as the Host field has it: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_and_port(self) -> str:
        """``host:port``, always with the port, as CONNECT needs it and messages show it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_forwarded(self) -> bool:
        """The proxy itself is asked, for the whole URL."""
        return self.scheme == "http" and self.proxy is not None and not self.proxy.is_socks

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the socket is connected to."""
        if self.proxy is not None:
            return self.proxy.host, self.proxy.port
        return self.served_at or (self.host, self.port)


def split_url(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request target (path and query) of an absolute http or https URL.

    The target is sent as it is given, because signed URLs are; only what cannot stand in a request line is
    percent-encoded. Userinfo and fragment are dropped. Raises `InvalidInput`.
    """
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None:
        return *_place(plain[1]), plain[2]
    return _split(url)


@lru_cache(maxsize=256)
def _place(start: str) -> tuple[str, str, int]:
    return _split(start)[:3]


def _split(url: str) -> tuple[str, str, int, str]:
    if _CONTROL.search(url):
        raise InvalidInput(f"a URL holds a control character: {redact_url(_CONTROL.sub('?', url))}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"not a URL: {redact_url(url)}: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidInput(f"not an absolute http or https URL: {redact_url(url)}")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    encoded = _UNSENDABLE.sub(
        lambda match: b"%%%02X" % match[0][0], target.encode("utf-8", "surrogateescape")
    )
    try:
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    except UnicodeError:
        raise InvalidInput(f"not a host name: {parts.hostname!r}") from None
    if _UNSENDABLE.search(host.encode()):
        raise InvalidInput(f"not a host name: {host!r}")
    return parts.scheme, host, port or _PORTS[parts.scheme], encoded.decode()


def parse_proxy(url: str) -> Proxy:
    """The proxy of a proxy URL. Raises `InvalidInput`, which never quotes its password."""
    if "://" not in url:
        url = f"http://{url}"  # curl's and Go's reading of HTTP_PROXY=host:port
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in PROXY_PORTS:
        raise InvalidInput(
            f"a proxy of a kind that is not spoken: {redact_url(url)}",
            advice=Advice("set-variable", f"kinds of proxies are {', '.join(PROXY_PORTS)}"),
        )
    _, host, port, _ = split_url(f"http://{rest}")
    parts = urlsplit(url)
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    return Proxy(host, port if parts.port else PROXY_PORTS[scheme], login, scheme)
