"""Ranges of bytes as they travel in headers; inside crossdock they are half-open, ``start <= x < stop``.

Reading is lenient, because registries vary (Nexus leaves the unit out, nexus-public#24); comparing is strict,
because a wrong range written at the right offset is silent corruption (R8).
"""

from __future__ import annotations

import re

from msgspec import Struct

# `re` compiles them when they are first used: copies of small blobs have no ranges.
_CONTENT_RANGE = r"(?i)\s*(?:bytes[\s=]+)?([0-9]{1,19})\s*-\s*([0-9]{1,19})\s*/\s*([0-9]{1,19}|\*)\s*"
_UNSATISFIED = r"(?i)\s*(?:bytes[\s=]+)?\*\s*/\s*([0-9]{1,19})\s*"
_UPLOADED = r"(?i)\s*(?:bytes[\s=]+)?0\s*-\s*(-?[0-9]{1,19})\s*"


class ContentRange(Struct, frozen=True):
    """What a 206 says it carries: ``start``..``stop`` of ``total`` bytes; ``total`` is None for ``*``."""

    start: int
    stop: int
    total: int | None


def range_header(start: int, stop: int) -> str:
    """``Range`` of a GET. Always one closed range (R7): open and multiple ones are answered in many ways."""
    if not 0 <= start < stop:
        raise ValueError(f"not a range of bytes: {start}..{stop}")
    return f"bytes={start}-{stop - 1}"


def parse_content_range(value: str) -> ContentRange | None:
    """``Content-Range`` of a 206, with or without its unit; None when it says no range."""
    match = re.fullmatch(_CONTENT_RANGE, value)
    if match is None:
        return None
    first, last, total = match.groups()
    if int(last) < int(first):
        return None
    return ContentRange(int(first), int(last) + 1, None if total == "*" else int(total))


def unsatisfied_total(value: str) -> int | None:
    """The size that a 416 states by ``Content-Range: bytes */size``."""
    match = re.fullmatch(_UNSATISFIED, value)
    return int(match[1]) if match else None


def content_range_for_chunk(start: int, stop: int) -> str:
    """``Content-Range`` of an upload's chunk: ``<first>-<last>`` without unit and total (spec, "Chunks").

    ACR answers 400 to any other form (U8, dotnet/sdk-container-builds#258).
    """
    if not 0 <= start < stop:
        raise ValueError(f"not a chunk: {start}..{stop}")
    return f"{start}-{stop - 1}"


def parse_uploaded(value: str) -> int | None:
    """How many bytes an upload session holds, by its ``Range: 0-<last>``; None when it says nothing usable.

    ``0-0`` is what distribution answers for an empty session as well as for one byte. It is read as 0: a
    session that holds one byte is not worth keeping.
    """
    match = re.fullmatch(_UPLOADED, value)
    if match is None:
        return None
    last = int(match[1])
    return 0 if last <= 0 else last + 1
