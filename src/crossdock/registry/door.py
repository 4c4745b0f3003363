"""Who one request is sent as, and whether a refusal is worth another try: at the registry, and elsewhere."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from crossdock.protocol.errorcode import parse_error
from crossdock.registry.auth.authorization import Authenticator, Scope
from crossdock.registry.auth.guests import Guests
from crossdock.registry.http.headers import AnyHeaders, case_insensitive
from crossdock.registry.http.refusal import EXPIRED

REFUSED = EXPIRED | {401}


class Door(Protocol):
    """The way in for requests to one URL."""

    async def authorization(self) -> str | None:
        """The ``Authorization`` for a request that starts now; None: send none."""

    def was_let_in(self, sent: str | None) -> None:
        """The request that carried `sent` got an answer other than 401."""

    async def improve(
        self, sent: str | None, since: float, status: int, headers: AnyHeaders, text: bytes
    ) -> bool:
        """Whether the request that carried `sent` and was refused with one of `REFUSED` should be sent again.

        `since`: when its first try began (monotonic). `text`: the start of the answer's body.
        """


class OwnDoor(Struct, frozen=True):
    """The registry's own origin, which may see credentials."""

    auth: Authenticator
    scope: Scope

    async def authorization(self) -> str | None:
        """As `Door.authorization`."""
        return await self.auth.authorization(self.scope)

    def was_let_in(self, sent: str | None) -> None:
        """As `Door.was_let_in`."""
        self.auth.was_let_in(self.scope, sent)

    async def improve(
        self, sent: str | None, since: float, status: int, headers: AnyHeaders, text: bytes
    ) -> bool:
        """As `Door.improve`."""
        if status != 401 and not (sent and await self._has_ended(sent, text)):
            return False
        demands = case_insensitive(headers).getall("WWW-Authenticate")
        return await self.auth.improve(self.scope, sent, since, demands)

    async def _has_ended(self, sent: str, text: bytes) -> bool:
        """Whether it was refused because it has run out. Answers to HEAD do not say, so ``/v2/`` is asked."""
        return parse_error(text).is_expired if text else await self.auth.has_ended(sent)


class GuestDoor(Struct, frozen=True):
    """Another registry that this one redirected to."""

    guests: Guests
    url: str

    async def authorization(self) -> str | None:
        """As `Door.authorization`."""
        return self.guests.authorization(self.url)

    def was_let_in(self, sent: str | None) -> None:
        """As `Door.was_let_in`."""

    async def improve(
        self, sent: str | None, since: float, status: int, headers: AnyHeaders, text: bytes
    ) -> bool:
        """As `Door.improve`."""
        if status != 401:
            return False
        demands = case_insensitive(headers).getall("WWW-Authenticate")
        return await self.guests.improve(self.url, sent, since, demands)
