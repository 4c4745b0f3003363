"""Parses the challenges in ``WWW-Authenticate`` (RFC 7235 section 2.1, RFC 6750, the distribution token
docs), and the response to it that needs no request: Basic.

One header can hold several challenges, and several headers one each; commas separate both challenges and
parameters, and may stand inside quoted strings. A new challenge begins where a token is followed by a space
and another token, or by a comma or the end. Parsing is lenient: a part that is no challenge is passed over,
because the next one may be usable.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

MAX_HEADER = 16 * 1024  # characters; a longer header is cut there, which loses challenges, not memory

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - the grammar's word, not a secret
_PARAMETER = rf'(?s)({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))'
_SCHEME = rf"({_TOKEN})(?:[ \t]+|(?=,)|$)"
_TOKEN68 = r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)"
_ESCAPE = r"(?s)\\(.)"


class Challenge(Struct, frozen=True):
    """One way in. ``scheme`` and parameter names are lower case; of a repeated parameter the first counts."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The parameter's value, or an empty string."""
        return self.parameters.get(name, "")


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge of all ``WWW-Authenticate`` headers, in the server's order. Never raises.

    Bytes that were no UTF-8 (lone surrogates here) become ``?``: their values go into URLs.
    """
    texts = (value[:MAX_HEADER].encode("utf-8", "replace").decode() for value in values)
    return tuple(challenge for text in texts for challenge in _parse_one(text))


def _parse_one(value: str) -> Iterable[Challenge]:
    # Compiled here, once: a registry that demands no login needs none of them.
    parameter, word, token68 = re.compile(_PARAMETER), re.compile(_SCHEME), re.compile(_TOKEN68)
    scheme = ""
    parameters: dict[str, str] = {}
    at = 0
    while at < len(value):
        if value[at] in ", \t\r\n":
            at += 1
        elif scheme and (found := parameter.match(value, at)):
            name, quoted, plain = found.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else re.sub(_ESCAPE, r"\1", quoted))
            at = found.end()
        elif found := word.match(value, at):
            if scheme:
                yield Challenge(scheme, parameters)
            scheme, parameters = found[1].lower(), {}
            at = found.end()
            if blob := token68.match(value, at):  # Negotiate and NTLM: `Scheme base64==`
                # A single word before a comma may also be the next scheme, but never the first item after
                # one.
                at = blob.end()
        else:
            at = _next_comma(value, at)
    if scheme:
        yield Challenge(scheme, parameters)


def _next_comma(value: str, at: int) -> int:
    comma = value.find(",", at)
    return len(value) if comma < 0 else comma + 1


def bearer_challenge(**parameters: str) -> str:
    """``WWW-Authenticate`` of a server that demands a token; empty parameters are left out.

    There is no space after the commas: az's parser and azure-containerregistry's need it so.
    """
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in parameters.items() if value)


def basic(username: str, secret: str) -> str:
    """The value of a Basic ``Authorization`` (RFC 7617, UTF-8), or an empty string without a secret."""
    return f"Basic {b64encode(f'{username}:{secret}'.encode()).decode()}" if secret else ""
