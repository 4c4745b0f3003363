"""Permitted source registries, and permitted addresses for connections on their behalf.

The service fetches from registries that its callers name. Only the operator's own registries may be at a
non-public address (`protocol.addresses`): those of the inventory and the hosts in its `hosts`. No other
source, redirect, Location, realm, link or layer URL leads the service to such an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from crossdock.errors import AddressRefused, Advice, InvalidInput, SourceNotAllowed
from crossdock.inventory.values import Inventory
from crossdock.oci.registryname import DOCKER_HUB, HUB_API_HOST, canonical_host
from crossdock.protocol.addresses import METADATA_NAMES, Address, embedded_v4, literal, rule_of
from crossdock.service.config import Sources

Place = tuple[str, int]  # host, lower case, IPv6 without brackets; and port

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_STANDARD_PORTS = (443, 80)  # of a name without port; the connection decides which


class SourceGuard:
    """The service's `options.AddressGuard`, and its check of sources. No I/O."""

    def __init__(self, sources: Sources, inventory: Inventory) -> None:
        self._sources = sources
        self._inventory = inventory
        self._hosts = frozenset(_places(inventory.hosts))
        servers = [each.login_server for each in inventory.registries]
        self._named = self._hosts | frozenset(_places([*servers, *inventory.hosts.values()]))

    def check_source(self, registry: str) -> None:
        """Return if imports from the ``host[:port]`` of a request's ``registryUri`` are permitted.

        Raises `InvalidInput` for anything but a host, `SourceNotAllowed` if it is neither in the inventory
        nor allowed (rule ``source-not-allowed``), or if it is a non-public address (that address's rule).
        """
        host, port = split_registry(registry)
        if self._inventory.named(registry) or self._is_registry(registry):
            return
        if rule := self._spelled_rule(host):
            raise SourceNotAllowed(
                f"{registry} may not be imported from ({rule}): it is not a public address",
                advice=Advice(
                    "ask-operator",
                    "the operator can put the registry into the inventory, or its network into"
                    " sources.private_addresses",
                ),
                rule=rule,
            )
        if not any(_fits(pattern, host, port) for pattern in self._sources.allow):
            raise SourceNotAllowed(
                f"{registry} may not be imported from (source-not-allowed): it is neither in the inventory"
                " nor in sources.allow",
                advice=Advice("ask-operator", "the operator can add it to one of them"),
                rule="source-not-allowed",
            )

    def check(self, host: str, port: int, addresses: Sequence[str] | None, *, registry: str) -> None:
        """As `options.AddressGuard.check`.

        Only the operator's hosts may have non-public addresses: hosts of the inventory if a registry of the
        inventory leads there, and always the hosts in `hosts`. One refused address refuses the host.
        """
        name = host.lower().strip("[]").rstrip(".")
        is_named = self._inventory.served_at(host, port) is not None or self._is_known(name, port, registry)
        if name in METADATA_NAMES and not is_named:
            raise self._refused(registry, host, port, "metadata-address")
        if addresses == () and literal(host) is None and not (is_named or self._sources.trust_proxy):
            raise AddressRefused(
                f"a proxy would resolve {_shown(host, port)}, so its address cannot be checked"
                " (unchecked-proxy)",
                advice=Advice(
                    "ask-operator",
                    "the operator can set sources.trust_proxy if the proxy itself keeps clients out of"
                    " private networks, or list the host in NO_PROXY",
                ),
                rule="unchecked-proxy",
            )
        for text in addresses or (host,):
            address = literal(text)
            if address is not None:
                rule = self._rule(address)
            else:  # a name, or an address of unknown form
                rule = "reserved-address" if addresses else ""
            if rule == "metadata-address" or (rule and not is_named):
                raise self._refused(registry, host, port, rule)

    def _spelled_rule(self, host: str) -> str:
        """The rule that refuses `host` without resolving it; empty if its addresses decide."""
        if host in METADATA_NAMES:
            return "metadata-address"
        if f".{host}".endswith(".localhost"):  # RFC 6761 section 6.3
            host = "127.0.0.1"
        address = literal(host)
        return "" if address is None else self._rule(address)

    def _rule(self, address: Address) -> str:
        """The rule that refuses `address`; empty if it is public or in an allowed network."""
        rule = rule_of(address)
        if not rule:
            return ""
        inner = embedded_v4(address)
        for each in (address, inner) if inner is not None else (address,):
            for network in self._sources.private_addresses:
                # Allowing 169.254.0.0/16 must not expose the metadata service, which has the machine's
                # credentials.
                is_meant = rule != "metadata-address" or network.num_addresses == 1
                if is_meant and each.version == network.version and each in network:
                    return ""
        return rule

    def _is_known(self, host: str, port: int, registry: str) -> bool:
        """Whether `registry` and this host and port both belong to the operator."""
        return self._is_registry(registry) and (canonical_host(host), port) in self._named

    def _is_registry(self, registry: str) -> bool:
        """Whether it is a login server of the inventory, or a key of `hosts`."""
        if self._inventory.served_by(registry):
            return True
        host, port = split_registry(registry)
        ports = _STANDARD_PORTS if port is None else (port,)
        return any((canonical_host(host), each) in self._hosts for each in ports)

    def _refused(self, registry: str, host: str, port: int, rule: str) -> AddressRefused:
        # The address is not shown, so that callers cannot resolve internal names through us.
        return AddressRefused(
            f"no connection is made to {_shown(host, port)} on behalf of {registry} ({rule})",
            advice=Advice(
                "ask-operator",
                "the operator can put the host into the inventory, or its network into"
                " sources.private_addresses",
            ),
            rule=rule,
        )


def split_registry(registry: str) -> tuple[str, int | None]:
    """Host (lower case, without brackets and final dot) and port of a ``host[:port]``.

    Raises `InvalidInput` for anything else, including non-ASCII names, which normalization may turn into
    others (127。0。0。1).
    """
    match = _HOST.fullmatch(registry)
    if match is None:
        raise _no_host(registry)
    host = match[1].lower().strip("[]").removesuffix(".")
    port = int(match[2]) if match[2] else None
    is_name = ":" in host or (len(host) < 254 and all(map(_LABEL.fullmatch, host.split("."))))
    if not is_name or (":" in host and literal(host) is None) or port == 0 or (port or 0) > 65535:
        raise _no_host(registry)
    return host, port


def _no_host(registry: str) -> InvalidInput:
    before, at, host = registry.rpartition("@")  # the part before it may be a password
    shown = f"***@{host}" if at and before else registry
    return InvalidInput(f"{shown[:300]!r} is not a host[:port] of a registry")


def _places(texts: Iterable[str]) -> Iterator[Place]:
    for text in texts:
        host, port = split_registry(text)
        yield from ((canonical_host(host), each) for each in ((port,) if port else _STANDARD_PORTS))


def _fits(pattern: str, host: str, port: int | None) -> bool:
    """Whether a pattern of `sources.allow` matches the host. The default port is that of HTTPS."""
    if pattern == "*":
        return True
    if pattern.startswith("["):
        name, _, wanted = pattern[1:].partition("]")
        wanted = wanted.removeprefix(":")
    else:
        name, _, wanted = pattern.partition(":")
    if (port or 443) != int(wanted or 443):
        return False
    if name.startswith("*."):
        is_hub = canonical_host(host) == DOCKER_HUB
        return (HUB_API_HOST if is_hub else host).endswith(name[1:]) and literal(host) is None
    return canonical_host(host) == canonical_host(name)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
