"""Harbor's list of artifacts, ``/api/v2.0/projects/PROJECT/repositories/REPOSITORY/artifacts`` (L3).

The repository's name is its part below the project, encoded twice. Manifests that are only part of an index
are not listed. What refers to an artifact is shown beside it, without its tags, as an accessory; what refers
to an accessory is not shown at all. It takes the login by Basic authentication.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

from crossdock.content import ManifestRow
from crossdock.errors import ProtocolError
from crossdock.protocol.challenge import basic
from crossdock.protocol.errorcode import parse_error
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import (
    digest_of,
    moment_of,
    number_of,
    page_of_rows,
    tag_names_of,
    text_of,
)
from crossdock.registry.pages import Page, Query, bare_list_in, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply

PAGE = 100  # the most that Harbor gives
ROOT = "/api/v2.0"
FIRST = (("page_size", str(PAGE)), ("page", "1"))


async def walk(asked: Asked) -> AsyncGenerator[Page, None]:
    """As `Api.walk`. Pages are numbered, so a list that changes meanwhile is an error. # network"""
    project, _, name = asked.path.partition("/")
    twice = quote(quote(name, safe=""), safe="")
    path = f"{ROOT}/projects/{quote(project, safe='')}/repositories/{twice}/artifacts"
    await log_in(asked)
    totals: list[int | None] = []

    def read_page(reply: Reply) -> Page:
        totals.append(number_of(reply.headers.get("X-Total-Count")))
        return read(reply)

    count = 0
    query = Query(path, more=(("with_tag", "true"), ("with_accessory", "true"), *FIRST))
    async for page in pages(asked, query, read_page):
        count += page.count
        if len(page.entries) > page.count:
            asked.sees_all = False
        yield page
    check_total(asked.path, totals, count)


async def log_in(asked: Asked) -> None:
    """Let its requests carry the login, if this host is shown it anyway. # network"""
    login = await asked.client.auth.login_seen_here(asked.path)
    asked.authorization = (
        basic(login.username, login.password) if login is not None and login.username else ""
    )


def check_total(what: str, totals: list[int | None], count: int) -> None:
    """Raise `ProtocolError` unless all pages state the same total, and as many entries came."""
    if any(total not in (None, count) for total in totals):
        raise ProtocolError(f"the list of {what} changed while it was read")


def read(reply: Reply) -> Page:
    """The rows of one response. Raises `ProtocolError` when it is no list."""
    listed = bare_list_in(reply)
    page = page_of_rows(listed, _row, following=next_page(reply, len(listed)))
    for entry in listed:
        accessories = entry.get("accessories") if isinstance(entry, dict) else None
        found = page_of_rows(accessories if isinstance(accessories, list) else [], _accessory)
        page.entries += found.entries
        page.odd += found.odd
    return page


def next_page(reply: Reply, count: int) -> str | None:
    """The request for the page behind a full one; the header ``Link`` counts for more."""
    if count < PAGE:
        return None
    path, _, query = reply.url.target.partition("?")
    fields = {name: values[-1] for name, values in parse_qs(query).items()}
    number = number_of(fields.get("page")) or 1
    total = number_of(reply.headers.get("X-Total-Count"))
    if total is not None and total <= number * PAGE:
        return None
    return f"{path}?{urlencode({**fields, 'page': number + 1})}"


def _row(entry: Any) -> ManifestRow | None:
    if not isinstance(entry, dict):
        return None
    digest = digest_of(entry.get("digest"))
    if digest is None:
        return None
    return ManifestRow(
        digest,
        tag_names_of(entry.get("tags")),
        text_of(entry.get("manifest_media_type")),
        number_of(entry.get("size")),
        moment_of(entry.get("push_time")),
        moment_of(entry.get("pull_time")),
    )


def _accessory(entry: Any) -> ManifestRow | None:
    digest = digest_of(entry.get("digest")) if isinstance(entry, dict) else None
    return None if digest is None else ManifestRow(digest, pushed=moment_of(entry.get("creation_time")))


def _knows(body: bytes) -> bool:
    return "NOT_FOUND" in parse_error(body).codes


API = Api(name="Harbor's", walk=walk, has=lambda path: "/" in path, knows=_knows, shows_attached=False)
