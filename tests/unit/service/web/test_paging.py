"""Pages and filters of lists."""

from __future__ import annotations

import pytest

from crossdock.service.problems import Refused
from crossdock.service.web.paging import PAGE, next_link, page_of, read_filter

ITEMS = list(range(PAGE + 5))


def test_following_the_links_gives_every_item_once() -> None:
    query: dict[str, str] | None = {"$top": "7", "api-version": "1"}
    seen: list[int] = []
    while query is not None:
        page, query = page_of(ITEMS, query)
        seen += page
        assert query is None or query["api-version"] == "1"
    assert seen == ITEMS


@pytest.mark.parametrize("top", ["1000", "", str(PAGE)])
def test_no_page_is_longer_than_the_limit(top: str) -> None:
    page, following = page_of(ITEMS, {"$top": top})
    assert len(page) == PAGE
    assert following is not None


def test_the_last_page_has_no_link() -> None:
    page, following = page_of(ITEMS, {"$skiptoken": str(PAGE)})
    assert list(page) == ITEMS[PAGE:]
    assert next_link("http://x", following) == {}


def test_a_link_is_encoded() -> None:
    assert next_link("http://x/y", {"$filter": "a b"}) == {"nextLink": "http://x/y?%24filter=a+b"}


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5", "٣", "9" * 12])
def test_a_size_that_is_none_is_refused(top: str) -> None:
    with pytest.raises(Refused) as raised:
        page_of(ITEMS, {"$top": top})
    assert (raised.value.problem.status, raised.value.problem.code) == (400, "InvalidQueryParameter")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (
            "resourceType eq 'Microsoft.ContainerRegistry/registries'",
            {"resourceType": "microsoft.containerregistry/registries"},
        ),
        ("resourcetype EQ 'X' and name eq 'A and b'", {"resourceType": "x", "name": "a and b"}),
        ("(name eq 'it''s')", {"name": "it's"}),
    ],
)
def test_filters_are_read(text: str, found: dict[str, str]) -> None:
    assert read_filter(text) == found


@pytest.mark.parametrize(
    "text", ["x", "name ne 'x'", "tagName eq 'x'", "name eq 'a' or name eq 'b'", "name eq x"]
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(Refused) as raised:
        read_filter(text)
    assert raised.value.problem.code == "InvalidFilterInQueryString"
