"""Pages of long lists, and the filters of Azure's lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar
from urllib.parse import urlencode

from crossdock.service.problems import refuse

PAGE = 200  # entries in one response, unless fewer are requested
FILTERS = ("resourceType", "name", "resourceGroup", "location")

_Item = TypeVar("_Item")
_TERM = re.compile(r"\s*\(?\s*([A-Za-z]+)\s+eq\s+'((?:[^']|'')*)'\s*\)?\s*", re.IGNORECASE)
_AND = re.compile(r"\s+and\s+(?=(?:[^']*'[^']*')*[^']*$)", re.IGNORECASE)


def page_of(
    items: Sequence[_Item], query: Mapping[str, str], *, top: str = "$top", skip: str = "$skiptoken"
) -> tuple[Sequence[_Item], dict[str, str] | None]:
    """The page that `query` requests, and the query of the next page, None after the last.

    `top` and `skip` name its parameters: the size of the page, and the number of entries before it.
    """
    size = min(_number(query, top, PAGE), PAGE)
    if size == 0:
        _wrong(top, query[top])
    start = _number(query, skip, 0)
    rest = {name: value for name, value in query.items() if name != skip}
    following = start + size
    return items[start:following], {**rest, skip: str(following)} if following < len(items) else None


def next_link(url: str, query: Mapping[str, str] | None) -> dict[str, str]:
    """The member ``nextLink`` of a response, or nothing on the last page; `url` has no query."""
    return {} if query is None else {"nextLink": f"{url}?{urlencode(query)}"}


def read_filter(text: str) -> dict[str, str]:
    """``$filter`` of a list of resources: ``name eq 'a' and resourceType eq 'b'`` by its fields.

    Fields are spelled as in `FILTERS`, values in lower case. Raises `Refused` for anything but such terms
    joined by ``and``.
    """
    found: dict[str, str] = {}
    if not text.strip():
        return found
    usual = {each.lower(): each for each in FILTERS}
    for term in _AND.split(text):
        match = _TERM.fullmatch(term)
        field = usual.get(match[1].lower()) if match else None
        if match is None or field is None:
            refuse(
                400,
                "InvalidFilterInQueryString",
                "Invalid $filter specified in the query string: it must compare "
                f"{', '.join(FILTERS)} with a quoted text by eq, joined by and",
                target="$filter",
            )
        found[field] = match[2].replace("''", "'").lower()
    return found


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        _wrong(name, text)
    return int(text)


def _wrong(name: str, text: str) -> NoReturn:
    refuse(
        400,
        "InvalidQueryParameter",
        f"The query parameter {name} is not a whole number in its range: {text[:40]!r}",
        target=name,
    )
