"""Classifies the addresses of hosts: public, or refused by which rule.

The table is that of the IANA special-purpose registries for IPv4 and IPv6, and not what `ipaddress` says,
which changes from one version of Python to the next. Addresses that carry an IPv4 address are judged by it.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Rule = Literal[
    "",
    "metadata-address",
    "unspecified-address",
    "loopback-address",
    "link-local-address",
    "private-address",
    "multicast-address",
    "documentation-address",
    "reserved-address",
]
"""The name of the rule that an address falls under; empty: it is public. Names are an interface."""

METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
    }
)

# Where clouds answer a machine's questions about itself, credentials included. Some are public by number.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
        "169.254.170.2",  # AWS: tasks
        "169.254.170.23",  # AWS: pods
        "169.254.0.23",  # Tencent
        "168.63.129.16",  # Azure: the host of a virtual machine
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle, the older one
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS: pods
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)

_RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    ("unspecified-address", ("0.0.0.0/8", "::/128")),
    ("loopback-address", ("127.0.0.0/8", "::1/128")),
    ("link-local-address", ("169.254.0.0/16", "fe80::/10")),
    (
        "private-address",  # RFC 1918, RFC 6598, RFC 4193, and site-local (RFC 3879)
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"),
    ),
    ("multicast-address", ("224.0.0.0/4", "ff00::/8")),
    (
        "documentation-address",
        ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    ),
    (
        "reserved-address",  # protocol assignments, the 6to4 relay, benchmarks, class E and broadcast
        ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "2001::/23"),
    ),
)
_TABLE = tuple((rule, tuple(map(ipaddress.ip_network, blocks))) for rule, blocks in _RULES)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is handed out; the rest is reserved
_UNSPECIFIED, _LOOPBACK = ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_ENDING_IN_V4 = (
    _NAT64,
    ipaddress.IPv6Network("::/96"),  # compatible, RFC 4291 section 2.5.5.1
    ipaddress.IPv6Network("::ffff:0:0:0/96"),  # translated, RFC 2765 section 2.1
)


def literal(host: str) -> Address | None:
    """The address that `host` spells, in every way that resolvers take (127.1, 0x7f000001, with a zone, with
    a dot at its end); None: it is a name."""
    bare = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(bare))
        except OSError:
            return None


def embedded_v4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, translated, 6to4, NAT64, Teredo."""
    if isinstance(address, ipaddress.IPv4Address) or address in (_UNSPECIFIED, _LOOPBACK):
        return None
    if any(address in block for block in _ENDING_IN_V4):
        return ipaddress.IPv4Address(address.packed[-4:])
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def rule_of(address: Address) -> Rule:
    """The rule that makes `address` one that no stranger may lead us to; empty: it is public."""
    inner = embedded_v4(address)
    if inner is not None:
        if (rule := rule_of(inner)) or isinstance(address, ipaddress.IPv4Address):
            return rule
        if address.ipv4_mapped or address.sixtofour or address in _NAT64:
            return ""
    if address in METADATA:
        return "metadata-address"
    for rule, blocks in _TABLE:
        if any(address in block for block in blocks):
            return rule
    return "reserved-address" if address.version == 6 and address not in _UNICAST else ""
