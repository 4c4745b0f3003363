"""The tokens that the embedded registry issues and accepts: JSON web tokens (RFC 7519) signed with HS256.

The key exists only in the process, so tokens become invalid when it ends.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from crossdock.protocol import webtoken

Kind = Literal["access_token", "refresh_token"]
ISSUER = "Azure Container Registry"


class Signer:
    """Signs and verifies tokens with a random key."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._head = _encode({"alg": "HS256", "typ": "JWT"})

    def token(self, kind: Kind, service: str, user: str, life_s: int, **claims: Any) -> str:
        """A token of `user` for `service` that is valid for `life_s` seconds."""
        now = time.time()
        times = {"iat": int(now), "nbf": int(now), "exp": math.ceil(now + life_s)}
        own = {"iss": ISSUER, "aud": service, "sub": user, "jti": str(uuid.uuid4()), "grant_type": kind}
        signed = f"{self._head}.{_encode({**own, **times, **claims})}"
        return f"{signed}.{self._signature(signed)}"

    def claims(self, token: str, kind: Kind, service: str) -> Mapping[str, Any] | None:
        """The claims of an unexpired token that was signed here for `service`; None for any other token."""
        signed, _, signature = token.rpartition(".")
        if not token.isascii() or not hmac.compare_digest(signature, self._signature(signed)):
            return None
        claims = webtoken.claims(token)
        is_meant = claims.get("grant_type") == kind and claims.get("aud") == service
        return claims if is_meant and time.time() < claims["exp"] else None

    def _signature(self, signed: str) -> str:
        return _base64url(hmac.digest(self._key, signed.encode(), "sha256"))


def _encode(document: Mapping[str, Any]) -> str:
    """Encode as base64url without ``-`` and ``_``: azure-containerregistry 1.2 decodes refresh tokens as
    base64.

    In ASCII only ``>``, ``?``, ``~`` and DEL can produce one of the two, in every third position.
    """
    text = json.dumps(document, separators=(",", ":"))
    for character in ">?~\x7f":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _base64url(text.encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
