"""How many requests a server still allows, as its responses say before a limit is reached (A5).

Docker Hub counts pulls, which are GETs of manifests, in a window: ``ratelimit-remaining: 3;w=21600``. The
IETF's drafts (draft-ietf-httpapi-ratelimit-headers) count all requests, and say when there will be more:
``RateLimit-Remaining: 3`` and ``RateLimit-Reset: 30`` until draft 06, ``RateLimit: limit=9, remaining=3,
reset=30`` in 07, ``RateLimit: "name";r=3;t=30`` and ``RateLimit-Policy: "name";q=9;w=60`` since 08. GitLab's
``RateLimit-Reset`` is a moment since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

_NUMBER = re.compile(r"[0-9]{1,12}")
_MOMENT = 1_000_000_000.0  # seconds; a larger reset is a point in time, not a duration
_MOST_ITEMS = 16


class Allowance(Struct, frozen=True):
    """The remaining requests. After `window_s` seconds there are more: `limit`, if known."""

    remaining: int
    window_s: float
    limit: int | None
    counts_pulls: bool
    """Only GETs of manifests count; else all requests do."""


def read_allowance(headers: Mapping[str, str], wall: float) -> Allowance | None:
    """The allowance in the headers; None without one, or without a duration.

    `headers` has names in lower case, or ignores case. `wall` is the present time since the epoch.
    """
    policies = dict(_items(headers.get("ratelimit-policy", "")))
    if combined := headers.get("ratelimit", ""):
        found = [each for each in _combined(combined, policies) if each is not None]
        return min(found, key=lambda each: (each.remaining, -each.window_s)) if found else None
    left, fields = next(iter(_items(headers.get("ratelimit-remaining", ""))), ("", {}))
    limits = dict(_items(headers.get("ratelimit-limit", "")))
    remaining, limit = _number(left), _number(next(iter(limits), ""))
    if remaining is None:
        return None
    reset = _number(headers.get("ratelimit-reset", "").strip())
    if reset is not None:
        window = max(0.0, reset - wall) if reset > _MOMENT else float(reset)
        return Allowance(remaining, window, limit, False)
    if (own := _number(fields.get("w", ""))) is not None:
        return Allowance(remaining, float(own), limit, True)
    windows = [_number(each.get("w", "")) for each in (*limits.values(), *policies.values())]
    known = [each for each in windows if each is not None]
    return Allowance(remaining, float(max(known)), limit, False) if known else None


def _combined(value: str, policies: Mapping[str, Mapping[str, str]]) -> Iterable[Allowance | None]:
    """The allowance in the header ``RateLimit``: one policy in its words until draft 07, several after it."""
    items = list(_items(value))
    words = {name: text for each, _ in items for name, _, text in [each.partition("=")]}
    if "remaining" in words:
        yield _allowance(words["remaining"], words.get("reset", ""), words.get("limit", ""))
        return
    for name, fields in items:
        policy = policies.get(name, {})
        yield _allowance(fields.get("r", ""), fields.get("t", policy.get("w", "")), policy.get("q", ""))


def _allowance(remaining: str, window: str, limit: str) -> Allowance | None:
    left, seconds = _number(remaining), _number(window)
    if left is None or seconds is None:
        return None
    return Allowance(left, float(seconds), _number(limit), False)


def _items(value: str) -> Iterable[tuple[str, dict[str, str]]]:
    """The members of a list, each with its parameters: ``a;w=1, b`` is a, and b without any."""
    for item in value.split(",")[:_MOST_ITEMS]:
        name, *parameters = (part.strip() for part in item.split(";"))
        if name:
            yield (
                name,
                {key.strip(): text.strip() for key, _, text in (each.partition("=") for each in parameters)},
            )


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
