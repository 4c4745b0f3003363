"""Anonymous tokens of other registries that a registry redirects to.

A vanity host (cr.l5d.io) redirects every request to a registry (ghcr.io) that demands a bearer token even
from anonymous clients. The token is fetched without credentials, since those of the vanity host are for that
host only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from crossdock.errors import Advice, RegistryError
from crossdock.protocol.challenge import Challenge, parse_challenges
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.retry import Clock
from crossdock.url import Origin, Url

if TYPE_CHECKING:
    from crossdock.registry.auth.tokens import Asker, Token

MOST_SCOPES = 8  # in one challenge; usually there is one

_REPOSITORY = r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/[^/]+"


class Guests:
    """Tokens for the registries that one registry redirects to, by origin and repository."""

    def __init__(self, asker: Asker, clock: Clock) -> None:
        self._asker = asker
        self._clock = clock
        self._tokens: dict[tuple[Origin, str], Token] = {}
        self._flights: SingleFlight[None] = SingleFlight()

    def authorization(self, url: Url) -> str | None:
        """The ``Authorization`` for `url`; None if none is known to be needed."""
        if not self._tokens:
            return None
        token = self._tokens.get(_place_of(url))
        if token is None or self._clock.monotonic() >= token.expires - token.lifetime / 10:
            return None
        return f"Bearer {token.value}"

    async def improve(self, url: Url, sent: str | None, since: float, headers: Sequence[str]) -> bool:
        """Whether to repeat a request that got a 401 at `url`, with a new token. # network

        `since` and `headers` as in `Authenticator.improve`. Raises as `fetch_token` does.
        """
        place = _place_of(url)
        if self.authorization(url) not in (None, sent):
            return True
        token = self._tokens.get(place)
        bearer = next((each for each in parse_challenges(headers) if each.get("realm")), None)
        if bearer is None or bearer.scheme != "bearer" or (token is not None and token.minted >= since):
            return False
        await self._flights.run(place, lambda: self._mint(place, bearer))
        return True

    def secrets(self) -> Iterator[str]:
        """The tokens."""
        return (token.value for token in self._tokens.values())

    async def _mint(self, place: tuple[Origin, str], challenge: Challenge) -> None:
        from crossdock.registry.auth.tokens import TokenService, fetch_token  # few registries redirect so

        origin, repository = place
        wanted = (entry.rpartition(":")[0] for entry in challenge.get("scope").split()[:MOST_SCOPES])
        resources = tuple(wanted) or ((f"repository:{repository}",) if repository else ())
        scopes = tuple(f"{resource}:pull" for resource in resources)
        service = TokenService.named_by(challenge, origin, inside=self._asker.is_inside)
        try:
            self._tokens[place] = await fetch_token(self._asker, service, scopes, None, self._clock)
        except RegistryError as error:
            advice = Advice("name-registry", registry=origin.authority)
            raise error.replace(advice=advice) from error.__cause__


def _place_of(url: Url) -> tuple[Origin, str]:
    """Origin and repository of a registry's URL; an empty repository when it has none."""
    found = re.fullmatch(_REPOSITORY, url.path)
    return url.origin, found[1] if found else ""
