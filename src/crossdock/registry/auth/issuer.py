"""New tokens from the service that a registry's challenge names, for the login that the store has.

A login that is refused is looked for once more, because those of helpers and clouds end. One that the user
did not choose is withdrawn then: a token for strangers may do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from crossdock.errors import Denied, RegistryError, Unauthorized, WrongScope
from crossdock.options import Credentials
from crossdock.protocol.challenge import Challenge
from crossdock.registry.auth.credentials import CredentialStore
from crossdock.registry.http.retry import Clock

if TYPE_CHECKING:
    from crossdock.registry.auth.exchange import TokenExchange
    from crossdock.registry.auth.tokens import Asker, Token


class Issuer:
    """Gets the tokens of one registry."""

    def __init__(self, store: CredentialStore, asker: Asker, clock: Clock) -> None:
        self._store = store
        self._asker = asker
        self._clock = clock
        self._exchange: TokenExchange | None = None  # once an access token is used

    async def issue(
        self, challenge: Challenge, scopes: tuple[str, ...], repository: str, *, is_optional: bool = False
    ) -> Token:
        """A new token for `scopes`. # network

        `is_optional`: a refusal says nothing about the login. Raises as `tokens.fetch_token`,
        `TokenExchange.fetch` and `CredentialStore.find`.
        """
        credentials = await self._store.find(repository)
        try:
            return await self._issue_to(credentials, challenge, scopes)
        except (Unauthorized, Denied) as error:
            if is_optional:
                raise
            refusal = error
        if await self._has_newer(repository, credentials, refusal):
            credentials = await self._store.find(repository)
            try:
                return await self._issue_to(credentials, challenge, scopes)
            except (Unauthorized, Denied) as error:
                refusal = error
        if not self._store.withdraw(repository, credentials, f"is refused: {refusal}"):
            raise refusal
        try:
            return await self._issue(challenge, scopes, None)
        except (Unauthorized, Denied):
            raise refusal from None

    async def _has_newer(self, repository: str, refused: Credentials | None, error: RegistryError) -> bool:
        is_about_who = isinstance(error, Unauthorized) and not isinstance(error, WrongScope)
        if not is_about_who or self._store.is_of_az(refused):
            return False
        return await self._store.renew(repository, refused)

    def refusal(self, access_token: str) -> RegistryError | None:
        """As `TokenExchange.refusal`."""
        return self._exchange.refusal(access_token) if self._exchange is not None else None

    def refresh_token(self, access_token: str) -> str:
        """As `TokenExchange.refresh_token`."""
        return self._exchange.refresh_token(access_token) if self._exchange is not None else ""

    def secrets(self) -> Iterator[str]:
        """The tokens that others were exchanged for."""
        return self._exchange.secrets() if self._exchange is not None else iter(())

    async def _issue_to(
        self, credentials: Credentials | None, challenge: Challenge, scopes: tuple[str, ...]
    ) -> Token:
        """A token for `credentials`. az's own access token is not sent to the registry itself.

        A token that the user supplies may be the registry's; az's is certainly one of Entra ID.
        """
        token = await self._issue(challenge, scopes, credentials)
        if credentials is not None and self._store.is_of_az(credentials):
            refusal = self.refusal(credentials.access_token)
            if refusal is not None and token.value == credentials.access_token:
                raise refusal
        return token

    async def _issue(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> Token:
        # Loaded with the first challenge for a token, which registries in clusters often lack.
        from crossdock.registry.auth.tokens import TokenService, fetch_token

        service = TokenService.named_by(challenge, self._asker.origin, inside=self._asker.is_inside)
        if credentials is not None and credentials.access_token:
            if self._exchange is None:
                from crossdock.registry.auth.exchange import TokenExchange

                self._exchange = TokenExchange(self._asker, self._clock)
            return await self._exchange.fetch(service, scopes, credentials.access_token)
        return await fetch_token(self._asker, service, scopes, credentials, self._clock)
