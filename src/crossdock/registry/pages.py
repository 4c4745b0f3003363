"""Lists of a registry, page by page: whole, or an error that says why not.

Tags, the catalog, referrers and Azure's lists all come in pages. Rules:

1. ``Link`` names the next page (`protocol.pagination`). Servers without it (Nexus) cut a list at the `n` that
   was requested: a page of exactly `n` entries without a Link is continued behind its last entry.
2. A server that refuses `n` (400 of distribution, 413 with ``OCI-Tag-Limit`` by the specification) gets
   a request for fewer entries, then one without `n`.
3. A page that repeats, a circle and a list that does not end are errors. So are too many entries: a hostile
   server could otherwise fill the memory.
4. An entry that cannot be one of the list (null, a tag with a blank) is left out, with a warning.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

from msgspec import Struct, field
from msgspec.structs import replace

from crossdock.errors import (
    Advice,
    LimitExceeded,
    NotFound,
    ProtocolError,
    RegistryError,
)
from crossdock.oci.text import quote
from crossdock.protocol.pagination import next_page
from crossdock.reading import aside
from crossdock.url import Url

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.registry.handle import Repository
    from crossdock.transport.base import Headers

MOST_NAMES = 1_000_000  # of one list
MAX_PAGES = 10_000
EMPTY_PAGES = 100  # in a row
_TOTAL_LIMIT = 256 << 20  # bytes of all pages
PAGE_LIMIT = 16 << 20  # bytes; servers without paging send everything at once
_PAGE_VALUES = 1_100_000  # JSON values of a page, which take some 60 bytes each here
_FEWER = 100  # entries; the usual limit of those that refuse more
_REFUSES_N = (400, 413)
_NO_PAGE = frozenset({400, 404, 405, 410, 501})
_REPORT = Advice("report", why="its list cannot be read to its end")
_SHOWN = 3
_SHOWN_CHARACTERS = 40

OnWarning = Callable[[str], None]


class Query(Struct, frozen=True):
    """A request for the list at `path`: at most `n` entries of it, those behind `last`."""

    path: str
    n: int | None = None
    last: str | None = None
    more: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """The path with its query."""
        query = [("n", str(self.n))] if self.n is not None else []
        query += [("last", self.last)] if self.last is not None else []
        query += self.more
        return f"{self.path}?{urlencode(query)}" if query else self.path


class Page(Struct):
    """The content of one response."""

    entries: list[Any]
    names: list[str]  # of the entries, by which a page that repeats is known
    count: int  # of all that are listed, including those left out
    last: str | None  # the name behind which the next page begins
    odd: list[Any] = field(default_factory=list)  # left out
    following: str | None = None  # the next page's path and query, where the content names it and no Link


class LeftOut(Struct):
    """Counts the entries of a list that were left out, and shows some."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, odd: Iterable[Any]) -> None:
        """Note them."""
        for value in odd:
            self.count += 1
            if len(self.shown) < _SHOWN:
                self.shown.append(_shown(value))

    def told(self, what: str) -> str:
        """The warning about the number of `what`."""
        more = ", …" if self.count > len(self.shown) else ""
        entries = "1 invalid entry was" if self.count == 1 else f"{self.count} invalid entries were"
        return f"{what}: {entries} left out: {', '.join(self.shown)}{more}"

    def tell(self, on_warning: OnWarning | None, what: str) -> None:
        """Warn about them, if any."""
        if self.count and on_warning is not None:
            on_warning(self.told(what))


async def pages(
    repository: Repository,
    query: Query,
    read: Callable[[Reply], Page],
    *,
    headers: Headers = (),
    most: int = MOST_NAMES,
    most_bytes: int = _TOTAL_LIMIT,
) -> AsyncGenerator[Page, None]:
    """Every page of the list, as `read` understands them. # network

    Raises as requests and `read` do, `ProtocolError` for a list that cannot be whole, `LimitExceeded` over
    `most` entries, `most_bytes` or `MAX_PAGES`.
    """
    base = await repository.client.base_url()
    asked: Query | None
    reply, asked = await _first(repository, query, headers)
    query = asked
    before: Page | None = None
    names_itself = False
    seen: set[Url] = set()
    count = received = empty = 0
    for number in itertools.count(1):
        page = await aside(read, reply, size=len(reply.body))
        count, received = count + page.count, received + len(reply.body)
        empty = 0 if page.count else empty + 1
        if count > most:
            _exceeded(reply, f"the list has over {most} entries", most)
        if received > most_bytes:
            _exceeded(reply, f"the list has over {most_bytes} bytes", most_bytes)
        if empty > EMPTY_PAGES:
            _exceeded(reply, f"over {EMPTY_PAGES} pages in a row are empty", EMPTY_PAGES)
        following = _next(reply) or (reply.url.with_target(page.following) if page.following else None)
        if before is not None and _repeats(page, before, goes_on=following not in (None, reply.url)):
            if not names_itself and asked is not None and (following or page.count > (asked.n or page.count)):
                return  # it ignores `last`, and either sends Links where there is more or ignores `n`
            _not_whole(reply, "the list repeats a page instead of continuing")
        yield page
        if following is not None and following != reply.url:
            asked, url = None, following
        else:
            names_itself = following is not None
            asked = _behind(query, asked, page, reply, names_itself=names_itself)
            if asked is None:
                return
            url = base.with_target(asked.target)
        if url in seen:
            _not_whole(reply, f"the list goes in circles at {url}")
        if number == MAX_PAGES:
            _exceeded(reply, f"the list has over {MAX_PAGES} pages", MAX_PAGES)
        seen.add(url)
        before = page
        reply = await _later(repository, url, headers)


