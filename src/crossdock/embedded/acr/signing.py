"""The tokens that the embedded registry gives and takes: JSON web tokens (RFC 7519) signed with HS256.

The key is the process's own, so that tokens end with it at the latest.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["access_token", "refresh_token"]
ISSUER = "Azure Container Registry"
MAX_TOKEN = 64 * 1024  # characters


class Signer:
    """Signs with a key that nobody else has."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._head = _encode({"alg": "HS256", "typ": "JWT"})

    def token(self, kind: Kind, service: str, user: str, life_s: int, **claims: Any) -> str:
        """A token of `user` for `service` that lives for `life_s` seconds."""
        now = time.time()
        times = {"iat": int(now), "nbf": int(now), "exp": math.ceil(now + life_s)}
        own = {"iss": ISSUER, "aud": service, "sub": user, "jti": str(uuid.uuid4()), "grant_type": kind}
        signed = f"{self._head}.{_encode({**own, **times, **claims})}"
        return f"{signed}.{self._signature(signed)}"

    def claims(self, token: str, kind: Kind, service: str) -> Mapping[str, Any] | None:
        """What a token says that was signed here for `service` and lives; None for any other."""
        signed, _, signature = token.rpartition(".")
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        if not hmac.compare_digest(signature, self._signature(signed)):
            return None
        payload = signed.partition(".")[2]
        try:
            said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (binascii.Error, ValueError):
            return None
        is_ours = said["grant_type"] == kind and said["aud"] == service
        return said if is_ours and time.time() < said["exp"] else None

    def _signature(self, signed: str) -> str:
        return _base64url(hmac.digest(self._key, signed.encode(), "sha256"))


def _encode(document: Mapping[str, Any]) -> str:
    """As base64url without ``-`` and ``_``: azure-containerregistry 1.2 decodes refresh tokens as base64.

    Of ASCII only ``>``, ``?``, ``~`` and DEL can become one of the two, at every third place.
    """
    text = json.dumps(document, separators=(",", ":"))
    for character in ">?~\x7f":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _base64url(text.encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
