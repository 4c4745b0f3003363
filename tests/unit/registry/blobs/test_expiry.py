"""When signed URLs end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.registry.blobs.expiry import LONGEST_S, expires_at, refresh_after, server_time
from crossdock.url import Origin, Url

STORAGE = Origin("https", "storage.test", 443)
NOON = 1_700_000_000  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("query", "end"),
    [
        ("X-Amz-Date=20231114T221320Z&X-Amz-Expires=1200&X-Amz-Signature=s", NOON + 1200),
        ("x-goog-date=20231114T221320Z&x-goog-expires=900", NOON + 900),
        ("sv=2022&se=2023-11-14T23%3A13%3A20Z&sig=s", NOON + 3600),
        ("se=2023-11-15&sig=s", NOON + 6400),
        (f"Expires={NOON + 60}&Signature=s&Key-Pair-Id=k", NOON + 60),
        ("X-Amz-Expires=1200", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=1200", None),
        ("se=soon&sig=s", None),
        ("verify=1700000000-abc", None),
        ("", None),
    ],
)
def test_the_end_is_read_from_the_query(query: str, end: float | None) -> None:
    assert expires_at(Url.of(STORAGE, f"/blob?{query}")) == end


@pytest.mark.parametrize(
    ("left", "wait"), [(3600, LONGEST_S), (200, 170), (40, 20), (1, 0.5), (0, LONGEST_S), (-5, LONGEST_S)]
)
def test_it_is_resolved_again_before_its_end_and_within_four_minutes(left: int, wait: float) -> None:
    assert refresh_after(Url.of(STORAGE, f"/?Expires={NOON + left}"), NOON) == wait


@given(st.text(max_size=80))
def test_no_query_raises(query: str) -> None:
    expires_at(Url.of(STORAGE, f"/?{query}"))


def test_the_servers_clock_counts() -> None:
    assert server_time("Tue, 14 Nov 2023 22:13:20 GMT", 1.0) == NOON
    assert server_time("", 1.0) == 1.0
    assert server_time("now", 1.0) == 1.0
    assert server_time("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 1.0) == 1.0


@given(st.text(max_size=60))
def test_no_date_raises(date: str) -> None:
    server_time(date, 1.0)
