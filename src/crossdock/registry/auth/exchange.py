"""Access tokens of Entra ID at an Azure registry: exchanged once, then redeemed for each scope.

What a person gives as "a token" need not be one of Entra ID. What a registry does not exchange is tried as
its own refresh token, then as the password of `NULL_USER`, as ``docker login`` sends it, and in the end goes
to the registry itself as it is.

An access token opens more than registries, so it goes to no host but the registry's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from urllib.parse import urlsplit

from crossdock.errors import (
    Advice,
    RedirectRefused,
    RegistryError,
    WrongScope,
)
from crossdock.options import Credentials
from crossdock.protocol import webtoken
from crossdock.protocol.acrtoken import NULL_USER, exchange_form, exchange_url, is_azure_host, refresh_form
from crossdock.protocol.redirect import is_loopback, origin, show_origin
from crossdock.registry.auth.tokenanswer import DEFAULT_LIFETIME_S, Token, parse_token, refused, text_field
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.control import Reply
from crossdock.registry.http.retry import Clock

FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
REFUSED_FORM = frozenset({400, 401, 404, 405})
"""What services answer that do not speak the form asked for, or do not take what it holds."""

Ask = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[Reply]]
"""``(method, url, headers, body)`` → the answer, after retries; no redirects followed."""
AskWithBasic = Callable[[str, str, tuple[str, ...], Credentials], Awaitable[Reply]]
"""``(realm, service, scopes, credentials)`` → the answer to a GET with Basic."""


class TokenExchange:
    """The access tokens that are used at one registry, and what they were exchanged for."""

    def __init__(
        self, registry_url: str, ask: Ask, ask_with_basic: AskWithBasic, clock: Clock, *, inside: bool
    ) -> None:
        """`inside`: the registry is served on an internal address, whatever its name."""
        self._registry_url = registry_url
        self._inside = inside
        self._ask = ask
        self._ask_with_basic = ask_with_basic
        self._clock = clock
        self._refresh: dict[str, str] = {}  # by access token; that one itself where nothing is exchanged
        self._refusals: dict[str, RegistryError] = {}  # of exchanges, by access token
        self._taken: set[str] = set()  # access tokens that turned out to be refresh tokens
        self._flights: SingleFlight[str] = SingleFlight()

    async def fetch(self, realm: str, service: str, scopes: tuple[str, ...], access_token: str) -> Token:
        """A new token for `scopes`. # network

        Raises `TokenExpired`, `WrongScope`, `Unauthorized` and `Denied` when the registry refuses,
        `RedirectRefused` for a realm on another host, and what `TokenService.fetch` raises.
        """
        self._check(realm)
        service = service or urlsplit(self._registry_url).netloc
        minted = self._clock.monotonic()
        who = Credentials(access_token=access_token)
        known = self._refresh.get(access_token)
        refresh = known or await self._exchange_once(realm, service, who)
        reply = await self._redeem(realm, service, scopes, refresh)
        if reply.status in REFUSED_FORM and known not in (None, access_token):  # it lives for some hours
            refresh = await self._exchange_once(realm, service, who)
            if refresh == access_token:
                raise self._refusals[access_token]
            reply = await self._redeem(realm, service, scopes, refresh)
        if reply.status != 200 and refresh == access_token:
            as_password = Credentials(username=NULL_USER, password=access_token)
            reply = await self._ask_with_basic(realm, service, scopes, as_password)
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
        """Why it was not exchanged, unless it was taken in another way."""
        return None if access_token in self._taken else self._refusals.get(access_token)

    def refresh_token(self, access_token: str) -> str:
        """What it was exchanged for, or itself when it is a refresh token; empty when it is neither."""
        known = self._refresh.get(access_token, "")
        return known if known != access_token or access_token in self._taken else ""

    def secrets(self) -> Iterator[str]:
        """What was got by exchange."""
        return iter(self._refresh.values())

    def _check(self, realm: str) -> None:
        _, host, _ = origin(realm)
        _, own, _ = origin(self._registry_url)
        is_near = (self._inside or is_loopback(own)) and is_loopback(host)
        if host != own and not is_near and not (is_azure_host(host) and is_azure_host(own)):
            raise RedirectRefused(
                f"{own} names a token service elsewhere, {show_origin(origin(realm))}: "
                "no access token is sent there",
                advice=Advice(
                    "use-password",
                    "access tokens are for Azure registries; log in to others with user and password",
                ),
            )

    async def _exchange_once(self, realm: str, service: str, who: Credentials) -> str:
        return await self._flights.run(who.access_token, lambda: self._exchange(realm, service, who))

    async def _exchange(self, realm: str, service: str, who: Credentials) -> str:
        body = exchange_form(service, who.access_token)
        reply = await self._ask("POST", exchange_url(realm), FORM_HEADERS, body)
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

    async def _redeem(self, realm: str, service: str, scopes: tuple[str, ...], refresh_token: str) -> Reply:
        return await self._ask("POST", realm, FORM_HEADERS, refresh_form(service, scopes, refresh_token))

    def _without_right(self, reply: Reply, scopes: tuple[str, ...], refresh_token: str) -> RegistryError:
        """The registry took the access token and has nothing to give for it."""
        error = refused(reply, "POST", Credentials(identity_token=refresh_token), now=self._clock.wall())
        if reply.status not in REFUSED_FORM:
            return error
        return WrongScope(
            f"the registry took the access token, but gives no rights for {' '.join(scopes) or 'anything'}: "
            f"{error}",
            advice=Advice(
                "give-rights", "give its owner a role on this registry or repository, or use another token"
            ),
            status=error.status,
            codes=error.codes,
            method=error.method,
            url=error.url,
        )
