"""Parses and formats sizes and durations."""

from __future__ import annotations

import re

from crossdock.errors import Advice, InvalidInput

# `re` compiles them when they are first used: most commands name neither.
_SIZE = r"(?ai)(\d{1,18}(?:\.\d{1,9})?)\s*(?:([kmgt])(i?)b?|b)?"
_DURATION = r"(?a)(\d{1,18}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)?"
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes: ``16MiB``, ``64K`` and ``64KiB`` in powers of 1024, ``2MB`` in powers of 1000, or a bare number.

    Raises `InvalidInput` with advice, ValueError for sizes that are not whole bytes.
    """
    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        advice = Advice("write-size", "sizes are written as 16MiB, 64KiB, 1GiB, 2MB or 1000")
        raise InvalidInput(f"{text!r} is not a size", advice=advice)
    number, unit, binary = match.groups()
    decimal = unit is not None and not binary and text.strip().lower().endswith("b")
    factor = (1000 if decimal else 1024) ** _POWER[unit.lower()] if unit else 1
    size = int(number) * factor if number.isdigit() else float(number) * factor
    if size != int(size) or size > 2**63 - 1:
        raise ValueError(f"{text!r} is not a whole number of bytes that fits in 63 bits")
    return int(size)


def parse_duration(text: str) -> float:
    """Seconds: ``30s``, ``500ms``, ``2m``, ``1h``, ``7d``, or a bare number. Raises `InvalidInput`."""
    match = re.fullmatch(_DURATION, text.strip())
    if match is None:
        advice = Advice("write-duration", "durations are written as 30s, 500ms, 2m, 1h or 7d")
        raise InvalidInput(f"{text!r} is not a duration", advice=advice)
    number, unit = match.groups()
    return float(number) * _SECONDS[unit or "s"]


def parse_moment(text: str) -> float:
    """Seconds since the epoch: ``2026-01-31``, ``2026-01-31T12:00:00Z``. UTC unless it says.

    Raises `InvalidInput`.
    """
    from datetime import UTC, datetime  # imported here: most commands have no dates

    try:
        moment = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        advice = Advice("write-date", "dates are written as 2026-01-31 or 2026-01-31T12:00:00Z")
        raise InvalidInput(f"{text!r} is not a date", advice=advice) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def count(number: int, one: str, many: str = "") -> str:
    """``1 blob``, ``2 blobs``; `many` for words that do not end in s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def format_size(size: float) -> str:
    """``431.2 MiB``; whole bytes below 1 KiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1023.95 or (unit == "B" and abs(size) < 1024):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """``3.1 s`` below a minute, else ``2m05s`` or ``1h02m``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
