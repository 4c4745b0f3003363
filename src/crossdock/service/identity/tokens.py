"""Bearer tokens to principals. Refusals are Azure Resource Manager's errors; tokens stand in no message."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from crossdock.service.config import IdentitySettings
from crossdock.service.problems import Refused
from crossdock.service.values import ANYBODY, Principal, Problem
from crossdock.webtokens.values import Issuer, Reason, TokenRefused
from crossdock.webtokens.verify import Verifier

MAX_NAME = 256  # characters of an identity

_INVALID = "InvalidAuthenticationToken"
_CODES: Mapping[Reason, str] = {
    "expired": "ExpiredAuthenticationToken",
    "audience": "InvalidAuthenticationTokenAudience",
}


class Identity:
    """Whom the service knows. For one event loop."""

    def __init__(self, settings: IdentitySettings | None) -> None:
        """None: whoever comes is let in, whatever they bring, as `ANYBODY`.

        Nothing is fetched yet. Raises `InvalidInput` when a CA file cannot be used.
        """
        self._settings = settings
        self._issuers = [each.issuer for each in settings.issuers] if settings else []
        self._verifier = Verifier(settings.issuers if settings else ())
        self._names = {ANYBODY.id, *(each.name for each in settings.tokens)} if settings else set()

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return self._settings is None

    def believe(self, issuer: Issuer) -> None:
        """From now on the tokens of this issuer count, too. Raises as `__init__`."""
        self._verifier.add(issuer)
        self._issuers.append(issuer.issuer)

    async def authenticate(self, authorization: str | None) -> Principal:
        """Who it is that sends this ``Authorization``. May fetch an issuer's keys. Raises `Refused`."""
        if self._settings is None:
            return ANYBODY
        if not authorization:
            raise self._missing("Authentication failed. The 'Authorization' header is missing.")
        kind, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise self._missing(
                "Authentication failed. The 'Authorization' header is provided in an invalid format."
            )
        if (name := self._static(token)) is not None:
            return Principal(id=name, name=name)
        if not self._issuers:
            raise self._refused(_INVALID, "The access token is invalid.")
        try:
            principal = principal_of(await self._verifier.claims(token))
        except TokenRefused as refused:
            raise self._refused_for(refused) from None
        if self._names.intersection(
            (principal.id, *principal.others)
        ):  # a static token's name is not for others to take
            raise self._refused(_INVALID, "The access token is invalid: its bearer's name is another's.")
        return principal

    def _static(self, token: str) -> str | None:
        """Whose static token it is. Takes as long for every token."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for each in self._settings.tokens if self._settings else ():
            if hmac.compare_digest(each.sha256, digest):
                found = each.name
        return found

    def _refused_for(self, refused: TokenRefused) -> Refused:
        if refused.reason == "unavailable":
            problem = Problem(status=503, code="IdentityProviderUnavailable", message=str(refused))
            return Refused(problem)
        return self._refused(_CODES.get(refused.reason, _INVALID), str(refused))

    def _missing(self, message: str) -> Refused:
        return self._refused("AuthenticationFailed", message)

    def _refused(self, code: str, message: str) -> Refused:
        where = f'authorization_uri="{self._issuers[0]}", ' if self._issuers else ""
        challenge = f'Bearer {where}error="invalid_token", error_description="{code}"'
        return Refused(Problem(status=401, code=code, message=message), {"WWW-Authenticate": challenge})


def principal_of(claims: Mapping[str, Any]) -> Principal:
    """Who a verified token speaks for. Raises `TokenRefused`.

    The id is ``oid`` (Entra ID's object), else ``sub``; the application counts only where the token is its
    own, since everybody who signed in through it has it in ``appid`` or ``azp``.
    """
    oid, sub = _text(claims, "oid"), _text(claims, "sub")
    application = _text(claims, "appid") or _text(claims, "azp")
    is_own = claims.get("idtyp") == "app" or not sub or sub in (oid, application)
    if "scp" in claims:  # Entra ID: delegated by a person
        is_own = False
    own = application if is_own else ""
    names = tuple(dict.fromkeys(filter(None, (oid, own, sub))))
    if not names:
        raise TokenRefused("claims", "The access token is invalid: it has neither oid nor sub.")
    shown = next(
        filter(None, (_text(claims, key) for key in ("preferred_username", "upn", "unique_name", "email"))),
        "",
    )
    return Principal(
        id=names[0],
        name=shown or own or names[0],
        tenant=_text(claims, "tid"),
        issuer=str(claims["iss"]),
        others=names[1:],
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that names somebody; empty when it is not there. Raises `TokenRefused` for what is no name."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        raise TokenRefused("claims", f"The access token is invalid: its {name} is no name.")
    return value
