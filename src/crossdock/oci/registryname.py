"""One key for each registry, however people write its name.

A registry has many spellings: upper case, the port of HTTPS, a trailing dot, an address as ``127.1`` or
``0x7f000001``, four names for Docker Hub. Whatever decides by a registry's name (rights, policies, limits,
credentials, the inventory) compares keys, never texts.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache

DOCKER_HUB = "docker.io"
HUB_API_HOST = "registry-1.docker.io"
HUB_NAMES = frozenset({DOCKER_HUB, HUB_API_HOST, "index.docker.io", "registry.hub.docker.com"})

# Public registries. One of these names, or one below it, without a repository means the registry: Docker Hub
# has no official image with such a name.
PUBLIC_REGISTRIES = frozenset(
    {
        *HUB_NAMES,
        "amazonaws.com",
        "azurecr.cn",
        "azurecr.io",
        "azurecr.us",
        "cgr.dev",
        "docker.elastic.co",
        "gcr.io",
        "ghcr.io",
        "icr.io",
        "lscr.io",
        "mcr.microsoft.com",
        "nvcr.io",
        "pkg.dev",
        "public.ecr.aws",
        "quay.io",
        "registry.access.redhat.com",
        "registry.gitlab.com",
        "registry.k8s.io",
        "registry.redhat.io",
    }
)

_MOST_LABELS = max(name.count(".") + 1 for name in PUBLIC_REGISTRIES)
_DEFAULT_PORT = "443"
_REGISTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,9}))?")
# Texts, compiled when they are needed: few names are numbers.
# What inet_aton takes: one to four numbers, each decimal, octal or hexadecimal.
_NUMBERS = r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}"
_IPV6 = r"[0-9a-f.]*:[0-9a-f:.]*"
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291 section 2.5.5.2


def canonical_host(host: str) -> str:
    """`host` in its one spelling: lower case, no brackets, no trailing dot, addresses as they are usually
    written, IPv4 for mapped IPv6, ``docker.io`` for every name of Docker Hub's registry.

    Never raises: what is neither a name nor an address stays as it is, in lower case.
    """
    name = host.lower().removeprefix("[").removesuffix("]")
    if ":" in name:
        try:
            packed = socket.inet_pton(socket.AF_INET6, name)
        except (OSError, ValueError):
            return name
        if packed.startswith(_MAPPED):
            return socket.inet_ntoa(packed[len(_MAPPED) :])
        return socket.inet_ntop(socket.AF_INET6, packed)
    name = name.rstrip(".")
    if name[:1].isdigit() and re.fullmatch(_NUMBERS, name):
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            return name
    return DOCKER_HUB if name in HUB_NAMES else name


@lru_cache(maxsize=256)  # called for every reference
def is_public_registry(host: str) -> bool:
    """Whether `host` is one of `PUBLIC_REGISTRIES`, or a name below one."""
    labels = host.lower().rsplit(".", _MOST_LABELS)  # of any length: it may be no host at all
    return any(".".join(labels[at:]) in PUBLIC_REGISTRIES for at in range(len(labels)))


@lru_cache(maxsize=256)  # every look-up in an inventory needs the keys of all its entries
def split_key(registry: str) -> tuple[str, str]:
    """The canonical host and the port as written (without leading zeros, empty if none) of ``host[:port]``.

    Never raises, as `canonical_host`.
    """
    parts = _REGISTRY.fullmatch(registry)
    if parts is None:
        return registry.lower(), ""
    return canonical_host(parts["host"]), (parts["port"] or "").lstrip("0")


def joined(host: str, port: str | int) -> str:
    """``host[:port]``, with brackets around an IPv6 address."""
    shown = f"[{host}]" if ":" in host and re.fullmatch(_IPV6, host) else host
    return f"{shown}:{port}" if port else shown


@lru_cache(maxsize=256)  # called for every reference
def registry_key(registry: str) -> str:
    """The key of the registry at ``host[:port]``: one for all its spellings, without the port of HTTPS.

    Never raises, as `canonical_host`.
    """
    host, port = split_key(registry)
    return joined(host, "" if port == _DEFAULT_PORT else port)
