"""Tags of a repository."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crossdock.oci.reference import is_tag
from crossdock.protocol import endpoints
from crossdock.registry.pages import LeftOut, OnWarning, Page, Query, list_in, page_of_names, pages

if TYPE_CHECKING:
    from crossdock.registry.client import Reply
    from crossdock.registry.handle import Repository

PAGE = 1000  # entries; distribution answers 400 to a larger `n` of the catalog, and clamps that of tags (L1)
_DIGEST_SHAPED = re.compile(r"[a-z0-9]+:[0-9a-fA-F]{32,}")


async def list_tags(repository: Repository, on_warning: OnWarning | None = None) -> list[str]:
    """All tags, in the registry's order. # network

    Nexus lists nulls and Artifactory digests among them (skopeo#2409, #2346): both are left out (L1), as is
    everything that cannot be a tag; `on_warning` is called for all but the digests. Raises `NotFound` when
    there is no such repository, and as `pages.pages` does.
    """
    tags: dict[str, None] = {}  # a page may begin with the last tag of the one before it
    left_out = LeftOut()
    async for page in pages(repository, tags_query(repository), tags_of_page):
        tags |= dict.fromkeys(page.entries)
        left_out.add(page.odd)
    left_out.tell(on_warning, f"list of tags of {repository.path}")
    return list(tags)


def tags_query(repository: Repository, last: str | None = None) -> Query:
    """The request for all tags, or for those behind `last`."""
    return Query(endpoints.tags(repository.path), PAGE, last)


def tags_of_page(reply: Reply) -> Page:
    """The tags of one response. Raises `ProtocolError` when it has no list of them."""
    page = page_of_names(list_in(reply, "tags", required=False), is_tag)
    if page.odd:
        page.odd = [
            each for each in page.odd if not (isinstance(each, str) and _DIGEST_SHAPED.fullmatch(each))
        ]
    return page
