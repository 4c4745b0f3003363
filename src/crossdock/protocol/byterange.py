"""Ranges of bytes as they travel in headers; inside crossdock they are half-open, ``start <= x < stop``.

Both roles are here: what a client sends and reads, and what a server does (the embedded registry).
Reading is lenient, because registries vary (Nexus leaves the unit out, nexus-public#24); comparing is strict,
because a wrong range written at the right offset is silent corruption (R8).
"""

from __future__ import annotations

import re

from msgspec import Struct

# `re` compiles them when they are first used: copies of small blobs have no ranges.
_CONTENT_RANGE = r"(?i)\s*(?:bytes[\s=]+)?([0-9]{1,19})\s*-\s*([0-9]{1,19})\s*/\s*([0-9]{1,19}|\*)\s*"
_UNSATISFIED = r"(?i)\s*(?:bytes[\s=]+)?\*\s*/\s*([0-9]{1,19})\s*"
_REQUESTED = r"(?i)\s*bytes\s*=\s*(?:([0-9]{1,19})\s*-\s*([0-9]{0,19})|-\s*([0-9]{1,19}))\s*"
_CHUNK = r"([0-9]{1,19})-([0-9]{1,19})"
_UPLOADED = r"(?i)\s*(?:bytes[\s=]+)?0\s*-\s*(-?[0-9]{1,19})\s*"


class ContentRange(Struct, frozen=True):
    """The range in a 206: ``start``..``stop`` of ``total`` bytes; ``total`` is None for ``*``."""

    start: int
    stop: int
    total: int | None


def range_header(start: int, stop: int) -> str:
    """``Range`` of a GET. Always one closed range (R7): servers treat open and multiple ones in many ways."""
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

    ACR responds with 400 to any other form (U8, dotnet/sdk-container-builds#258).
    """
    if not 0 <= start < stop:
        raise ValueError(f"not a chunk: {start}..{stop}")
    return f"{start}-{stop - 1}"


def parse_uploaded(value: str, range_end: str = "last") -> int | None:
    """How many bytes an upload session holds, by its ``Range: 0-<last>``; None when it says nothing usable.

    `range_end` is ``next`` where the header ends with the offset of the next byte (`registry.kinds`).
    distribution sends ``0-0`` for an empty session as well as for one byte. It is read as 0: a
    session that holds one byte is not worth keeping.
    """
    match = re.fullmatch(_UPLOADED, value)
    if match is None:
        return None
    last = int(match[1]) - (range_end == "next")
    return 0 if last <= 0 else last + 1


# -- the server's side ---------------------------------------------------------------------------------------


class Unsatisfiable(Exception):
    """The requested range lies outside the content: 416."""


def parse_range(value: str | None, size: int) -> tuple[int, int] | None:
    """``start, stop`` of the range that a GET requests from `size` bytes; None: everything, with 200.

    A malformed header is ignored, and so are several ranges at once, which a server may decline
    (RFC 9110, 14.2). Raises `Unsatisfiable`.
    """
    match = re.fullmatch(_REQUESTED, value) if value else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(suffix)), size
    start = int(first)
    if last and int(last) < start:
        return None  # 14.1.1: invalid, hence ignored
    if start >= size:
        raise Unsatisfiable
    return start, min(int(last) + 1, size) if last else size


def content_range(start: int, stop: int, total: int) -> str:
    """``Content-Range`` of a 206."""
    return f"bytes {start}-{stop - 1}/{total}"


def unsatisfied_range(total: int) -> str:
    """``Content-Range`` of a 416."""
    return f"bytes */{total}"


def parse_chunk_range(value: str) -> tuple[int, int] | None:
    """``start, stop`` of an upload's ``Content-Range``; None when it is not ``<first>-<last>``."""
    match = re.fullmatch(_CHUNK, value)
    if match is None or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), int(match[2]) + 1


def uploaded_range(size: int) -> str:
    """``Range`` of an upload session that holds `size` bytes.

    An empty session has no last byte: distribution then sends ``0-0``, which clients know.
    """
    return f"0-{max(0, size - 1)}"
