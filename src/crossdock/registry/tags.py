"""Tags of a repository, and the paging that tags and referrers share."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from crossdock.errors import LimitExceeded, ProtocolError
from crossdock.protocol import endpoints
from crossdock.protocol.pagination import next_page
from crossdock.protocol.redirect import next_hop
from crossdock.transport.redact import redact_url

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Reply, Scope

PAGE = 1000  # entries; distribution answers 400 to a larger `n` of the catalog, and clamps that of tags (L1)
MAX_PAGES = 10_000  # ten million tags; a server that goes on for longer does not mean it
_TOTAL_LIMIT = 256 << 20  # bytes of all pages
_PAGE_LIMIT = 16 << 20  # bytes; servers without paging send everything at once
_DIGEST_SHAPED = re.compile(r"[a-z0-9]+:[0-9a-fA-F]{32,}")


async def list_tags(client: RegistryClient, repository: str, scope: Scope) -> list[str]:
    """All tags, in the registry's order. # network

    Nexus lists nulls and Artifactory digests among them (skopeo#2409, #2346): both are left out (L1). Raises
    `NotFound` when there is no such repository, `ProtocolError` for an answer that is no list of tags.
    """
    tags: dict[str, None] = {}  # a page may begin with the last tag of the one before it
    async for reply in pages(client, endpoints.tags(repository, PAGE), scope):
        tags |= dict.fromkeys(tags_of_page(reply))
    return list(tags)


def tags_of_page(reply: Reply) -> list[str]:
    """The tags of one answer. Raises `ProtocolError` when it is no list of tags."""
    listed = document_of(reply).get("tags")
    if listed is not None and not isinstance(listed, list):
        raise ProtocolError(f"GET {redact_url(reply.url)}: the answer has no list of tags")
    return [tag for tag in listed or () if isinstance(tag, str) and not _DIGEST_SHAPED.fullmatch(tag)]


async def pages(
    client: RegistryClient, target: str, scope: Scope, *, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Reply, None]:
    """Every page from `target` on, by ``Link``; the header decides, not a short page. # network

    Raises `ProtocolError` when a page names one that was there before, `LimitExceeded` after `MAX_PAGES`.
    """
    registry_url = await client.base_url()
    seen: set[str] = set()
    received = 0
    for _ in range(MAX_PAGES):
        reply = await client.request("GET", target, scope=scope, headers=headers or {}, limit=_PAGE_LIMIT)
        received += len(reply.body)
        if received > _TOTAL_LIMIT:
            raise LimitExceeded(f"GET {redact_url(reply.url)}: the list is over {_TOTAL_LIMIT} bytes")
        yield reply
        following = next_page(reply.headers.getall("Link"), reply.url)
        if following is None:
            return
        target = next_hop(reply.url, following, registry_url=registry_url).url
        if target in seen:
            raise ProtocolError(
                f"GET {redact_url(reply.url)}: the list goes in circles at {redact_url(target)}"
            )
        seen.add(target)
    raise LimitExceeded(f"GET {redact_url(target)}: over {MAX_PAGES} pages", limit=MAX_PAGES)


def document_of(reply: Reply) -> dict[str, Any]:
    """The JSON object in an answer. Raises `ProtocolError` when it is none."""
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ProtocolError(f"GET {redact_url(reply.url)}: the answer is no JSON object")
    return document
