"""From tokens to claims, which are believed only after the signature was verified (RFC 7519, 8725).

Messages are Azure Resource Manager's where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt

from crossdock.webtokens.keys import KINDS, IssuerKeys
from crossdock.webtokens.values import Issuer, TokenRefused

MAX_TOKEN = 64 * 1024  # characters; Entra ID's tokens with many groups have some 16 KiB
LEEWAY_S = 60.0  # between its issuer's clock and ours
_REQUIRED = ["exp", "iss", "aud"]
_SHOWN = 200  # characters of a claim in a message


class Verifier:
    """Verifies the tokens of some issuers. For one event loop."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        """Nothing is fetched yet. Raises `InvalidInput` when a CA file cannot be used."""
        self._issuers: dict[str, tuple[Issuer, IssuerKeys]] = {}
        for each in issuers:
            self.add(each)

    def add(self, issuer: Issuer) -> None:
        """Accept this issuer's tokens as well from now on. Raises as `__init__`."""
        self._issuers[issuer.issuer] = (issuer, IssuerKeys(issuer))

    def reload_trust(self) -> None:
        """Read the CA files again. Raises as `__init__`, which leaves the trust unchanged. Blocks."""
        found = [(keys, keys.trust()) for _, keys in self._issuers.values()]
        for keys, trust in found:
            keys.trust_in(trust)

    async def claims(self, token: str) -> Mapping[str, Any]:
        """The claims of a valid token: signed by one of the issuers, for one of its audiences, not expired.

        May fetch keys, for up to 20 s. Raises `TokenRefused`.
        """
        algorithm, kid, said = _unverified(token)
        name = said.get("iss")
        if not isinstance(name, str) or name not in self._issuers:
            raise TokenRefused("issuer", f"The access token is from the wrong issuer {_quoted(name)}.")
        issuer, keys = self._issuers[name]
        key = await keys.find(kid, algorithm)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[algorithm],
                audience=issuer.audiences,
                issuer=issuer.issuer,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except jwt.InvalidTokenError as error:
            raise _refusal(error, issuer, said) from None
        except (ValueError, OverflowError, TypeError):
            raise TokenRefused("claims", "The access token is invalid: its times are not times.") from None
        return claims


def _unverified(token: str) -> tuple[str, str, Mapping[str, Any]]:
    """Algorithm, key id (empty: not given) and claims, only to choose a key by."""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise TokenRefused(
            "malformed", "The access token is invalid: it is too long, or not the text of a token."
        )
    try:
        header = jwt.get_unverified_header(token)
        said = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError):
        raise TokenRefused("malformed", "The access token is invalid: it is not a JSON web token.") from None
    algorithm, kid = str(header.get("alg")), header.get("kid", "")
    if algorithm not in KINDS:
        raise TokenRefused(
            "algorithm", f"The access token is invalid: it is not signed by {' or '.join(KINDS)}."
        )
    if not isinstance(kid, str):
        raise TokenRefused("malformed", "The access token is invalid: its kid is not a string.")
    return algorithm, kid, said


def _refusal(error: jwt.InvalidTokenError, issuer: Issuer, said: Mapping[str, Any]) -> TokenRefused:
    """PyJWT's error as ours. It checks the signature before the rest, so messages may quote claims."""
    match error:
        case jwt.InvalidSignatureError():
            return TokenRefused("signature", "The access token is invalid: its signature is wrong.")
        case jwt.ExpiredSignatureError():
            at, now = _shown_time(int(said["exp"])), _shown_time(datetime.now(UTC).timestamp())
            words = f"The access token expiry UTC time '{at}' is earlier than current UTC time '{now}'."
            return TokenRefused("expired", words)
        case jwt.ImmatureSignatureError():
            return TokenRefused("early", "The access token is not valid yet.")
        case jwt.InvalidAudienceError():
            allowed = ",".join(f"'{each}'" for each in issuer.audiences)
            has = _quoted(said.get("aud"))
            return TokenRefused(
                "audience",
                f"The access token has been obtained for wrong audience or resource {has}. "
                f"It should exactly match with one of the allowed audiences {allowed}.",
            )
        case jwt.MissingRequiredClaimError():
            return TokenRefused("claims", f"The access token is invalid: it has no {error.claim}.")
        case jwt.InvalidKeyError() | jwt.InvalidAlgorithmError():
            return TokenRefused(
                "algorithm", "The access token is invalid: it does not match its issuer's key."
            )
    return TokenRefused("claims", "The access token is invalid: a claim has a wrong type.")


def _quoted(claim: Any) -> str:
    text = claim if isinstance(claim, str) else ",".join(map(str, claim)) if isinstance(claim, list) else ""
    shown = "".join(each if each.isprintable() and each not in "'\"" else "?" for each in text[:_SHOWN])
    return f"'{shown}'"


def _shown_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))
