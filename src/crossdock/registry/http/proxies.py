"""``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, read as Go's tools (docker, skopeo, crane) read them.

The upper-case name wins over the lower-case one. ``NO_PROXY`` is a list of: ``*``; an address; a CIDR
block; a domain, which covers itself and everything below; ``.domain`` or ``*.domain``, everything below
alone. Each but the block may end in ``:port``. Loopback is never proxied. ``ALL_PROXY`` is curl's word, not
Go's, and is ignored.

A proxy is an HTTP proxy, reached in plain HTTP or by TLS (``https://``), or speaks SOCKS5 (``socks5://``,
``socks5h://``). Its URL is looked at when a connection needs it: one that is never needed may be anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct, field

from crossdock.errors import (
    Advice,
    InvalidOption,
)
from crossdock.protocol.redirect import is_loopback
from crossdock.transport.route import PROXY_PORTS


class ProxySettings(Struct, frozen=True):
    """Which proxy a connection goes through. URLs can hold a password, so they are never shown."""

    proxies: Mapping[str, str] = field(default_factory=dict)  # by the scheme of the target
    no_proxy: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ProxySettings {', '.join(self.proxies)}>"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxySettings:
        """The settings of an environment."""
        proxies = {}
        for scheme in ("http", "https"):
            name = f"{scheme}_proxy"
            value = (environ.get(name.upper()) or environ.get(name) or "").strip()
            if value:
                proxies[scheme] = value
        exempt = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        return cls(proxies, tuple(entry.strip().lower() for entry in exempt.split(",") if entry.strip()))

    def proxy_for(self, scheme: str, host: str, port: int) -> str | None:
        """The proxy's URL (``http://[user:password@]host:port``) for a connection; None: go direct.

        Raises `InvalidOption` for a proxy that would be needed and is of a kind that is not spoken.
        """
        proxy = self.proxies.get(scheme)
        name = host.lower().strip("[]").rstrip(".")
        if proxy is None or is_loopback(name) or any(_covers(entry, name, port) for entry in self.no_proxy):
            return None
        return _proxy_url(proxy, f"{scheme.upper()}_PROXY")


def _proxy_url(value: str, name: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in PROXY_PORTS and bool(parts.hostname)
        port = parts.port or PROXY_PORTS.get(parts.scheme, 0)
    except ValueError:
        usable, port = False, 0
    if not usable:
        raise InvalidOption(
            f"{name} is not the address of a proxy",
            advice=Advice("set-variable", f"set {name}=http://host:port, or https, or socks5", variable=name),
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    user, at, _ = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user}{at}{host}:{port}"


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _in_block(entry, host)
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or (host.endswith(f".{name}") and not _is_address(host)) or _same_address(host, name)


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isdecimal() else None


def _in_block(block: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _same_address(host: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(other)
    except ValueError:
        return False
