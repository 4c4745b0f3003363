"""Headers of responses, as this layer reads them."""

from __future__ import annotations

from typing import Protocol


class HeaderLookup(Protocol):
    """Headers by name: a `transport.base.ResponseHead`, or a `registry.http.headers.HeaderView`."""

    def get(self, name: str, default: str, /) -> str:
        """The value, or `default`."""


def number(headers: HeaderLookup, name: str) -> int:
    """The header's value as a whole number; 0 if it is missing or not a number."""
    value = headers.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0
