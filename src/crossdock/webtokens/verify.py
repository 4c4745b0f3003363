"""Tokens to claims: what is believed of a token, and only after its signature was verified (RFC 7519, 8725).

The texts are Azure Resource Manager's where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt

from crossdock.webtokens.keys import KINDS, IssuerKeys
from crossdock.webtokens.values import Issuer, TokenRefused

MAX_TOKEN = 64 * 1024  # characters; with many groups those of Entra ID have some 16 KiB
LEEWAY_S = 60.0  # between its issuer's clock and ours
_REQUIRED = ["exp", "iss", "aud"]
_SHOWN = 200  # characters of a claim that a message quotes


class Verifier:
    """Verifies the tokens of some issuers. For one event loop."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        """Nothing is fetched yet. Raises `InvalidInput` when a CA file cannot be used."""
        self._issuers: dict[str, tuple[Issuer, IssuerKeys]] = {}
        for each in issuers:
            self.add(each)

    def add(self, issuer: Issuer) -> None:
        """From now on the tokens of this issuer count, too. Raises as `__init__`."""
        self._issuers[issuer.issuer] = (issuer, IssuerKeys(issuer))

    async def claims(self, token: str) -> Mapping[str, Any]:
        """What a token says that one of the issuers signed for one of its audiences, and that lives now.

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
            raise TokenRefused("claims", "The access token is invalid: its times are no times.") from None
        return claims


def _unverified(token: str) -> tuple[str, str, Mapping[str, Any]]:
    """Algorithm, key's name (empty: not said) and claims, to choose a key by and for nothing else."""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise TokenRefused("malformed", "The access token is invalid: it is too long, or no text of a token.")
    try:
        header = jwt.get_unverified_header(token)
        said = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError):
        raise TokenRefused("malformed", "The access token is invalid: it is no JSON web token.") from None
    algorithm, kid = str(header.get("alg")), header.get("kid", "")
    if algorithm not in KINDS:
        raise TokenRefused(
            "algorithm", f"The access token is invalid: it is not signed by {' or '.join(KINDS)}."
        )
    if not isinstance(kid, str):
        raise TokenRefused("malformed", "The access token is invalid: its kid is no text.")
    return algorithm, kid, said


def _refusal(error: jwt.InvalidTokenError, issuer: Issuer, said: Mapping[str, Any]) -> TokenRefused:
    """Why PyJWT refused. All but the signature is looked at after the signature, so claims may be quoted."""
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
            return TokenRefused("algorithm", "The access token is invalid: it does not fit its issuer's key.")
    return TokenRefused("claims", "The access token is invalid: a claim is of a wrong type.")


def _quoted(claim: Any) -> str:
    text = claim if isinstance(claim, str) else ",".join(map(str, claim)) if isinstance(claim, list) else ""
    shown = "".join(each if each.isprintable() and each not in "'\"" else "?" for each in text[:_SHOWN])
    return f"'{shown}'"


def _shown_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))
