"""Error bodies: ``{"errors": [{"code", "message", "detail"}]}`` (distribution specification, "Error Codes").

Registries behind proxies send HTML, plain text or nothing instead, and token services ``{"details": …}``
or ``{"error": …, "error_description": …}``. Whatever it is, one short line for a person comes out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

MAX_BODY = 64 * 1024  # bytes of an error body worth reading (the same bound as go-containerregistry's)
MAX_MESSAGE = 200  # characters of the server's own words in an error
MAX_CODES = 8
MAX_TITLE_END = 4096  # characters; looking further costs the square of what thousands of tags are long

_EMPTY_WORDS = "unknown error"

# Texts, compiled when the first error is read: most runs see none.
_DIGEST = r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})"
_CODE = r"[A-Za-z][A-Za-z0-9_]{0,63}"
_TITLE = r"(?is)<title[^>]*>(.*?)</title"
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+"

# A repository, manifest or blob is not there. MANIFEST_BLOB_UNKNOWN is not among them: it refuses a push.
NOT_FOUND = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "TAG_UNKNOWN", "NOT_FOUND"})


# AWS: "Your Authorization Token has expired", ExpiredTokenException; Harbor: "token is expired". ECR Public
# says of a token that it no longer takes, with 400: "is invalid" (containers-roadmap#2835).
_SECRETS = r"(?:token|login|credentials?|password|session|jwt)"
_EXPIRED = (
    rf"(?i)\b{_SECRETS}\b[^.;]{{0,40}}\bexpired\b|\bexpired ?{_SECRETS}|\bauthorization token is invalid\b"
)
_RATE_CODES = frozenset({"TOOMANYREQUESTS", "TOO_MANY_REQUESTS", "RATE_LIMIT_EXCEEDED"})
_RATE_LIMIT = r"(?i)\brate[ _-]?limit|\btoo many requests\b|\brate exceeded\b"


class ErrorBody(Struct, frozen=True):
    """``codes`` in upper case, in order; ``message`` one printable line, empty when the body says nothing.

    ``digests`` are those anywhere in the body: registries put them into ``detail`` in several ways.
    """

    codes: tuple[str, ...] = ()
    message: str = ""
    digests: frozenset[str] = frozenset()

    @property
    def is_not_found(self) -> bool:
        """Whether the body says that content does not exist.

        Harbor 2.10 and registry.redhat.io report a missing manifest as UNKNOWN with "not found" in the text.
        """
        if NOT_FOUND.intersection(self.codes):
            return True
        return "UNKNOWN" in self.codes and "not found" in self.message.lower()

    @property
    def is_expired(self) -> bool:
        """Whether the body says that our login has expired. ECR does that with 403 or 400."""
        return any(re.search(_EXPIRED, text.replace("_", " ")) for text in (*self.codes, self.message))

    def is_rate_limit(self, status: int) -> bool:
        """Whether a refusal by 4xx means the rate of requests: some registries say so with 403."""
        if status == 429:
            return True
        if not 400 <= status < 500:
            return False
        return not _RATE_CODES.isdisjoint(self.codes) or (
            status == 403 and re.search(_RATE_LIMIT, self.message) is not None
        )


def parse_error(body: bytes, hide: Callable[[str], str] = str) -> ErrorBody:
    """Codes and message of an error body of any kind. Never raises.

    `hide` takes secrets out of the server's words, before they are cut: half a secret is not recognised.
    """
    text = body[:MAX_BODY].decode("utf-8", "replace").strip()
    if text.startswith(("{", "[")):
        try:
            digests = frozenset(re.findall(_DIGEST, text))
            return msgspec.structs.replace(_from_document(json.loads(text), hide), digests=digests)
        except (ValueError, RecursionError):
            pass
    if text.startswith("<"):
        title = re.search(_TITLE, text[:MAX_TITLE_END])
        return ErrorBody(message=one_line(hide(title[1])) if title else "")
    return ErrorBody(message=one_line(hide(text)))


def one_line(text: str) -> str:
    """`text` as one short printable line: no control characters, so no terminal escapes either."""
    line = " ".join(re.sub(_UNPRINTABLE, " ", text).split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _from_document(document: Any, hide: Callable[[str], str]) -> ErrorBody:
    if not isinstance(document, dict):
        return ErrorBody()
    errors = document.get("errors")
    entries = [entry for entry in errors if isinstance(entry, dict)] if isinstance(errors, list) else []
    if entries:
        codes = dict.fromkeys(
            code.upper()
            for entry in entries[:MAX_CODES]
            if isinstance(code := entry.get("code"), str) and re.fullmatch(_CODE, code)
        )
        return ErrorBody(tuple(codes), one_line(hide(_telling(entries))))
    # "details" is the distribution token server's and Docker Hub's, "error" OAuth2's (RFC 6749 section 5.2).
    words = _first_text(document, "error_description", "details", "message", "error")
    return ErrorBody(message=one_line(hide(words)))


def _telling(entries: list[dict[str, Any]]) -> str:
    """The first words that say something. Distribution puts "unknown error" before what it means by it."""
    for entry in entries:
        words = _first_text(entry, "message", "detail")
        if words.strip().lower() == _EMPTY_WORDS:
            words = _first_text(entry, "detail")
        if words:
            return words
    return _first_text(entries[0], "message", "detail")


def _first_text(document: dict[str, Any], *names: str) -> str:
    for name in names:
        value = document.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return ""
