"""Bearer tokens from a token service: the distribution token protocol (GET) and its OAuth2 form (POST).

A user name and password go by GET with Basic, an identity token (OAuth2 refresh token) by POST. Services that
do not speak the form asked for answer 400, 401, 404 or 405 (ACR, Artifactory, GCR …), so the other one is
tried once (A1). ``expires_in`` is believed as it stands, and is 60 s when missing (distribution token
docs): a token that lives shorter than promised costs one refresh, while one that is thought to live longer
than it does would cost the request that carries it.

Credentials go to the realm and nowhere else. Which realm a registry may name is `check_realm`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from msgspec import Struct

from crossdock.errors import ProtocolError, RedirectRefused, Unauthorized
from crossdock.options import Credentials
from crossdock.protocol.challenge import Challenge
from crossdock.protocol.redirect import (
    MAX_HOPS,
    REDIRECTS,
    is_internal,
    is_loopback,
    next_hop,
    origin,
    same_origin,
    show_origin,
    usable_url,
)
from crossdock.registry.control import Reply
from crossdock.registry.refusal import refusal
from crossdock.registry.retry import Clock
from crossdock.transport.redact import redact_url

CLIENT_ID = "crossdock"
DEFAULT_LIFETIME_S = 60.0
MAX_LIFETIME_S = 86_400.0  # of what a service may promise; the day after, one more request is no loss
MAX_TOKEN = 64 * 1024  # characters; cloud registries issue up to 8 KiB

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_OTHER_FORM = frozenset({400, 401, 404, 405})

Ask = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[Reply]]
"""``(method, url, headers, body)`` → the answer, after retries; no redirects followed."""


class Token(Struct, frozen=True):
    """A bearer token and its times on the monotonic clock."""

    value: str
    minted: float
    expires: float

    def __repr__(self) -> str:
        return f"<Token {self.minted}-{self.expires}>"

    @property
    def lifetime(self) -> float:
        """Seconds from asking to expiry."""
        return self.expires - self.minted


def check_realm(realm: str, registry_url: str, *, inside: bool = False) -> str:
    """The URL of `realm`, if a registry may send our credentials there. Raises `RedirectRefused` when not.

    A registry spoken to over HTTPS has no plain-HTTP realm, except from loopback to loopback. A registry in
    plain HTTP was asked for or is loopback; loopback ones have plain realms on loopback alone. A realm on
    an internal address literal needs a registry that is internal itself, is served `inside`, or has the same
    host.
    """
    try:
        url = usable_url(realm)
    except ValueError as error:
        raise RedirectRefused(f"the registry names a token service by no usable URL: {error}") from None
    scheme, host, _ = place = origin(url)
    registry = origin(registry_url)
    local = is_loopback(registry[1]) and is_loopback(host)
    if scheme == "http" and not local and (registry[0] == "https" or is_loopback(registry[1])):
        raise RedirectRefused(
            f"{show_origin(registry)} names a token service over plain HTTP, {show_origin(place)}: "
            "no credentials are sent there"
        )
    if host != registry[1] and is_internal(host) and not (inside or is_internal(registry[1])):
        raise RedirectRefused(
            f"{show_origin(registry)} names a token service on an internal address, {show_origin(place)}"
        )
    return url


class TokenService:
    """Asks the token service of one registry."""

    def __init__(self, registry_url: str, ask: Ask, clock: Clock, *, inside: bool = False) -> None:
        """`inside`: the registry is served on an internal address, whatever its name."""
        self._registry_url = registry_url
        self._ask = ask
        self._clock = clock
        self._inside = inside

    async def fetch(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None, hint: str
    ) -> Token:
        """A new token for `scopes`. # network

        Raises `Unauthorized` when the service refuses (with `hint`), `RedirectRefused` for a realm that
        must not be asked, `ProtocolError` for an answer without a token, and what the transport raises.
        """
        realm = check_realm(challenge.get("realm"), self._registry_url, inside=self._inside)
        service = challenge.get("service")
        minted = self._clock.monotonic()
        who = credentials or Credentials()
        by_post = bool(who.identity_token)
        reply = await self._send(realm, service, scopes, who, by_post)
        if reply.status in _OTHER_FORM and (by_post or (who.password and reply.status in (404, 405))):
            reply = await self._send(realm, service, scopes, who, not by_post)
        if reply.status != 200:
            raise _refused(reply, "POST" if by_post else "GET", who, hint)
        return _parse(reply, minted)

    async def _send(
        self, realm: str, service: str, scopes: tuple[str, ...], who: Credentials, by_post: bool
    ) -> Reply:
        if by_post:
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            return await self._ask("POST", realm, headers, _oauth_form(service, scopes, who))
        return await self._get(_with_query(realm, _query(service, scopes, who)), who)

    async def _get(self, url: str, who: Credentials) -> Reply:
        headers = {"Accept": "application/json"}
        if authorization := basic(who.username, who.password or who.identity_token):
            headers["Authorization"] = authorization
        first = url
        for _ in range(MAX_HOPS):
            reply = await self._ask("GET", url, headers, None)
            if reply.status not in REDIRECTS:
                return reply
            url = next_hop(url, reply.headers.get("Location", ""), registry_url=first).url
            if authorization and not same_origin(url, first):
                raise RedirectRefused(
                    f"token service {show_origin(origin(first))} redirects to {show_origin(origin(url))}: "
                    "no credentials are sent there"
                )
        raise RedirectRefused(f"the token service {show_origin(origin(first))} redirects without end")


def basic(username: str, secret: str) -> str:
    """The value of a Basic ``Authorization`` (RFC 7617, UTF-8), or an empty string without a secret."""
    return f"Basic {b64encode(f'{username}:{secret}'.encode()).decode()}" if secret else ""


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


def _with_query(realm: str, query: list[tuple[str, str]]) -> str:
    parts = urlsplit(realm)
    joined = "&".join(filter(None, (parts.query, urlencode(query))))
    return urlunsplit(parts._replace(query=joined, fragment=""))


def _refused(reply: Reply, method: str, who: Credentials, hint: str) -> Unauthorized:
    """Never NotFound: a missing token service must not be taken for a missing manifest."""
    sent = basic(who.username, who.password or who.identity_token).removeprefix("Basic ")
    secrets = (who.password, who.identity_token, sent)
    url = urlunsplit(urlsplit(reply.url)._replace(query=""))
    error = refusal(method, url, reply.status, reply.body, secrets=secrets)
    if who.username:
        asked = f"user {who.username!r}"
    else:
        asked = "an identity token" if who.identity_token else "an anonymous request"
    return Unauthorized(
        f"the token service refused {asked}: {error}",
        hint=hint,
        status=error.status,
        codes=error.codes,
        method=error.method,
        url=error.url,
    )


def _parse(reply: Reply, minted: float) -> Token:
    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        answer = None
    fields = answer if isinstance(answer, dict) else {}
    value = fields.get("token") or fields.get("access_token")
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _HEADER_SAFE.fullmatch(value):
        raise ProtocolError(f"the token service {redact_url(reply.url)} answered 200 without a usable token")
    lifetime = fields.get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
        lifetime = DEFAULT_LIFETIME_S
    return Token(value, minted, minted + float(min(lifetime, MAX_LIFETIME_S)))
