"""Where a redirect or an upload ``Location`` may lead, and whether ``Authorization`` may go along (R4, U7).

A registry chooses these addresses, so a hostile one could point a copy at its own network (server-side
request forgery) or collect credentials. The rules:

- ``Authorization`` goes to the registry's own origin (scheme, host, port) and to no other.
- HTTPS never turns into plain HTTP, except from loopback to loopback. A registry behind a proxy that ends TLS
  may not know of it, and names itself by ``http://``, with its port or without: such an address is asked by
  HTTPS where its host was reached by HTTPS (`_as_reached`).
- A literal address that is not public (private, loopback, link-local …) is refused when it names another
  host, unless the registry itself is on such an address, or is served on one by somebody's choice (`inside`):
  a registry on the internet has no business inside.
- No user information, no other scheme than http and https, at most `MAX_HOPS` in a row.

Only the origin of an address appears in errors: paths and queries of signed URLs are secrets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from msgspec import Struct

from crossdock.errors import RedirectRefused
from crossdock.protocol.addresses import Rule, literal, rule_of

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RESENT = frozenset({307, 308})  # with method and body as they were (RFC 9110 15.4.8, 15.4.9)
MAX_HOPS = 10  # as net/http in Go; real registries need one or two
MAX_LOCATION = 32 * 1024  # characters; signed URLs with session tokens reach 4 KiB

DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host (lower case, IPv6 without brackets) and port."""

# A name or IPv4; or IPv6, with its zone.
_HOST = re.compile(r"[0-9a-z._-]+|[0-9a-f.]*:[0-9a-f:.]*(?:%[0-9a-z._%-]+)?")
# All of a URL that names its origin, when it is written as nearly all are.
_PLAIN_START = re.compile(r"https?://[A-Za-z0-9.:_-]+(?=/)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


class Hop(Struct, frozen=True):
    """The next address. ``authorized``: it is the registry's own origin, which may see ``Authorization``."""

    url: str  # its query may be a permission
    authorized: bool

    def __repr__(self) -> str:
        return f"<Hop authorized={self.authorized}>"


def next_hop(current_url: str, location: str, *, registry_url: str, inside: bool = False) -> Hop:
    """Where `location`, answered by `current_url` on behalf of the registry at `registry_url`, leads.

    Serves redirects, upload Locations and next pages alike. The URL's query is kept byte for byte, because
    signatures cover it; a fragment is dropped. Raises `RedirectRefused` by the rules above.
    """
    if not location.strip():
        raise RedirectRefused("a redirect came without a Location")
    if len(location) > MAX_LOCATION:
        raise RedirectRefused(f"a Location of {len(location)} characters is over the limit of {MAX_LOCATION}")
    try:
        location = _quoted(location.strip())
        url = usable_url(location if _PLAIN_START.match(location) else urljoin(current_url, location))
    except ValueError as error:
        raise RedirectRefused(f"a Location is no usable URL: {error}") from None
    target, current, registry = origin(url), origin(current_url), origin(registry_url)
    if target not in (current, registry):
        url = _as_reached(url, current_url, registry_url)
        target = origin(url)
    _check(current, target, registry, inside)
    return Hop(url, target == registry)


def _as_reached(url: str, *known: str) -> str:
    """`url` at the origin by which its host is `known`, when it names the host and got scheme or port wrong.

    Behind a proxy that ends TLS a registry takes the scheme for ``http`` (no X-Forwarded-Proto), and may lose
    the port (a Host field without it). On loopback a lost port is put back for plain HTTP, too; elsewhere
    another server may be meant.
    """
    scheme, host, port = origin(url)
    for each in known:
        reached = origin(each)
        if reached[1] != host:
            continue
        lost_port = port == DEFAULT_PORTS[scheme]
        lost_tls = (scheme, reached[0]) == ("http", "https") and (lost_port or port == reached[2])
        if lost_tls or (lost_port and scheme == reached[0] and is_loopback(host)):
            return urlunsplit(urlsplit(url)._replace(scheme=reached[0], netloc=urlsplit(each).netloc))
    return url


def usable_url(url: str) -> str:
    """An absolute URL that a server named, fit to be asked: percent-encoded, without its fragment.

    Raises `ValueError`, which quotes nothing of it.
    """
    return urlunsplit(_split(_quoted(url))._replace(fragment=""))


def origin(url: str) -> Origin:
    """Scheme, host and port of an absolute URL. Raises `ValueError` when it has none."""
    start = _PLAIN_START.match(url)
    return _origin_of(start[0]) if start is not None else _parse_origin(url)


@lru_cache(maxsize=256)
def _origin_of(start: str) -> Origin:
    return _parse_origin(start)


def _parse_origin(url: str) -> Origin:
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an http or https address")
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]


def same_origin(url: str, other: str) -> bool:
    """Whether scheme, host and port agree."""
    return origin(url) == origin(other)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether `host` certainly is this machine: ``localhost``, 127.0.0.0/8 or ``::1``."""
    if host.lower().rstrip(".") == "localhost":
        return True
    return _rule_of_literal(host) == "loopback-address"


@lru_cache(maxsize=256)
def is_internal(host: str) -> bool:
    """Whether `host` is by its spelling no public address: a private literal or a name of this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return bool(_rule_of_literal(host))


def internal_rule(host: str) -> Rule:
    """The rule by which `host` is internal, for messages."""
    return _rule_of_literal(host) or "loopback-address"


def show_origin(of: Origin) -> str:
    """``scheme://host[:port]``, the default port left out."""
    scheme, host, port = of
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{name}:{port}"


def _check(current: Origin, target: Origin, registry: Origin, inside: bool) -> None:
    local = is_loopback(current[1]) and is_loopback(target[1])
    if current[0] == "https" and target[0] == "http" and not local:
        raise RedirectRefused(f"{show_origin(current)} redirects to plain HTTP at {show_origin(target)}")
    foreign = target[1] not in (registry[1], current[1])
    if foreign and is_internal(target[1]) and not (inside or is_internal(registry[1])):
        raise RedirectRefused(
            f"{show_origin(current)} redirects to the internal address {show_origin(target)}"
            f" ({internal_rule(target[1])})"
        )


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("its scheme is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("it holds user information")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError("it has no valid host")
    try:
        usable_port = parts.port != 0
    except ValueError:  # whose message quotes what stands there
        usable_port = False
    if not usable_port:
        raise ValueError("it has no valid port")
    return parts


def _quoted(location: str) -> str:
    """`location` with the characters percent-encoded that no URL may hold, and nothing else touched."""
    if _CONTROL.search(location):
        raise ValueError("it holds control characters")
    if location.isascii() and not _UNSAFE.search(location):
        return location
    return quote(location, safe="!#$%&'()*+,/:;=?@[]~\\")


def _rule_of_literal(host: str) -> Rule:
    address = literal(host)
    return "" if address is None else rule_of(address)
