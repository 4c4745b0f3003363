"""Paging of tags, catalog, referrers and Azure's lists (distribution specification; RFC 8288).

The header ``Link: <…>; rel="next"`` says where the next page is, and a short page is no sign of the end (L1).
Servers write the header in other ways as well, all of which skopeo follows: without angle brackets (Quay),
with single quotes, without a relation, or with the host name that the server has inside of its network. A
header that is understood in none of these ways is an error: the end of the list it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlencode, urljoin, urlsplit

from crossdock.errors import Advice, InvalidInput, ProtocolError
from crossdock.url import Url

# Possessive, so that no text is looked at again from each of its characters.
_PARAMETER = r"""[\w!#$&+.^`|~-]++\s*+(?:=\s*+("(?:[^"\\]|\\.)*+"|'[^'",;<>]*+'|[^\s;,"'<>]*+))?"""
_LINK = re.compile(rf"[\s,]*+<([^<>]*+)>((?:\s*+;\s*+(?:{_PARAMETER})?)*+)\s*+(?=,|\Z)", re.DOTALL)
_BARE_LINK = re.compile(
    rf"\s*+((?:https?://|/|\?)[^\s;<>\"]*+)((?:\s*+;\s*+(?:{_PARAMETER})?)*+)\s*+\Z",
    re.DOTALL | re.IGNORECASE,
)
_RELATION = re.compile(
    r";\s*+rel\s*+=\s*+(\"(?:[^\"\\]|\\.)*+\"|'[^']*+'|[^\s;]*+)", re.IGNORECASE | re.DOTALL
)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*+\"", re.DOTALL)
_END = re.compile(r"[\s,]*+\Z")


def next_page(links: Iterable[str], url: Url) -> Url | None:
    """The URL of the next page by all ``Link`` headers of the response to `url`; None: no next page.

    It is requested from the server of `url`, whatever host the header names: only path and query
    count. The URL may be `url` itself. Raises `ProtocolError` for a header that is not understood.
    """
    unnamed = None
    for value in links:
        for target, parameters in _links(value):
            relation = _relation(parameters)
            if relation is None:
                unnamed = unnamed if unnamed is not None else target
            elif "next" in relation:
                return _on_same_server(target, url)
            elif any("next" in word for word in relation):
                raise _not_understood(value)
    return None if unnamed is None else _on_same_server(unnamed, url)


def next_link(path: str, query: Mapping[str, object]) -> str:
    """The ``Link`` header of a page whose next one is at `path` with `query`."""
    return f'<{path}?{urlencode(query)}>; rel="next"'


def _links(value: str) -> Iterator[tuple[str, str]]:
    """The targets in one header, each with its parameters."""
    if "<" not in value:
        if _END.match(value):
            return
        bare = _BARE_LINK.match(value)
        if bare is None:
            raise _not_understood(value)
        yield bare[1], bare[2]
        return
    position = 0
    while not _END.match(value, position):
        link = _LINK.match(value, position)
        if link is None:
            raise _not_understood(value)
        yield link[1].strip(), link[2]
        position = link.end()


def _relation(parameters: str) -> list[str] | None:
    """The words of ``rel``; None when there is none. Of several the first counts (RFC 8288 section 3.3)."""
    quoted = _QUOTED.sub(lambda found: '"' + "x" * (len(found[0]) - 2) + '"', parameters)  # may hold anything
    found = _RELATION.search(quoted)
    if found is None:
        return None
    return parameters[found.start(1) : found.end(1)].strip("\"'").lower().split() or None


def _on_same_server(target: str, url: Url) -> Url:
    try:
        page = urlsplit(urljoin(url.text, target))
    except ValueError:
        raise _not_understood(target) from None
    if page.scheme not in ("http", "https"):
        raise _not_understood(target)
    try:
        return Url.parse(f"{url.start}{page.path or '/'}{f'?{page.query}' if page.query else ''}")
    except InvalidInput:
        raise _not_understood(target) from None


def _not_understood(text: str) -> ProtocolError:
    shown = text.partition("?")[0]  # what follows may be a permission
    shown = "".join(each if each.isprintable() else " " for each in shown[:80])
    return ProtocolError(
        f"the Link to the next page is not understood: {shown!r}",
        retryable=False,
        advice=Advice("report", why="without the next page the list would be incomplete"),
    )
