"""Fields of list entries, read with the same care for every API."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from crossdock.content import ManifestRow
from crossdock.errors import InvalidDigest
from crossdock.oci.digest import Digest
from crossdock.oci.reference import is_tag
from crossdock.registry.pages import Page

_LATEST = 253_402_300_800.0  # the year 10000


def page_of_rows(
    listed: list[Any], row_of: Callable[[Any], ManifestRow | None], following: str | None = None
) -> Page:
    """The page of a list, of which `row_of` understands the right entries: None of the others."""
    rows: list[ManifestRow] = []
    odd: list[Any] = []
    for entry in listed:
        row = row_of(entry)
        if row is None:
            odd.append(entry)
        else:
            rows.append(row)
    names = [str(row.digest) for row in rows]
    return Page(rows, names, len(listed), names[-1] if names else None, odd, following)


def digest_of(value: object) -> Digest | None:
    """None: it is no digest."""
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except InvalidDigest:
        return None


def tags_of(value: object) -> tuple[str, ...]:
    """The tags in a list of names; servers in Go send null for an empty one."""
    if not isinstance(value, list):
        return ()
    return tuple(each for each in value if isinstance(each, str) and is_tag(each))


def tag_names_of(value: object) -> tuple[str, ...]:
    """As `tags_of`, of a list of objects with a ``name``."""
    if not isinstance(value, list):
        return ()
    return tags_of([each.get("name") for each in value if isinstance(each, dict)])


def text_of(value: object) -> str:
    """The text; empty for anything else."""
    return value if isinstance(value, str) else ""


def number_of(value: object) -> int | None:
    """A number of bytes, given as a number or as text; None: it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def moment_of(value: object, unit: float = 1.0) -> float | None:
    """Seconds since the epoch, of RFC 3339 or of a count of `unit` seconds.

    None for anything else, and for moments at or before the epoch, which stand for "never".
    """
    if isinstance(value, str) and not value.isdigit():
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    elif isinstance(value, str) and len(value) < 20:
        seconds = int(value) * unit
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value * unit
    else:
        return None
    return seconds if math.isfinite(seconds) and 0 < seconds < _LATEST else None


def merged(rows: Iterable[ManifestRow]) -> list[ManifestRow] | None:
    """Each manifest once, with all its tags. None: a tag means two manifests, so it moved meanwhile."""
    found: dict[Digest, ManifestRow] = {}
    owners: dict[str, Digest] = {}
    for row in rows:
        if any(owners.setdefault(tag, row.digest) != row.digest for tag in row.tags):
            return None
        known = found.get(row.digest)
        found[row.digest] = row if known is None else _joined(known, row)
    return list(found.values())


def _joined(one: ManifestRow, other: ManifestRow) -> ManifestRow:
    return ManifestRow(
        one.digest,
        tuple(dict.fromkeys((*one.tags, *other.tags))),
        one.media_type or other.media_type,
        other.size if one.size is None else one.size,
        _later(one.pushed, other.pushed),
        _later(one.pulled, other.pulled),
    )


def _later(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)
