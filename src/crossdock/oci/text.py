"""How texts are shown in messages: what came from outside quoted, on one line, bounded."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 120  # characters; a whole reference with a sha256 digest still fits


def quote(text: str) -> str:
    """`text` in quotes for a message: control characters escaped, the middle of a long text left out."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}…{text[-half:]}"
    return repr(text)


# An escaped backslash, a whole surrogate pair, or half of one. `re` compiles it when it is first used.
_HALF_PAIRS = (
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def without_half_pairs(document: bytes) -> bytes:
    """JSON with U+FFFD for each half of a surrogate pair that stands alone, as Go's decoder reads it.

    RFC 8259 section 8.2 calls such strings unpredictable: Python and Go take them, msgspec does not. Only for
    reading: what is copied or hashed are the bytes as they came.
    """
    if b"\\ud" not in document and b"\\uD" not in document:
        return document
    return re.sub(_HALF_PAIRS, lambda found: rb"\ufffd" if found[1] else found[0], document)


def half_pair(document: bytes) -> str:
    """An unpaired surrogate in JSON, as written there; empty if there is none."""
    return next((found[1].decode() for found in re.finditer(_HALF_PAIRS, document) if found[1]), "")


def encodable(value: Any) -> Any:
    """`value`, of JSON's types, with ``?`` for each lone surrogate in its strings, so that it can be encoded.

    Python decodes the bytes of a header that are not UTF-8 to lone surrogates.
    """
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {encodable(name): encodable(each) for name, each in value.items()}
        case list() | tuple():
            return [encodable(each) for each in value]
        case _:
            return value


def with_more(text: str, more: str) -> str:
    """A message with its advice: after a semicolon, or as a sentence after a sentence."""
    return f"{text} {more[:1].upper()}{more[1:]}" if text.endswith(".") else f"{text}; {more}"
