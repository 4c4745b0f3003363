"""The claims of a JSON web token (RFC 7519), unverified: only its issuer can judge them.

Read for two purposes: to tell an expired token from one that was never valid, and to see which rights a token
service left out. A token that is not a JWT has no claims.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

MAX_TOKEN = 64 * 1024  # characters looked at


def claims(token: str) -> Mapping[str, Any]:
    """The claims; empty if `token` is not a JWT. Never raises."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else ()
    if len(parts) != 3:
        return {}
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        found = json.loads(payload)
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def expired_s(token: str, now: float) -> float:
    """How many seconds ago it expired; 0 when it has not, or does not say. `now`: seconds since 1970."""
    expires = _time(claims(token), "exp")
    return max(0.0, now - expires) if expires else 0.0


def missing(token: str, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `scopes` that its ``access`` claim does not cover; none when it has no such claim."""
    access = claims(token).get("access")
    if not isinstance(access, list):
        return ()
    held: dict[tuple[str, str], set[str]] = {}
    for entry in access:
        if isinstance(entry, dict) and isinstance(entry.get("actions"), list):
            key = str(entry.get("type")), str(entry.get("name"))
            held.setdefault(key, set()).update(map(str, entry["actions"]))
    return tuple(scope for scope in scopes if not _covered(scope, held))


def _covered(scope: str, held: Mapping[tuple[str, str], set[str]]) -> bool:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    has = held.get((kind, name), set())
    return "*" in has or has.issuperset(actions.split(","))


def _time(said: Mapping[str, Any], name: str) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < 1e12 else 0.0
