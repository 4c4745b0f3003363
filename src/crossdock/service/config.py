"""The service's settings, a file in YAML, checked at start with the line of each mistake.

The schema is `config_schema.json` (see `crossdock.yamlfile`). There are no secrets in the file: static tokens
are hashes, the key for credentials is a file or variable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import quote
from crossdock.units import parse_size
from crossdock.webtokens.values import Issuer
from crossdock.yamlfile import Found, Kind, plain, read_bytes, read_document

Action = Literal["importImage", "read", "pull"]
Tls = Literal["own", "elsewhere"]

_DOCS = Advice("read-docs", "docs/service.md lists the keys")


class StaticToken(Struct, frozen=True, kw_only=True):
    """A token handed out by the operator, by its hash."""

    name: str
    sha256: str  # hexadecimal, lower case


class IdentitySettings(Struct, frozen=True, kw_only=True):
    """The issuers and static tokens that are accepted. Without either, no token is."""

    issuers: tuple[Issuer, ...] = ()
    tokens: tuple[StaticToken, ...] = ()


class Role(Struct, frozen=True, kw_only=True):
    """Actions on the registries whose name or login server matches one of the patterns."""

    actions: tuple[Action, ...]
    registries: tuple[str, ...]


class PrincipalSettings(Struct, frozen=True, kw_only=True):
    """The rights of one principal."""

    id: str
    issuer: str = ""  # empty: a static token of this name, else the only issuer's principal of this id
    roles: tuple[Role, ...]


class Sources(Struct, frozen=True, kw_only=True):
    """Permitted sources besides the registries of the inventory."""

    allow: tuple[str, ...] = ()  # lower case: HOST, HOST:PORT, *.DOMAIN, *
    private_addresses: tuple[IPv4Network | IPv6Network, ...] = ()  # treated as public
    trust_proxy: bool = False  # host names may be passed to a proxy, whose look-ups cannot be checked


class Limits(Struct, frozen=True, kw_only=True):
    """Limits in number, bytes and time."""

    imports: int = 4
    imports_per_registry: int = 2
    queue: int = 1000
    manifests_per_image: int = 50  # 0: no limit
    requests_per_minute: int = 600  # per principal
    memory: int = 256 << 20  # bytes, for blobs in flight
    keep_results_days: int = 7


class Settings(Struct, frozen=True, kw_only=True):
    """The whole file."""

    identity: IdentitySettings | None = None
    principals: tuple[PrincipalSettings, ...] = ()
    sources: Sources = Sources()
    limits: Limits = Limits()
    state: Path | None = None
    key_file: Path | None = None
    key_env: str = ""
    public_url: str = ""  # the service's URL for clients; empty: from their Host
    tls: Tls = "own"  # elsewhere: a proxy in front, such as an Ingress, ends it
    place: str = ""  # the file, for messages


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    text = (files("crossdock.service") / "config_schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def read_settings(path: Path) -> Settings:
    """The settings in the file. Relative paths in it are relative to its folder. Blocks.

    Raises `InvalidInput` with ``file:line`` for what the schema does not permit and for contradictions, and
    for a file that cannot be read.
    """
    return parse_settings(read_bytes(path, _kind()), str(path), path.parent)


def parse_settings(data: bytes, place: str, folder: Path) -> Settings:
    """As `read_settings`, from bytes; `place` names the file in messages."""
    document = read_document(data, place, _kind())
    if document is None:
        return Settings(place=place)
    if "key_file" in document and "key_env" in document:
        raise _wrong(place, document["key_env"], "key_file and key_env contradict each other")
    given: dict[str, Any] = {}
    if "identity" in document:
        given["identity"] = _identity(document["identity"].value, place, folder)
    if "principals" in document:
        identity = given.get("identity") or IdentitySettings()
        given["principals"] = tuple(_principals(document["principals"], identity, place))
    if "sources" in document:
        given["sources"] = _sources(document["sources"].value, place)
    if "limits" in document:
        limits = plain(document["limits"])
        if "memory" in limits:
            limits["memory"] = parse_size(limits["memory"])
        given["limits"] = Limits(**limits)
    for key in ("state", "key_file"):
        if key in document:
            given[key] = folder / document[key].value
    for key in ("key_env", "public_url"):
        if key in document:
            given[key] = document[key].value.rstrip("/")
    if "tls" in document:
        given["tls"] = document["tls"].value
    return Settings(**given, place=place)


def _kind() -> Kind:
    return Kind("the settings", _DOCS, schema())


def _identity(found: Mapping[str, Found], place: str, folder: Path) -> IdentitySettings:
    issuers: dict[str, Issuer] = {}
    for each in found["issuers"].value if "issuers" in found else ():
        said = plain(each)
        if said["issuer"] in issuers:
            raise _wrong(place, each, f"issuer {quote(said['issuer'])} is listed twice")
        issuers[said["issuer"]] = Issuer(
            issuer=said["issuer"],
            audiences=tuple(said["audiences"]),
            jwks_uri=said.get("jwks_uri", ""),
            ca_file=folder / said["ca"] if "ca" in said else None,
        )
    tokens: dict[str, StaticToken] = {}
    for each in found["tokens"].value if "tokens" in found else ():
        said = plain(each)
        token = StaticToken(name=said["name"], sha256=said["sha256"].lower())
        if token.name in tokens:
            raise _wrong(place, each, f"token {quote(token.name)} is listed twice")
        if any(token.sha256 == other.sha256 for other in tokens.values()):
            raise _wrong(place, each, f"token {quote(token.name)} has the same hash as another one")
        tokens[token.name] = token
    return IdentitySettings(issuers=tuple(issuers.values()), tokens=tuple(tokens.values()))


def _principals(found: Found, identity: IdentitySettings, place: str) -> Iterator[PrincipalSettings]:
    known: set[tuple[str, str]] = set()
    issuers = {each.issuer for each in identity.issuers}
    tokens = {each.name for each in identity.tokens}
    for each in found.value:
        said = plain(each)
        name, issuer = said["id"], said.get("issuer", "")
        if (name, issuer) in known:
            raise _wrong(place, each, f"principal {quote(name)} is listed twice")
        if issuer and issuer not in issuers:
            raise _wrong(place, each.value["issuer"], f"{quote(issuer)} is not one of identity.issuers")
        if not issuer and name not in tokens and len(issuers) > 1:
            raise _wrong(place, each, f"principal {quote(name)} has no issuer, and there are several")
        known.add((name, issuer))
        roles = tuple(
            Role(actions=tuple(role["actions"]), registries=tuple(role["registries"]))
            for role in said["roles"]
        )
        yield PrincipalSettings(id=name, issuer=issuer, roles=roles)


def _sources(found: Mapping[str, Found], place: str) -> Sources:
    networks = []
    for each in found["private_addresses"].value if "private_addresses" in found else ():
        try:
            networks.append(ip_network(each.value))
        except ValueError as error:  # such as "10.0.0.1/8 has host bits set"
            raise _wrong(place, each, f"sources.private_addresses: {error}") from None
    trust_proxy = plain(found["trust_proxy"]) if "trust_proxy" in found else False
    allow = tuple(each.value.lower() for each in found["allow"].value) if "allow" in found else ()
    return Sources(allow=allow, private_addresses=tuple(networks), trust_proxy=trust_proxy)


def _wrong(place: str, found: Found, problem: str) -> InvalidInput:
    return InvalidInput(f"{place}:{found.line}: {problem}", advice=_DOCS)
