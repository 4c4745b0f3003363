"""The ``Range`` header of a request for a blob (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re

_SPEC = re.compile(r"bytes\s*=\s*(?:([0-9]{1,19})\s*-\s*([0-9]{0,19})|-\s*([0-9]{1,19}))", re.I)
_CHUNK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


class Unsatisfiable(Exception):
    """The range lies outside the content: 416."""


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """``start, stop`` (half-open) of what `header` asks of `size` bytes; None: everything, with 200.

    A malformed header is ignored, and so are several ranges at once, which a server may decline
    (RFC 9110, 14.2). Raises `Unsatisfiable`.
    """
    found = _SPEC.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(suffix)), size
    start = int(first)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None  # 14.1.1: invalid, hence ignored
    if start >= size:
        raise Unsatisfiable
    return start, stop


def chunk_range(header: str) -> tuple[int, int] | None:
    """``start, stop`` (half-open) of an upload's ``Content-Range``, None when it is none.

    distribution-spec, "Pushing a blob in chunks": inclusive on both ends, without a unit.
    """
    found = _CHUNK.fullmatch(header)
    if found is None or int(found[2]) < int(found[1]):
        return None
    return int(found[1]), int(found[2]) + 1
