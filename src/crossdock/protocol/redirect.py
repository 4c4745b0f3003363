"""Where a redirect or an upload ``Location`` may lead, and whether ``Authorization`` may go along (R4, U7).

A registry chooses these addresses, so a hostile one could point a copy at its own network (server-side
request forgery) or collect credentials. The rules:

- ``Authorization`` goes to the registry's own origin (scheme, host, port) and to no other.
- HTTPS never turns into plain HTTP, except from loopback to loopback. A registry behind a proxy that ends TLS
  may not know of it, and names itself by ``http://``, with its port or without: such an address is used
  by HTTPS where its host was reached by HTTPS (`_as_reached`).
- A literal address that is not public (private, loopback, link-local …) is refused when it names another
  host, unless the registry itself is on such an address, or an inventory serves it on one (`inside`): a
  registry on the internet has no business inside.
- No user information, no other scheme than http and https, at most `MAX_HOPS` in a row.

Only the origin of an address appears in errors: paths and queries of signed URLs are secrets.
"""

from __future__ import annotations

from functools import lru_cache

from crossdock.errors import InvalidInput, RedirectRefused
from crossdock.protocol.addresses import Rule, literal, rule_of
from crossdock.url import DEFAULT_PORTS, Origin, Url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
RESENT = frozenset({307, 308})  # with method and body as they were (RFC 9110 15.4.8, 15.4.9)
MAX_HOPS = 10  # as net/http in Go; real registries need one or two
MAX_LOCATION = 32 * 1024  # characters; signed URLs with session tokens reach 4 KiB


def next_hop(current: Url, location: str, *, registry: Origin, inside: bool = False) -> Url:
    """The URL to which `location`, in a response from `current` on behalf of `registry`, leads.

    Serves redirects, upload Locations and next pages alike. Only a URL at `registry` itself may be sent
    ``Authorization``. Raises `RedirectRefused` by the rules above.
    """
    if not location.strip():
        raise RedirectRefused("a redirect came without a Location")
    if len(location) > MAX_LOCATION:
        raise RedirectRefused(f"a Location of {len(location)} characters is over the limit of {MAX_LOCATION}")
    try:
        url = current.join(location.strip())
    except InvalidInput as error:
        raise RedirectRefused(f"a Location is not a usable URL: {error}") from None
    if url.origin not in (current.origin, registry):
        url = _as_reached(url, current.origin, registry)
    _check(current.origin, url.origin, registry, inside)
    return url


def _as_reached(url: Url, *known: Origin) -> Url:
    """`url` at the origin by which its host is `known`, when it names the host and got scheme or port wrong.

    Behind a proxy that ends TLS a registry takes the scheme for ``http`` (no X-Forwarded-Proto), and may lose
    the port (a Host field without it). On loopback a lost port is put back for plain HTTP, too; elsewhere
    another server may be meant.
    """
    scheme, host, port = url.origin.scheme, url.origin.host, url.origin.port
    for reached in known:
        if reached.host != host:
            continue
        lost_port = port == DEFAULT_PORTS[scheme]
        lost_tls = (scheme, reached.scheme) == ("http", "https") and (lost_port or port == reached.port)
        if lost_tls or (lost_port and scheme == reached.scheme and is_loopback(host)):
            return Url.of(reached, url.target)
    return url


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


def _check(current: Origin, target: Origin, registry: Origin, inside: bool) -> None:
    local = is_loopback(current.host) and is_loopback(target.host)
    if current.scheme == "https" and target.scheme == "http" and not local:
        raise RedirectRefused(f"{current} redirects to plain HTTP at {target}")
    foreign = target.host not in (registry.host, current.host)
    if foreign and is_internal(target.host) and not (inside or is_internal(registry.host)):
        raise RedirectRefused(
            f"{current} redirects to the internal address {target} ({internal_rule(target.host)})"
        )


def _rule_of_literal(host: str) -> Rule:
    address = literal(host)
    return "" if address is None else rule_of(address)
