"""Protection from web pages of other sites, in a browser that can reach the registry.

If an attacker's DNS resolves the page's own host name to this machine (DNS rebinding), the browser lets the
page read and delete content here. Such requests are recognised by their Host: the foreign name with this
server's port, because the browser connects to the port in the URL. A request for another name and another
port was sent here intentionally, by a proxy or the `hosts` of an inventory. This matters on loopback without
users, where everyone who reaches the port has access.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from crossdock.embedded.responses import Refused
from crossdock.protocol.redirect import is_loopback

_SAFE = frozenset({"GET", "HEAD"})
_PORTS = {"http": 80, "https": 443}


def check_origin(request: web.Request) -> None:
    """Refuse writes from pages of other sites; reads are harmless, since the page cannot see the response."""
    origin = request.headers.get("Origin", "")
    if origin and request.method not in _SAFE and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Refused("DENIED", "pages of other sites may not use this registry")


def check_name(request: web.Request) -> None:
    """Refuse a Host with this server's port and a name other than a loopback name."""
    try:
        found = urlsplit(f"//{request.host}")
        name, port = (found.hostname or "").lower(), found.port or _PORTS.get(request.scheme)
    except ValueError:
        raise Refused("UNSUPPORTED", "the Host header is not a host[:port]", status=400) from None
    if port != _own_port(request) or is_loopback(name) or name.endswith(".localhost"):
        return
    raise Refused(
        "DENIED",
        "this registry accepts only loopback names, unless it has a users file or anonymous rights",
        status=421,
    )


def _own_port(request: web.Request) -> int | None:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return name[1] if isinstance(name, tuple) else None
