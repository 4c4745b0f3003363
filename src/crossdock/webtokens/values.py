"""Trusted issuers, and the reasons for refusing a token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Reason = Literal[
    "malformed",  # not a JSON web token, or too long
    "algorithm",  # not signed with a permitted algorithm
    "issuer",  # not one of ours
    "key",  # its issuer does not have the key
    "signature",
    "expired",
    "early",  # not valid yet
    "audience",  # meant for another service
    "claims",  # a claim that every token needs is missing or of a wrong type
    "unavailable",  # the issuer's keys cannot be fetched, so the token cannot be judged
]


class Issuer(Struct, frozen=True, kw_only=True):
    """An identity provider whose tokens are accepted."""

    issuer: str  # its ``iss``, compared byte by byte
    audiences: tuple[str, ...]  # one of them must be an ``aud`` of the token
    jwks_uri: str = ""  # URL of its keys; empty: from its OpenID configuration
    ca_file: Path | None = None  # CAs trusted for its keys besides the system's
    keys: Mapping[str, Any] | None = None  # its key set (RFC 7517), which is then never fetched


class TokenRefused(Exception):
    """A token that is not accepted. ``.reason`` says why; the message never contains the token."""

    reason: Reason

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
