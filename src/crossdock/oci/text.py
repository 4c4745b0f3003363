"""How text that came from outside is shown in messages: quoted, on one line, bounded."""

from __future__ import annotations

_LONGEST = 120  # characters; a whole reference with a sha256 digest still fits


def quote(text: str) -> str:
    """`text` in quotes for a message: control characters escaped, the middle of a long text left out."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}…{text[-half:]}"
    return repr(text)
