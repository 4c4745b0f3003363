"""The next page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.pagination import next_page

URL = "https://r.example/v2/x/tags/list?n=2"

CASES = [
    (
        "relative",
        ['</v2/x/tags/list?last=b&n=2>; rel="next"'],
        "https://r.example/v2/x/tags/list?last=b&n=2",
    ),
    ("absolute", ['<https://r.example/p2>; rel="next"'], "https://r.example/p2"),
    ("unquoted", ["</p2>; rel=next"], "https://r.example/p2"),
    ("any case", ['</p2>; Rel="NEXT"'], "https://r.example/p2"),
    ("among others", ['</p1>; rel="prev", </p3>; rel="next"'], "https://r.example/p3"),
    ("several relations", ['</p2>; rel="last next"'], "https://r.example/p2"),
    ("other parameters", ['</p2>; title="a, b <c>"; rel="next"'], "https://r.example/p2"),
    ("a comma in the target", ['</p2?a=1,2>; rel="next"'], "https://r.example/p2?a=1,2"),
    ("second header", ['</p0>; rel="prev"', '</p2>; rel="next"'], "https://r.example/p2"),
    ("a title that says so", ['</p1>; title="a; rel=next"'], None),
    ("no next", ['</p1>; rel="prev"'], None),
    ("no header", [], None),
    ("no relation", ["</p2>"], None),
    ("itself", [f'<{URL}>; rel="next"'], None),
    ("rubbish", ["next: /p2", "<"], None),
    ("no URL", ['<http://[>; rel="next"'], None),
]


@pytest.mark.parametrize(("links", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_header_says_where_the_next_page_is(links: list[str], expected: str | None) -> None:
    assert next_page(links, URL) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_no_header_makes_it_fail(links: list[str]) -> None:
    next_page(links, URL)


@pytest.mark.parametrize("piece", ["<", '<>\\"', '<"', ';rel="'])
def test_a_header_of_half_open_parts_is_read_in_one_pass(piece: str) -> None:
    """Reading on to the end from each of them would keep the event loop busy for minutes."""
    assert next_page([piece * (1_000_000 // len(piece))], URL) is None


def test_a_quoted_string_without_an_end_hides_what_follows() -> None:
    assert next_page(['</a>; title="x, </b>; rel=next'], URL) is None
    assert next_page(['</a>; title="x', "</b>; rel=next"], URL) == "https://r.example/b"
