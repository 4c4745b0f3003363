"""How texts are shown in messages: what came from outside quoted, on one line, bounded."""

from __future__ import annotations

_LONGEST = 120  # characters; a whole reference with a sha256 digest still fits


def quote(text: str) -> str:
    """`text` in quotes for a message: control characters escaped, the middle of a long text left out."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}…{text[-half:]}"
    return repr(text)


def with_more(text: str, more: str) -> str:
    """A message and what to do next: behind a semicolon, or a sentence of its own behind a sentence."""
    return f"{text} {more[:1].upper()}{more[1:]}" if text.endswith(".") else f"{text}; {more}"
