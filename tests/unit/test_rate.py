"""Requests of each principal, by a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.rate import Bucket, RateLimit


def test_a_burst_of_a_minute_then_one_at_a_time() -> None:
    limit = RateLimit(6)
    assert all(limit.take("ann", 100.0).allowed for _ in range(6))
    refused = limit.take("ann", 100.0)
    assert not refused.allowed
    assert refused.retry_after_s == pytest.approx(10)
    assert limit.take("ann", 100.0) == refused, "a refused request does not count"
    assert not limit.take("ann", 109.0).allowed
    assert limit.take("ann", 110.0).allowed
    assert not limit.take("ann", 110.0).allowed


def test_whoever_comes_again_when_told_is_let_in() -> None:
    limit = RateLimit(7)
    now = 0.0
    for _ in range(50):
        allowed, wait = limit.take("ann", now)
        if not allowed:
            assert limit.take("ann", now + wait).allowed
        now += wait + 0.1


def test_one_principal_does_not_use_up_anothers_share() -> None:
    limit = RateLimit(1)
    assert limit.take("ann", 0.0).allowed
    assert not limit.take("ann", 0.0).allowed
    assert limit.take("ben", 0.0).allowed


def test_the_keys_are_bounded_and_those_seen_longest_ago_are_forgotten() -> None:
    limit = RateLimit(1, most_keys=3)
    for key in ("a", "b", "c", "d"):
        assert limit.take(key, 0.0).allowed
    assert len(limit) == 3
    assert not limit.take("d", 1.0).allowed
    assert limit.take("a", 1.0).allowed


@given(st.integers(1, 1000), st.lists(st.floats(0, 30), max_size=300))
def test_no_more_than_twice_the_rate_in_any_minute(per_minute: int, pauses: list[float]) -> None:
    limit, now, taken = RateLimit(per_minute), 0.0, []
    for pause in pauses:
        now += pause
        if limit.take("ann", now).allowed:
            taken.append(now)
    assert all(sum(start <= at < start + 60 for at in taken) <= 2 * per_minute for start in taken)


# -- buckets ---------------------------------------------------------------------------------------------


@given(
    st.floats(0.1, 1e9),
    st.floats(0.0, 10.0),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.01, 3.0)), min_size=1, max_size=60),
)
def test_a_bucket_gives_no_more_than_its_rate_a_burst_and_one_count(
    per_second: float, burst_s: float, takers: list[tuple[float, float]]
) -> None:
    """Each comes some time after the last one, and takes what so many seconds bring, once it may."""
    bucket, now = Bucket(per_second, burst_s), 1000.0
    taken: list[tuple[float, float]] = []
    for later_s, count_s in takers:
        now += later_s
        now += bucket.wait(now)
        bucket.take(count_s * per_second, now)
        taken.append((now, count_s))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            seconds = taken[last][0] - taken[first][0]
            counts = [count_s for _, count_s in taken[first : last + 1]]
            assert sum(counts) - counts[-1] <= seconds + burst_s + 1e-6


def test_a_bucket_that_is_emptied_without_pause_gives_its_rate() -> None:
    bucket, now, count = Bucket(100.0, 0.1), 5.0, 0
    while now < 105.0:
        now += bucket.wait(now)
        bucket.take(7, now)
        count += 7
    assert count == pytest.approx(100 * 100.0, rel=0.01)


def test_a_late_taker_loses_nothing_within_the_burst() -> None:
    bucket = Bucket(10.0, 0.1)
    bucket.take(10, 0.0)
    assert bucket.wait(0.0) == pytest.approx(0.9)
    bucket.take(10, 0.98)  # late by less than the burst
    assert bucket.wait(0.98) == pytest.approx(0.92)
