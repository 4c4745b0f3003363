"""Resuming an upload session of an earlier process: the meaning of the response to ``GET <location>``.

The registry's word counts, not the journal's: whatever the session holds was sent by us for this digest, and
the digest of the whole is checked before the session is closed. So more than was acknowledged is gained, and
less is only a longer way. What cannot be relied on ends in a new session, and never in a failed copy: if the
registry does not respond at all, opening that session fails and the journal keeps the old one
(S1-S4, U9, U10).
"""

from __future__ import annotations

from msgspec import Struct

from crossdock.protocol.byterange import parse_uploaded
from crossdock.protocol.headers import HeaderLookup


class GoOn(Struct, frozen=True):
    """Send from ``offset`` in the same session, after following its ``Location``; at the size, close it."""

    offset: int
    lost: int = 0  # bytes that had been acknowledged and are not there


class StartAgain(Struct, frozen=True):
    """Open a new session. ``announce``: acknowledged bytes are lost, and a person should know."""

    reason: str  # as in "the upload must start again: {reason}"
    announce: bool


def resumption(
    acknowledged: int,
    size: int,
    status: int,
    headers: HeaderLookup,
    *,
    trust_range: bool = True,
    range_end: str = "last",
) -> GoOn | StartAgain:
    """The next step for a session that had acknowledged this many of `size` bytes.

    `status` is that of the response, after its retries and a renewed token; 0 when there was none.
    `range_end`: as of `parse_uploaded`.
    """
    announce = acknowledged > 0
    if 200 <= status < 300:  # 204 by the specification, 202 and 200 of others
        if not trust_range:  # it stands still at the first chunk while bytes are stored (ECR)
            return GoOn(acknowledged) if announce else StartAgain("it holds nothing yet", False)
        return _from_range(acknowledged, size, headers, range_end)
    if status in (404, 410):
        return StartAgain("the target no longer knows the old one", announce)
    if status == 416 or (400 <= status < 500 and headers.get("location", "")):
        found = _from_range(acknowledged, size, headers, range_end)
        if isinstance(found, GoOn):
            return found
    reason = f"the target responds with {status} when asked about it" if status else "the target does not say"
    return StartAgain(reason, announce)


def _from_range(acknowledged: int, size: int, headers: HeaderLookup, range_end: str) -> GoOn | StartAgain:
    held = parse_uploaded(headers.get("range", ""), range_end)
    announce = acknowledged > 0
    if held is None:  # a PATCH that was cut may have left bytes: our own count would be a guess
        return StartAgain("the target does not say how much it holds", announce)
    if held == 0:  # or one byte: "0-0" means both
        return StartAgain("it holds nothing", announce)
    if held > size:
        return StartAgain(f"it holds {held} bytes, more than the blob's {size}", announce)
    return GoOn(held, max(0, acknowledged - held))
