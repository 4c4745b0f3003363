"""Bearer tokens from a token service: the distribution token protocol (GET) and its OAuth2 form (POST).

A user name and password are sent by GET with Basic, an identity token (OAuth2 refresh token) by POST. A
service that does not support the form responds 400, 401, 404 or 405 (ACR, Artifactory, GCR …), so the other
form is tried once (A1). ``expires_in`` is taken as given, and as 60 s when missing (A4, distribution token
docs): assuming too short a lifetime costs a refresh, assuming too long a one costs the request that carries
the token.

The password of `NULL_USER` is a refresh token of an Azure registry. `exchange` handles access tokens.

Credentials are sent to the realm only; `check_realm` decides which realms a registry may name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

from msgspec import Struct

from crossdock.errors import (
    Advice,
    Denied,
    InvalidInput,
    ProtocolError,
    RedirectRefused,
    RegistryError,
    TokenExpired,
    Unauthorized,
    WrongScope,
)
from crossdock.options import Credentials
from crossdock.protocol import webtoken
from crossdock.protocol.acrtoken import NULL_USER
from crossdock.protocol.challenge import Challenge, basic
from crossdock.protocol.redirect import internal_rule, is_internal, is_loopback
from crossdock.registry.http.refusal import refusal
from crossdock.registry.http.reply import Reply
from crossdock.registry.http.retry import Clock
from crossdock.url import Origin, Url

CLIENT_ID = "crossdock"
DEFAULT_LIFETIME_S = 60.0
MAX_LIFETIME_S = 86_400.0  # longer promises are cut to this; one more request per day costs nothing
MAX_TOKEN = 64 * 1024  # characters; cloud registries issue up to 8 KiB

FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
REFUSED_FORM = frozenset({400, 401, 404, 405})
"""Statuses by which a service rejects the form of the request, or its contents."""

_HEADER_SAFE = r"[\x21-\x7e]+"


class Asker(Protocol):
    """Sends requests for challenges and tokens; implemented by the registry's client."""

    is_inside: bool
    """The registry is served at an internal address, whatever its name."""

    @property
    def origin(self) -> Origin:
        """The registry's own, once `base_url` has decided it."""

    async def base_url(self) -> Url:
        """The registry's root. # network, on loopback only"""

    async def ask(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        follow: bool = False,
    ) -> Reply:
        """The response to a request with only these headers, after retries. # network

        `follow`: follow redirects, sending ``Authorization`` to the same origin only. Raises `RegistryError`
        for a transient status, and the transport's errors.
        """


class TokenService(Struct, frozen=True):
    """A token service: the realm and service of a challenge."""

    realm: Url
    name: str

    @classmethod
    def named_by(cls, challenge: Challenge, registry: Origin, *, inside: bool) -> TokenService:
        """The service that the challenge of `registry` names. Raises as `check_realm`."""
        return cls(check_realm(challenge.get("realm"), registry, inside=inside), challenge.get("service"))


class Token(Struct, frozen=True):
    """A bearer token and its times on the monotonic clock."""

    value: str
    minted: float
    expires: float
    stated_s: float | None = None  # the service's own number of seconds; None: it states none

    def __repr__(self) -> str:
        return f"<Token {self.minted}-{self.expires}>"

    @property
    def lifetime(self) -> float:
        """Seconds from the request to expiry."""
        return self.expires - self.minted


def check_realm(realm: str, registry: Origin, *, inside: bool = False) -> Url:
    """The URL of `realm`. Raises `RedirectRefused` unless `registry` may have our credentials sent there.

    A registry on HTTPS may not name a plain-HTTP realm, except from loopback to loopback. A registry on plain
    HTTP was chosen by the user or is on loopback; one on loopback may name plain-HTTP realms on loopback
    only. A realm at an internal IP address is allowed if the registry is internal, is served `inside`, or has
    the same host.
    """
    try:
        url = Url.parse(realm)
    except InvalidInput as error:
        raise RedirectRefused(f"the registry names a token service that cannot be used: {error}") from None
    place = url.origin
    local = is_loopback(registry.host) and is_loopback(place.host)
    if place.scheme == "http" and not local and (registry.scheme == "https" or is_loopback(registry.host)):
        raise RedirectRefused(
            f"{registry} names a token service over plain HTTP, {place}: no credentials are sent there"
        )
    if place.host != registry.host and is_internal(place.host) and not (inside or is_internal(registry.host)):
        raise RedirectRefused(
            f"{registry} names a token service on an internal address, {place} ({internal_rule(place.host)})"
        )
    return url


