"""Which parts of a URL may be shown. By allow-list: only parts known to be harmless are shown.

Storage URLs carry their permission in the query (``X-Amz-Signature``, ``sig``, ``Signature``, an upload's
``_state``), so values are hidden and keys stay: by the keys a person recognises the kind of URL.
"""

from __future__ import annotations

import re

HIDDEN = "…"

# Query keys of the distribution specification and its token protocol: they name content, not permission.
SHOWN_KEYS = frozenset(
    {"digest", "mount", "from", "n", "last", "scope", "service", "artifactType", "digest-algorithm"}
)

# `re` compiles them when they are first used: most copies show no URL.
_AUTHORITY = r"(?:[^:\[\]]*|\[[^\[\]]*\])(?::[0-9]*)?"
# The end of a long word before "://" suffices: without this bound, 64 KiB of letters took twenty seconds.
_URL = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+"
_PAIR = r"(?<=[?&])[^\s\"'<>?&=]+=[^\s\"'<>&]+"
_AUTHORIZATION = r"(?i)\b(Basic|Bearer)(\s+)[A-Za-z0-9._~+/-]{8,}=*"


def redact_url(url: str) -> str:
    """`url` without user and password and fragment, its query values hidden unless their key is harmless.

    Total: any string gives a string, also one that is not a URL.
    """
    url, _, _ = url.partition("#")
    base, question, query = url.partition("?")
    scheme, separator, rest = base.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        authority = authority.rpartition("@")[2]
        if not re.fullmatch(_AUTHORITY, authority):  # such as a password that was not percent-encoded
            authority = HIDDEN
        base = f"{scheme}://{authority}{slash}{path}"
    if not question:
        return base
    return f"{base}?{'&'.join(_redact_pair(pair) for pair in query.split('&'))}"


def _redact_pair(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    if key in SHOWN_KEYS and ";" not in pair:  # which separates pairs, too, for some servers
        return pair
    return f"{key}={HIDDEN}" if equals else (HIDDEN if pair else "")


def redact_text(text: str) -> str:
    """`text` with every URL, query and Authorization in it redacted; for words of servers and libraries."""
    text = re.sub(_URL, lambda match: redact_url(match[0]), text)
    text = re.sub(_PAIR, lambda match: _redact_pair(match[0]), text)
    return re.sub(_AUTHORIZATION, rf"\1\2{HIDDEN}", text)
