"""Whom to believe, and why a token was refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Reason = Literal[
    "malformed",  # no JSON web token, or over the limit
    "algorithm",  # not signed by one of the algorithms that are allowed
    "issuer",  # nobody we know
    "key",  # its issuer has no such key
    "signature",
    "expired",
    "early",  # not valid yet
    "audience",  # meant for somebody else
    "claims",  # a claim that every token needs is missing or of a wrong type
    "unavailable",  # the issuer's keys cannot be had now: nothing is known of the token
]


class Issuer(Struct, frozen=True, kw_only=True):
    """An identity provider whose tokens count."""

    issuer: str  # its ``iss``, compared byte by byte
    audiences: tuple[str, ...]  # one of them must be an ``aud`` of the token
    jwks_uri: str = ""  # where its keys are; empty: as its OpenID configuration says
    ca_file: Path | None = None  # trusted besides the system's, for its keys
    keys: Mapping[str, Any] | None = None  # its key set (RFC 7517), when it need not be fetched


class TokenRefused(Exception):
    """A token that does not count. ``.reason`` says why; the text never holds the token."""

    reason: Reason

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