async def fetch_token(
    asker: Asker,
    service: TokenService,
    scopes: tuple[str, ...],
    credentials: Credentials | None,
    clock: Clock,
) -> Token:
    """A new token for `scopes`; for access tokens see `exchange`. # network

    Raises `Unauthorized` (`TokenExpired`) or `Denied` (`WrongScope`) if the service refuses,
    `ProtocolError` for a response without a token, and the errors of `Asker.ask`.
    """
    minted = clock.monotonic()
    who = credentials or Credentials()
    if who.username == NULL_USER and not who.identity_token:
        who = replace(who, identity_token=who.password)
    by_post = bool(who.identity_token)
    reply = await _request(asker, service, scopes, who, by_post=by_post)
    if reply.status in REFUSED_FORM and (by_post or (who.password and reply.status in (404, 405))):
        by_post = not by_post
        reply = await _request(asker, service, scopes, who, by_post=by_post)
    if reply.status != 200:
        raise refused(reply, "POST" if by_post else "GET", who, now=clock.wall())
    return parse_token(reply, minted)


async def _request(
    asker: Asker, service: TokenService, scopes: tuple[str, ...], who: Credentials, *, by_post: bool
) -> Reply:
    if by_post:
        return await asker.ask("POST", service.realm, FORM_HEADERS, _oauth_form(service.name, scopes, who))
    return await get_with_basic(asker, service, scopes, who)


async def get_with_basic(
    asker: Asker, service: TokenService, scopes: tuple[str, ...], who: Credentials
) -> Reply:
    """The service's response to a GET, with Basic if `who` has a secret. # network"""
    headers = {"Accept": "application/json"}
    if authorization := basic(who.username, who.password or who.identity_token):
        headers["Authorization"] = authorization
    realm = service.realm
    query = "&".join(filter(None, (realm.query, urlencode(_query(service.name, scopes, who)))))
    url = realm.with_target(f"{realm.path}?{query}" if query else realm.path)
    return await asker.ask("GET", url, headers, follow=True)


def parse_token(reply: Reply, minted: float) -> Token:
    """The token in a 200. Raises `ProtocolError` if it has none."""
    value = text_field(reply, "token", "access_token")
    stated = _fields(reply).get("expires_in")
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not stated > 0:
        stated = None
    lifetime = DEFAULT_LIFETIME_S if stated is None else stated
    return Token(value, minted, minted + float(min(lifetime, MAX_LIFETIME_S)), stated)


def text_field(reply: Reply, *names: str) -> str:
    """The token in the first of these fields that is present. Raises `ProtocolError` if none is usable."""
    fields = _fields(reply)
    value = next((fields[name] for name in names if fields.get(name)), None)
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not re.fullmatch(_HEADER_SAFE, value):
        raise ProtocolError(f"the token service {reply.url} returned 200 without a usable token")
    return value


def refused(reply: Reply, method: str, who: Credentials, *, now: float) -> RegistryError:
    """The error for a response other than 200; `now`: seconds since 1970.

    Never `NotFound`: a missing token service must not look like a missing manifest.
    """
    secret = who.password or who.identity_token or who.access_token
    secrets = (who.password, who.identity_token, who.access_token)
    sent = basic(who.username, secret).removeprefix("Basic ")
    error = refusal(
        method, reply.url.with_target(reply.url.path), reply.status, reply.body, secrets=(*secrets, sent)
    )
    kind: type[RegistryError] = Denied if reply.status == 403 else Unauthorized
    advice = None
    words = f"the token service refused {_name(who)}: {error}"
    if _fields(reply).get("error") == "invalid_scope":  # RFC 6749, section 5.2
        kind = WrongScope
    elif isinstance(error, TokenExpired):
        kind = TokenExpired
    elif ago := webtoken.expired_s(secret, now):
        kind = TokenExpired
        words = f"{_name(who)} expired {ago:.0f} s ago; {words}"
        advice = Advice("new-azure-token" if who.access_token else "new-token")
    return kind(
        words, advice=advice, status=error.status, codes=error.codes, method=error.method, url=error.url
    )


def _name(who: Credentials) -> str:
    if who.username:
        return f"user {who.username!r}"
    if who.access_token:
        return "the access token"
    return "an identity token" if who.identity_token else "an anonymous request"


def _fields(reply: Reply) -> dict[str, Any]:
    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _query(service: str, scopes: tuple[str, ...], who: Credentials) -> list[tuple[str, str]]:
    query = [("account", who.username)] if who.username else []
    if service:
        query.append(("service", service))
    return query + [("scope", scope) for scope in scopes]


def _oauth_form(service: str, scopes: tuple[str, ...], who: Credentials) -> bytes:
    if who.identity_token:
        grant = {"grant_type": "refresh_token", "refresh_token": who.identity_token}
    else:
        grant = {"grant_type": "password", "username": who.username, "password": who.password}
    form = {**grant, "service": service, "client_id": CLIENT_ID, "scope": " ".join(scopes)}
    return urlencode({name: value for name, value in form.items() if value}).encode()
