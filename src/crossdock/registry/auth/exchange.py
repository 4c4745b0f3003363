"""Access tokens of Entra ID at an Azure registry: exchanged once, then redeemed for each scope.

A token that the user supplies need not be one of Entra ID. If the registry does not exchange it, it is tried
as the registry's refresh token, then as the password of `NULL_USER`, as ``docker login`` sends it, and
finally as a bearer token for the registry itself.

An access token is valid for more than registries, so it is sent to the registry's host only.
"""

from __future__ import annotations

from collections.abc import Iterator

from crossdock.errors import (
    Advice,
    RedirectRefused,
    RegistryError,
    WrongScope,
)
from crossdock.options import Credentials
from crossdock.protocol import webtoken
from crossdock.protocol.acrtoken import NULL_USER, exchange_form, exchange_url, is_azure_host, refresh_form
from crossdock.protocol.redirect import is_loopback
from crossdock.registry.auth.tokens import (
    DEFAULT_LIFETIME_S,
    FORM_HEADERS,
    REFUSED_FORM,
    Asker,
    Token,
    TokenService,
    get_with_basic,
    parse_token,
    refused,
    text_field,
)
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.reply import Reply
from crossdock.registry.http.retry import Clock
from crossdock.url import Url


class TokenExchange:
    """The access tokens used at one registry, and the refresh tokens they were exchanged for."""

    def __init__(self, asker: Asker, clock: Clock) -> None:
        self._asker = asker
        self._clock = clock
        self._refresh: dict[str, str] = {}  # by access token; maps to itself if not exchanged
        self._refusals: dict[str, RegistryError] = {}  # of exchanges, by access token
        self._taken: set[str] = set()  # access tokens that turned out to be refresh tokens
        self._flights: SingleFlight[str] = SingleFlight()

    async def fetch(self, service: TokenService, scopes: tuple[str, ...], access_token: str) -> Token:
        """A new token for `scopes`. # network

        Raises `TokenExpired`, `WrongScope`, `Unauthorized` or `Denied` if the registry refuses,
        `RedirectRefused` for a realm on another host, and as `tokens.fetch_token` does.
        """
        self._check(service.realm)
        if not service.name:
            service = TokenService(service.realm, self._asker.origin.authority)
        minted = self._clock.monotonic()
        who = Credentials(access_token=access_token)
        known = self._refresh.get(access_token)
        refresh = known or await self._exchange_once(service, who)
        reply = await self._redeem(service, scopes, refresh)
        # a refresh token lives for hours
        if reply.status in REFUSED_FORM and known not in (None, access_token):
            refresh = await self._exchange_once(service, who)
            if refresh == access_token:
                raise self._refusals[access_token]
            reply = await self._redeem(service, scopes, refresh)
        if reply.status != 200 and refresh == access_token:
            as_password = Credentials(username=NULL_USER, password=access_token)
            reply = await get_with_basic(self._asker, service, scopes, as_password)
        if reply.status == 200:
            if refresh == access_token:
                self._taken.add(access_token)
            return parse_token(reply, minted)
        if refresh != access_token:
            raise self._without_right(reply, scopes, refresh)
        self._taken.discard(access_token)
        if reply.status not in REFUSED_FORM:
            raise refused(reply, "GET", who, now=self._clock.wall())
        if webtoken.expired_s(access_token, self._clock.wall()):
            raise self._refusals[access_token]
        return Token(access_token, minted, minted + DEFAULT_LIFETIME_S)

    def refusal(self, access_token: str) -> RegistryError | None:
        """Why the token was not exchanged, unless it was accepted in another form."""
        return None if access_token in self._taken else self._refusals.get(access_token)

    def refresh_token(self, access_token: str) -> str:
        """The refresh token it was exchanged for, or itself if it is one; else empty."""
        known = self._refresh.get(access_token, "")
        return known if known != access_token or access_token in self._taken else ""

    def secrets(self) -> Iterator[str]:
        """The refresh tokens."""
        return iter(self._refresh.values())

    def _check(self, realm: Url) -> None:
        host, own = realm.origin.host, self._asker.origin.host
        is_near = (self._asker.is_inside or is_loopback(own)) and is_loopback(host)
        if host != own and not is_near and not (is_azure_host(host) and is_azure_host(own)):
            raise RedirectRefused(
                f"{own} names a token service on another host, {realm.origin}: no access token is sent there",
                advice=Advice(
                    "use-password",
                    "access tokens are for Azure registries only; log in to others with user and password",
                ),
            )

    async def _exchange_once(self, service: TokenService, who: Credentials) -> str:
        return await self._flights.run(who.access_token, lambda: self._exchange(service, who))

    async def _exchange(self, service: TokenService, who: Credentials) -> str:
        body = exchange_form(service.name, who.access_token)
        reply = await self._asker.ask("POST", Url.parse(exchange_url(service.realm.text)), FORM_HEADERS, body)
        if reply.status == 200:
            refresh = text_field(reply, "refresh_token")
        else:
            error = refused(reply, "POST", who, now=self._clock.wall())
            if reply.status not in REFUSED_FORM:
                raise error
            self._refusals[who.access_token] = error
            refresh = who.access_token
        self._refresh[who.access_token] = refresh
        return refresh

    async def _redeem(self, service: TokenService, scopes: tuple[str, ...], refresh_token: str) -> Reply:
        body = refresh_form(service.name, scopes, refresh_token)
        return await self._asker.ask("POST", service.realm, FORM_HEADERS, body)

    def _without_right(self, reply: Reply, scopes: tuple[str, ...], refresh_token: str) -> RegistryError:
        """The error for an access token that was exchanged but grants none of `scopes`."""
        error = refused(reply, "POST", Credentials(identity_token=refresh_token), now=self._clock.wall())
        if reply.status not in REFUSED_FORM:
            return error
        return WrongScope(
            "the registry accepted the access token but grants no rights for"
            f" {' '.join(scopes) or 'anything'}: {error}",
            advice=Advice(
                "give-rights", "give its owner a role on this registry or repository, or use another token"
            ),
            status=error.status,
            codes=error.codes,
            method=error.method,
            url=error.url,
        )
