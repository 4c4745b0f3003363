"""The lifetime of a signed URL, from its query (R5).

Known are the signatures of S3 (versions 4 and 2), Google Cloud Storage (both), Azure SAS and CloudFront.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

from crossdock.url import Url

MARGIN_S = 30.0  # a range that is requested now must still be permitted to start
LONGEST_S = 240.0  # URLs without a stated end: GHCR's live about five minutes (stargz-snapshotter#167)


def refresh_after(url: Url, now: float) -> float:
    """Seconds from `now` after which `url` should be resolved again.

    `now` is the time of the server that signed, as near as it is known. An end in the past means that the
    clocks disagree, and is not believed.
    """
    end = expires_at(url)
    left = 0.0 if end is None else end - now
    if left <= 0:
        return LONGEST_S
    return min(LONGEST_S, max(left - MARGIN_S, left / 2))


def expires_at(url: Url) -> float | None:
    """When the URL's signature ends, in seconds since the epoch; None when its query does not say."""
    query = {key.lower(): value for key, value in parse_qsl(url.query)}
    try:
        for vendor in ("amz", "goog"):
            if f"x-{vendor}-expires" in query:
                signed = datetime.strptime(query[f"x-{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return signed.timestamp() + float(query[f"x-{vendor}-expires"])
        if "sig" in query and "se" in query:
            end = datetime.fromisoformat(query["se"])
            return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()
        return float(query["expires"])
    except (KeyError, ValueError, OverflowError):
        return None


def server_time(date: str, fallback: float) -> float:
    """The ``Date`` of an answer in seconds since the epoch, `fallback` when it has none."""
    from email.utils import parsedate_to_datetime  # blobs that are redirected need it, and nothing else does

    try:
        when = parsedate_to_datetime(date)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, IndexError, OverflowError):  # what email.utils raises for nonsense
        return fallback
