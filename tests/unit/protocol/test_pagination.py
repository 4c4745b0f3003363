"""The next page."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import ProtocolError
from crossdock.protocol.pagination import next_link, next_page
from crossdock.url import Url

URL = "https://r.example/v2/x/tags/list?n=2"

NEXT = "https://r.example/v2/x/tags/list?last=b&n=2"

CASES = [
    ("relative", ['</v2/x/tags/list?last=b&n=2>; rel="next"'], NEXT),
    ("absolute", ['<https://r.example/p2>; rel="next"'], "https://r.example/p2"),
    ("query alone", ['<?last=b&n=2>; rel="next"'], NEXT),
    ("unquoted", ["</p2>; rel=next"], "https://r.example/p2"),
    ("single quotes", ["</p2>; rel='next'"], "https://r.example/p2"),
    ("any case", ['</p2>; Rel="NEXT"'], "https://r.example/p2"),
    ("blanks", ['  < /p2 > ;  rel = "next" ; '], "https://r.example/p2"),
    ("among others", ['</p1>; rel="prev", </p3>; rel="next"'], "https://r.example/p3"),
    ("several relations", ['</p2>; rel="last next"'], "https://r.example/p2"),
    ("other parameters", ['</p2>; title="a, b <c>"; rel="next"'], "https://r.example/p2"),
    ("a comma in the target", ['</p2?a=1,2>; rel="next"'], "https://r.example/p2?a=1,2"),
    ("second header", ['</p0>; rel="prev"', '</p2>; rel="next"'], "https://r.example/p2"),
    ("no brackets", ['/v2/x/tags/list?last=b&n=2; rel="next"'], NEXT),
    ("no brackets, absolute", ["https://r.example/p2?a=1,2; rel=next"], "https://r.example/p2?a=1,2"),
    ("no brackets, query alone", ['?last=b&n=2; rel="next"'], NEXT),
    ("no relation", ["</p2>"], "https://r.example/p2"),
    ("no brackets and no relation", ["/p2"], "https://r.example/p2"),
    ("an empty relation", ['</p2>; rel=""'], "https://r.example/p2"),
    ("one without a relation before the next", ['</p1>, </p2>; rel="next"'], "https://r.example/p2"),
    ("a title that says so", ['</p1>; title="a; rel=prev"'], "https://r.example/p1"),
    ("no next", ['</p1>; rel="prev"'], None),
    ("a relation of no page", ["</app.css>; rel=preload; as=style; crossorigin"], None),
    ("no header", [], None),
    ("an empty header", [" , "], None),
    ("itself", [f'<{URL}>; rel="next"'], URL),
    (
        "an internal name",
        ["<http://registry.internal:5000/p2?last=b>; rel=next"],
        "https://r.example/p2?last=b",
    ),
    ("plain HTTP", ["<http://r.example/p2>; rel=next"], "https://r.example/p2"),
    ("user information", ["<https://u:p@r.example/p2>; rel=next"], "https://r.example/p2"),
]


@pytest.mark.parametrize(("links", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_header_says_where_the_next_page_is(links: list[str], expected: str | None) -> None:
    page = next_page(links, Url.parse(URL))
    assert (page and page.text) == expected


UNCLEAR = {
    "prose": "next: /p2",
    "prose before it": 'next: </p2>; rel="next"',
    "open bracket": "<",
    "open bracket with a target": '</p2; rel="next"',
    "no URL": '<http://[>; rel="next"',
    "another scheme": '<file:///etc/passwd>; rel="next"',
    "open quotes": '</a>; title="x, </b>; rel=next',
    "words behind it": '</p2>; rel="next" and so on',
    "a relation of its own": '</p2>; rel="next-page"',
    "a path without a slash": "v2/x/tags/list?last=b; rel=next",
}


@pytest.mark.parametrize("link", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_unknown_documents_are_an_error(link: str) -> None:
    with pytest.raises(ProtocolError, match="not understood") as caught:
        next_page([link], Url.parse(URL))
    assert not caught.value.retryable
    assert "last=" not in str(caught.value)


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_a_page_none_or_an_error(links: list[str]) -> None:
    with suppress(ProtocolError):
        page = next_page(links, Url.parse(URL))
        assert page is None or page.text.startswith("https://r.example/")


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        '<>\\"',
        '<"',
        ';rel="',
        "</a>;rel=next",
        "</a>;rel=next,",
        "/a;a;",
        "/a ; rel='",
        " ",
        "<>;a=';",
        ";",
    ],
)
@pytest.mark.parametrize("start", ["", "</a>;", "/a;"])
def test_a_long_header_is_read_in_one_pass(start: str, piece: str) -> None:
    """Reading on to the end from each character would keep the event loop busy for minutes."""
    with suppress(ProtocolError):
        next_page([start + piece * (1_000_000 // len(piece))], Url.parse(URL))


@given(st.text(max_size=20))
def test_a_client_follows_a_servers_link(last: str) -> None:
    link = next_link("/v2/x/tags/list", {"last": last, "n": 2})
    followed = next_page([link], Url.parse(URL))
    assert followed is not None
    assert parse_qs(followed.query, keep_blank_values=True) == {"last": [last], "n": ["2"]}
