"""Azure's list of manifests, ``/acr/v1/REPOSITORY/_manifests``, which the embedded registry has as well.

Azure.ContainerRegistry 2021-07-01 (L2). `lastUpdateTime` is when the manifest was last pushed, or a tag came
to mean it. There is no time of the last pull.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from crossdock.content import ManifestRow
from crossdock.protocol.errorcode import parse_error
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.listings.api import Api, Asked
from crossdock.registry.listings.rows import digest_of, moment_of, number_of, page_of_rows, tags_of, text_of
from crossdock.registry.pages import Page, Query, list_in, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply

PAGE = 1000
"""Entries of a page, which `pages` lowers where so many are refused; az requests 100."""


def walk(asked: Asked) -> AsyncGenerator[Page, None]:
    """As `Api.walk`. # network"""
    asked.scope = Scope.metadata(asked.path, is_optional=True)
    bulk = asked.memory.bulk
    path = f"/acr/v1/{quote(asked.path, safe='/')}/_manifests"

    def read_page(reply: Reply) -> Page:
        taken = number_of(parse_qs(reply.url.query).get("n", [""])[-1])
        if bulk is not None:
            bulk.page = min(taken or PAGE, PAGE)  # what is refused once is not requested for the next list
        return read(reply)

    return pages(asked, Query(path, (bulk.page if bulk is not None else None) or PAGE), read_page)


def read(reply: Reply) -> Page:
    """The rows of one response. Raises `ProtocolError` when it has no list of manifests."""
    return page_of_rows(list_in(reply, "manifests"), _row)


def _row(entry: Any) -> ManifestRow | None:
    if not isinstance(entry, dict):
        return None
    digest = digest_of(entry.get("digest"))
    if digest is None:
        return None
    pushed = moment_of(entry.get("lastUpdateTime"))
    return ManifestRow(
        digest,
        tags_of(entry.get("tags")),
        text_of(entry.get("mediaType")),
        number_of(entry.get("imageSize")) or None,  # 0 stands for "not known"
        moment_of(entry.get("createdTime")) if pushed is None else pushed,
    )


def _knows(body: bytes) -> bool:
    return "NAME_UNKNOWN" in parse_error(body).codes


API = Api(name="Azure's", walk=walk, knows=_knows)