async def _first(repository: Repository, query: Query, headers: Headers) -> tuple[Reply, Query]:
    """The first page, and the query that got it: with fewer entries where `n` is refused."""
    while True:
        ok = (200,) if query.n is None else (200, *_REFUSES_N)
        reply = await repository.request("GET", query.target, headers=headers, ok=ok, limit=PAGE_LIMIT)
        if reply.status == 200:
            return reply, query
        refused = repository.client.error_from(
            reply.status, reply.headers, reply.body, "GET", reply.url, repository.scope
        )
        if isinstance(refused, NotFound):
            raise refused
        query = replace(query, n=_fewer(query.n or 0, reply.headers.get("OCI-Tag-Limit", "")))


async def _later(repository: Repository, url: Url, headers: Headers) -> Reply:
    """A page that is not the first. Its 404 says nothing about the repository, or whether there are lists."""
    try:
        return await repository.request("GET", url, headers=headers, limit=PAGE_LIMIT)
    except RegistryError as error:
        if error.status not in _NO_PAGE:
            raise
        raise ProtocolError(
            f"the list ends before it is whole: {error}", retryable=False, advice=_REPORT
        ) from None


def _fewer(n: int, limit: str) -> int | None:
    """How many entries to request after `n` were refused; None: as many as the server likes."""
    limit = limit.strip()
    if limit.isascii() and limit.isdigit() and len(limit) < 10 and 0 < int(limit) < n:
        return int(limit)
    return _FEWER if n > _FEWER else None


def _next(reply: Reply) -> Url | None:
    try:
        return next_page(reply.headers.getall("Link"), reply.url)
    except ProtocolError as error:
        raise ProtocolError(f"GET {reply.url}: {error}", retryable=False, advice=error.advice) from None


def _behind(
    query: Query, asked: Query | None, page: Page, reply: Reply, *, names_itself: bool
) -> Query | None:
    """The request behind a page without a usable Link; None: it was the last.

    `names_itself`: its Link names the page itself, which the last page of some servers does, and each page of
    others. One entry fewer is requested than before: a server that ignores `n` shows it then.
    """
    is_full = asked is not None and asked.n is not None and page.count == asked.n
    if not (is_full or names_itself):
        return None
    if query.n is None or page.last is None:
        if page.count:
            _not_whole(reply, "the list names the same page as the next one")
        return None
    n = max(1, query.n - 1) if asked is query else (asked or query).n
    return replace(query, n=n, last=page.last)


def _repeats(page: Page, before: Page, *, goes_on: bool) -> bool:
    """Whether nothing is new. The last page may hold nothing but the last entry of the one before it."""
    if not page.names or (page.names == before.names[-1:] and not goes_on):
        return False
    return set(before.names).issuperset(page.names)


def document_of(reply: Reply) -> dict[str, Any]:
    """The JSON object in a response. Raises `ProtocolError` for none, `LimitExceeded` for a vast one."""
    document = _json_in(reply)
    if not isinstance(document, dict):
        raise ProtocolError(f"GET {reply.url}: the response is not a JSON object")
    return document


def bare_list_in(reply: Reply) -> list[Any]:
    """The list that a response is; servers in Go send null for an empty one. Raises as `document_of`."""
    listed = _json_in(reply)
    if listed is None and reply.body.strip() == b"null":
        return []
    if not isinstance(listed, list):
        raise ProtocolError(f"GET {reply.url}: the response is not a JSON list")
    return listed


def _json_in(reply: Reply) -> Any:
    """The document in a response; None for none. Raises `LimitExceeded` for a vast one."""
    body = reply.body
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _PAGE_VALUES:
        _exceeded(reply, f"the page has over {_PAGE_VALUES} values", _PAGE_VALUES)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def list_in(reply: Reply, member: str, *, required: bool = True) -> list[Any]:
    """The list in a response's object; servers in Go send null for an empty one.

    Raises `ProtocolError` for something else, and when `required` for none.
    """
    listed = document_of(reply).get(member, False if required else None)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ProtocolError(f"GET {reply.url}: the response has no list of {member}")
    return listed


def page_of_names(listed: list[Any], is_name: Callable[[str], bool]) -> Page:
    """The page of a list of strings, of which `is_name` accepts the right ones."""
    names = [each for each in listed if isinstance(each, str) and is_name(each)]
    odd = []
    if len(names) < len(listed):
        odd = [each for each in listed if not (isinstance(each, str) and is_name(each))]
    last = next((each for each in reversed(listed) if isinstance(each, str) and each), None)
    return Page(names, names, len(listed), last, odd)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quote(value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…")
    return "null" if value is None else type(value).__name__ if isinstance(value, dict | list) else str(value)


def _not_whole(reply: Reply, what: str) -> NoReturn:
    raise ProtocolError(
        f"GET {reply.url}: {what}",
        retryable=False,
        advice=_REPORT,
    )


def _exceeded(reply: Reply, what: str, limit: int) -> NoReturn:
    raise LimitExceeded(f"GET {reply.url}: {what}", limit=limit, advice=_REPORT)
