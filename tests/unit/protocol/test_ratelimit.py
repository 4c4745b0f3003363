"""Headers by which servers announce their limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.ratelimit import Allowance, read_allowance

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Docker Hub: only pulls count.
        (
            {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "3;w=21600"},
            Allowance(3, 21600.0, 100, True),
        ),
        ({"ratelimit-remaining": "0;w=2"}, Allowance(0, 2.0, None, True)),
        # Drafts 00 to 06; the window of the limit where there is no reset.
        (
            {"ratelimit-limit": "10", "ratelimit-remaining": "4", "ratelimit-reset": "30"},
            Allowance(4, 30.0, 10, False),
        ),
        (
            {"ratelimit-limit": "10, 10;w=1, 50;w=60", "ratelimit-remaining": "4"},
            Allowance(4, 60.0, 10, False),
        ),
        # GitLab: a moment.
        (
            {"ratelimit-limit": "10", "ratelimit-remaining": "0", "ratelimit-reset": "1700000007"},
            Allowance(0, 7.0, 10, False),
        ),
        (
            {"ratelimit-limit": "10", "ratelimit-remaining": "0", "ratelimit-reset": "1600000000"},
            Allowance(0, 0.0, 10, False),
        ),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, Allowance(50, 5.0, 100, False)),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            Allowance(50, 30.0, 100, False),
        ),
        (
            {"ratelimit": '"minute";r=9;t=30, "day";r=2;t=8000', "ratelimit-policy": '"day";q=100'},
            Allowance(2, 8000.0, 100, False),
        ),
        ({"ratelimit": '"a";r=0', "ratelimit-policy": '"a";q=5;w=60'}, Allowance(0, 60.0, 5, False)),
        # Nothing is left, and nobody knows for how long: that is no reason to wait.
        ({"ratelimit-remaining": "0"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-limit": "100"}, None),
        ({"ratelimit": '"a";r=0'}, None),
        ({"ratelimit-remaining": "soon;w=60"}, None),
        ({"ratelimit-remaining": "-1;w=60"}, None),
        ({"ratelimit-limit": "100;w=21600"}, None),
        ({}, None),
    ],
)
def test_remaining_items(headers: dict[str, str], expected: Allowance | None) -> None:
    assert read_allowance(headers, NOW) == expected


_NAMES = st.sampled_from(
    ["ratelimit", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy"]
)


@given(st.dictionaries(_NAMES, st.text(alphabet='0123456789;=,rtqw" \u0663', max_size=30)))
def test_any_text_is_read(headers: dict[str, str]) -> None:
    said = read_allowance(headers, NOW)
    assert said is None or (said.remaining >= 0 and said.window_s >= 0)
