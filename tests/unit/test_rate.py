"""Requests of each principal, by a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.rate import RateLimit


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
