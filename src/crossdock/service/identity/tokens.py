"""From bearer tokens to principals. Refusals are ARM's errors; no message quotes a token."""

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
    """Authenticates callers. For one event loop."""

    def __init__(self, settings: IdentitySettings | None) -> None:
        """None: every caller is `ANYBODY`, whatever it sends.

        Fetches nothing yet. Raises `InvalidInput` if a CA file cannot be used.
        """
        self._settings = settings
        self._issuers = [each.issuer for each in settings.issuers] if settings else []
        self._verifier = Verifier(settings.issuers if settings else ())
        self._names = {ANYBODY.id, *(each.name for each in settings.tokens)} if settings else set()

    @property
    def is_open(self) -> bool:
        """Whether every caller is let in."""
        return self._settings is None

    def believe(self, issuer: Issuer) -> None:
        """Also accept this issuer's tokens from now on. Raises as `__init__`."""
        self._verifier.add(issuer)
        self._issuers.append(issuer.issuer)

    def reload_trust(self) -> None:
        """Read the issuers' CA files again. Raises as `__init__`, which changes nothing. Blocks."""
        self._verifier.reload_trust()

    async def authenticate(self, authorization: str | None) -> Principal:
        """The sender of this ``Authorization``. May fetch an issuer's keys.

        Raises `Refused`: 401, or 503 when the keys cannot be fetched.
        """
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
        if self._names.intersection((principal.id, *principal.others)):
            raise self._refused(
                _INVALID, "The access token is invalid: its bearer's name belongs to another principal."
            )
        return principal

    def _static(self, token: str) -> str | None:
        """The name of a static token. Takes the same time for every token."""
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
    """The principal of a verified token. Raises `TokenRefused`.

    The id is ``oid`` (Entra ID's object), else ``sub``. The application (``appid``, ``azp``) is a name only
    in its own tokens, since every user who signs in through it has it in theirs.
    """
    oid, sub = _text(claims, "oid"), _text(claims, "sub")
    application = _text(claims, "appid") or _text(claims, "azp")
    is_own = claims.get("idtyp") == "app" or not sub or sub in (oid, application)
    if "scp" in claims:  # Entra ID: delegated by a user
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
    """A claim that is a name; empty without it. Raises `TokenRefused` for a value that is not a name."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        raise TokenRefused("claims", f"The access token is invalid: its {name} is not a name.")
    return value
