"""Bearer tokens from a token service: the distribution token protocol (GET) and its OAuth2 form (POST).

A user name and password go by GET with Basic, an identity token (OAuth2 refresh token) by POST. Services that
do not speak the form asked for answer 400, 401, 404 or 405 (ACR, Artifactory, GCR …), so the other one is
tried once (A1). ``expires_in`` is believed as it stands, and is 60 s when missing (A4, distribution token
docs): a token that lives shorter than promised costs one refresh, while one that is thought to live longer
than it does would cost the request that carries it.

The password of `NULL_USER` is a refresh token of an Azure registry. Access tokens go by `exchange`.

Credentials go to the realm and nowhere else. Which realm a registry may name is `check_realm`.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode, urlsplit, urlunsplit

from crossdock.errors import RedirectRefused
from crossdock.options import Credentials
from crossdock.protocol.acrtoken import NULL_USER
from crossdock.protocol.challenge import Challenge
from crossdock.protocol.redirect import (
    MAX_HOPS,
    REDIRECTS,
    internal_rule,
    is_internal,
    is_loopback,
    next_hop,
    origin,
    same_origin,
    show_origin,
    usable_url,
)
from crossdock.registry.auth.exchange import FORM_HEADERS, REFUSED_FORM, Ask, TokenExchange
from crossdock.registry.auth.tokenanswer import Token, basic, parse_token, refused
from crossdock.registry.http.control import Reply
from crossdock.registry.http.retry import Clock

CLIENT_ID = "crossdock"


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
            f" ({internal_rule(host)})"
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
        self.exchange = TokenExchange(registry_url, ask, self._ask_with_basic, clock, inside=inside)

    async def fetch(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> Token:
        """A new token for `scopes`. # network

        Raises `Unauthorized` (`TokenExpired`) or `Denied` (`WrongScope`) when the service refuses,
        `RedirectRefused` for a realm that must not be asked, `ProtocolError` for an answer without a
        token, and what the transport raises.
        """
        realm = check_realm(challenge.get("realm"), self._registry_url, inside=self._inside)
        service = challenge.get("service")
        minted = self._clock.monotonic()
        who = credentials or Credentials()
        if who.access_token:
            return await self.exchange.fetch(realm, service, scopes, who.access_token)
        if who.username == NULL_USER and not who.identity_token:
            who = replace(who, identity_token=who.password)
        by_post = bool(who.identity_token)
        reply = await self._send(realm, service, scopes, who, by_post)
        if reply.status in REFUSED_FORM and (by_post or (who.password and reply.status in (404, 405))):
            by_post = not by_post
            reply = await self._send(realm, service, scopes, who, by_post)
        if reply.status != 200:
            raise refused(reply, "POST" if by_post else "GET", who, now=self._clock.wall())
        return parse_token(reply, minted)

    async def _send(
        self, realm: str, service: str, scopes: tuple[str, ...], who: Credentials, by_post: bool
    ) -> Reply:
        if by_post:
            return await self._ask("POST", realm, FORM_HEADERS, _oauth_form(service, scopes, who))
        return await self._ask_with_basic(realm, service, scopes, who)

    async def _ask_with_basic(
        self, realm: str, service: str, scopes: tuple[str, ...], who: Credentials
    ) -> Reply:
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
