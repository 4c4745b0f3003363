"""Cookies of one upload session: by them some balancers keep a session on the instance that opened it.

They live as long as the session's object, go back to the origin that set them and nowhere else, and are
never stored. Of RFC 6265 this is what such cookies use: name and value, ``Path``, ``Secure``, and
``Max-Age=0`` or an empty value, which end a cookie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from crossdock.url import Origin, Url

MOST_COOKIES = 16
MOST_BYTES = 4096  # of one: name and value (RFC 6265 6.1)

# `re` compiles them when a cookie comes: few registries set one.
_PAIR = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)[ \t]*"
_NUMBER = r"-?[0-9]{1,18}"


class _Cookie(Struct, frozen=True):
    value: str  # it may be a secret
    path: str
    is_secure: bool

    def __repr__(self) -> str:
        return "<_Cookie>"


class SessionCookies:
    """The cookies that the responses of one session set."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Origin, str, str], _Cookie] = {}  # by origin, name and path

    def __repr__(self) -> str:
        return f"<SessionCookies {len(self._kept)}>"

    def clear(self) -> None:
        """A new session begins."""
        self._kept.clear()

    def keep(self, url: Url, set_cookies: Iterable[str]) -> None:
        """Take note of the ``Set-Cookie`` fields of the response to `url`; what is malformed is ignored."""
        for field in set_cookies:
            pair, *attributes = field.split(";")
            match = re.fullmatch(_PAIR, pair.strip(" \t"))
            if match is None or len(pair) > MOST_BYTES:
                continue
            said = {name.strip().lower(): value.strip() for name, _, value in map(_split, attributes)}
            path = said.get("path", "")
            key = url.origin, match[1], path if path.startswith("/") else "/"
            age = said.get("max-age", "")
            if not match[2] or (re.fullmatch(_NUMBER, age) and int(age) <= 0):
                self._kept.pop(key, None)
            elif key in self._kept or len(self._kept) < MOST_COOKIES:
                self._kept[key] = _Cookie(match[2], key[2], "secure" in said)

    def headers_for(self, url: Url) -> tuple[tuple[str, str], ...]:
        """The ``Cookie`` field for a request to `url`, if there is one to be sent."""
        if not self._kept:
            return ()
        place, path = url.origin, url.path
        pairs = [
            f"{name}={cookie.value}"
            for (of, name, _), cookie in self._kept.items()
            if of == place
            and _covers(cookie.path, path)
            and (place.scheme == "https" or not cookie.is_secure)
        ]
        return (("Cookie", "; ".join(pairs)),) if pairs else ()


def _split(attribute: str) -> tuple[str, str, str]:
    return attribute.partition("=")


def _covers(cookie_path: str, path: str) -> bool:
    """RFC 6265 5.1.4."""
    return path == cookie_path or path.startswith(cookie_path.rstrip("/") + "/")
