"""What token services answer: tokens, and refusals by what is wrong with whom."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from crossdock.errors import (
    Advice,
    Denied,
    ProtocolError,
    RegistryError,
    TokenExpired,
    Unauthorized,
    WrongScope,
)
from crossdock.options import Credentials
from crossdock.protocol import webtoken
from crossdock.registry.http.control import Reply
from crossdock.registry.http.refusal import refusal
from crossdock.transport.redact import redact_url

DEFAULT_LIFETIME_S = 60.0
MAX_LIFETIME_S = 86_400.0  # of what a service may promise; the day after, one more request is no loss
MAX_TOKEN = 64 * 1024  # characters; cloud registries issue up to 8 KiB

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class Token(Struct, frozen=True):
    """A bearer token and its times on the monotonic clock."""

    value: str
    minted: float
    expires: float

    def __repr__(self) -> str:
        return f"<Token {self.minted}-{self.expires}>"

    @property
    def lifetime(self) -> float:
        """Seconds from asking to expiry."""
        return self.expires - self.minted


def basic(username: str, secret: str) -> str:
    """The value of a Basic ``Authorization`` (RFC 7617, UTF-8), or an empty string without a secret."""
    return f"Basic {b64encode(f'{username}:{secret}'.encode()).decode()}" if secret else ""


def parse_token(reply: Reply, minted: float) -> Token:
    """The token of a 200. Raises `ProtocolError` for an answer without one."""
    value = text_field(reply, "token", "access_token")
    lifetime = _fields(reply).get("expires_in")
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
        lifetime = DEFAULT_LIFETIME_S
    return Token(value, minted, minted + float(min(lifetime, MAX_LIFETIME_S)))


def text_field(reply: Reply, *names: str) -> str:
    """The first of these fields that is there, a token. Raises `ProtocolError` without a usable one."""
    fields = _fields(reply)
    value = next((fields[name] for name in names if fields.get(name)), None)
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _HEADER_SAFE.fullmatch(value):
        raise ProtocolError(f"the token service {redact_url(reply.url)} answered 200 without a usable token")
    return value


def refused(reply: Reply, method: str, who: Credentials, *, now: float) -> RegistryError:
    """The error of an answer that is no 200; `now`: seconds since 1970.

    Never NotFound: a missing token service must not be taken for a missing manifest.
    """
    secret = who.password or who.identity_token or who.access_token
    secrets = (who.password, who.identity_token, who.access_token)
    sent = basic(who.username, secret).removeprefix("Basic ")
    url = urlunsplit(urlsplit(reply.url)._replace(query=""))
    error = refusal(method, url, reply.status, reply.body, secrets=(*secrets, sent))
    advice = None
    kind: type[RegistryError] = Denied if reply.status == 403 else Unauthorized
    words = f"the token service refused {_name(who)}: {error}"
    if _fields(reply).get("error") == "invalid_scope":  # RFC 6749, section 5.2
        kind = WrongScope
    elif isinstance(error, TokenExpired):
        kind = TokenExpired
    elif ago := webtoken.expired_s(secret, now):
        kind = TokenExpired
        words = f"{_name(who)} expired {ago:.0f} s ago; {words}"
        advice = Advice("new-azure-token" if who.access_token else "new-token")
    return kind(
        words, advice=advice, status=error.status, codes=error.codes, method=error.method, url=error.url
    )


def _name(who: Credentials) -> str:
    if who.username:
        return f"user {who.username!r}"
    if who.access_token:
        return "the access token"
    return "an identity token" if who.identity_token else "an anonymous request"


def _fields(reply: Reply) -> dict[str, Any]:
    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
