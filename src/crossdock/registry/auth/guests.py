"""Anonymous tokens of other registries that a registry redirects to.

A vanity host (cr.l5d.io) redirects every request to a registry (ghcr.io) that demands a bearer token even
from strangers. Its challenge is met without credentials: those of the vanity host are for that host alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from crossdock.errors import Advice, RegistryError
from crossdock.protocol.challenge import Challenge, parse_challenges
from crossdock.protocol.redirect import origin, show_origin
from crossdock.registry.auth.exchange import Ask
from crossdock.registry.auth.tokenanswer import Token
from crossdock.registry.auth.tokens import TokenService
from crossdock.registry.flight import SingleFlight
from crossdock.registry.http.retry import Clock

MOST_SCOPES = 8  # of a challenge; one is usual

_REPOSITORY = r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/[^/]+"


class Guests:
    """The tokens that the clients of one registry have elsewhere, by origin and repository."""

    def __init__(self, ask: Ask, clock: Clock, *, inside: bool) -> None:
        """`inside`: the registry is served on an internal address, whatever its name."""
        self._ask = ask
        self._clock = clock
        self._inside = inside
        self._tokens: dict[tuple[str, str], Token] = {}
        self._flights: SingleFlight[None] = SingleFlight()

    def authorization(self, url: str) -> str | None:
        """What to send to `url`; None: nothing is known to be demanded there."""
        token = self._tokens.get(_place_of(url))
        if token is None or self._clock.monotonic() >= token.expires - token.lifetime / 10:
            return None
        return f"Bearer {token.value}"

    async def improve(self, url: str, sent: str | None, since: float, headers: Sequence[str]) -> bool:
        """Whether a request that got a 401 at `url` should be sent again, with a token got now. # network

        `since` and `headers` as in `Authenticator.improve`. Raises as `TokenService.fetch` does.
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

    async def _mint(self, place: tuple[str, str], challenge: Challenge) -> None:
        there, repository = place
        asked = (entry.rpartition(":")[0] for entry in challenge.get("scope").split()[:MOST_SCOPES])
        resources = tuple(asked) or ((f"repository:{repository}",) if repository else ())
        service = TokenService(there, self._ask, self._clock, inside=self._inside)
        scopes = tuple(f"{resource}:pull" for resource in resources)
        try:
            self._tokens[place] = await service.fetch(challenge, scopes, None)
        except RegistryError as error:
            advice = Advice("name-registry", registry=urlsplit(there).netloc)
            raise error.replace(advice=advice) from error.__cause__


def _place_of(url: str) -> tuple[str, str]:
    """Origin and repository of a registry's URL; an empty repository when it is of none."""
    found = re.fullmatch(_REPOSITORY, urlsplit(url).path)
    return show_origin(origin(url)), found[1] if found else ""
