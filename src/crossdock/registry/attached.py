"""The referrers of a manifest at a source, and the tags that cosign derives from its digest.

Such a tag is ``sha256-<hex>`` with ``.sig``, ``.att``, ``.sbom`` or another word after it. They are found in
the repository's list of tags, which is requested once a run, from ``sha256-`` on: digests' tags come first
then, and the list is left at the first tag behind them. Servers differ: zot answers 404 to a ``last`` that is
no tag, so the list is requested from its beginning there; distribution 2 sends all tags at once, in no order.
Where the list cannot be had within `MAX_PAGES`, cosign's three names are tried.
"""

from __future__ import annotations

import math
import time
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING

from crossdock.activity import CURRENT
from crossdock.errors import (
    CrossdockError,
    LimitExceeded,
    NotFound,
    ProtocolError,
    ReferrersIncomplete,
    RegistryError,
    was_refused,
)
from crossdock.oci import mediatype
from crossdock.oci.attachedtag import STEM, fallback_tag
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.protocol import endpoints
from crossdock.registry.pages import pages
from crossdock.registry.referrers import list_referrers
from crossdock.registry.tags import tags_of_page, tags_query

if TYPE_CHECKING:
    from crossdock.registry.handle import Repository

MAX_PAGES = 10
COSIGN = ("sig", "att", "sbom")
_FIRST, _BEHIND = STEM, "sha256."  # "." follows "-" in ASCII: all tags of digests are between them


async def find_attached(repository: Repository, digest: Digest) -> tuple[list[Descriptor], list[str]]:
    """The referrers of `digest`, and the tags of other attachments. # network

    Raises as `referrers.list_referrers` does.
    """
    stem = fallback_tag(digest)
    listed = await _digest_tags(repository)
    if listed is None:
        named = [f"{stem}.{word}" for word in COSIGN]
        named = [tag for tag in named if await _exists(repository, tag)]
    else:
        named = sorted(tag for tag in listed if tag.startswith(f"{stem}."))
    may_have_tag = listed is None or stem in listed
    try:
        return await list_referrers(repository, digest, may_have_tag=may_have_tag), named
    except ReferrersIncomplete as error:
        error.tags = tuple(named)
        raise


async def _digest_tags(repository: Repository) -> frozenset[str] | None:
    """All tags that are made of digests, listed once in a run; None: they cannot be listed.

    A session may live for days: a list from before this run lacks what was signed since.
    """
    memory, activity = repository.memory, CURRENT.get()
    listed_at, found = memory.digest_tags.get(repository.path, (-math.inf, None))
    if listed_at < (activity.since if activity is not None else 0.0):
        now = time.monotonic()
        found = await memory.listing.run(repository.path, lambda: _list(repository))
        memory.note_digest_tags(repository.path, found, now)
    return found


async def _list(repository: Repository) -> frozenset[str] | None:
    for last in (_FIRST, None):
        try:
            return await _list_from(repository, last)
        except NotFound:
            continue
        except (RegistryError, ProtocolError, LimitExceeded) as error:
            if error.retryable:
                raise
            return None
    return frozenset()  # a repository without tags is unknown to distribution 2


async def _list_from(repository: Repository, last: str | None) -> frozenset[str] | None:
    found: set[str] = set()
    count = 0
    async with aclosing(pages(repository, tags_query(repository, last), tags_of_page)) as listed:
        async for page in listed:
            tags = page.entries
            found.update(tag for tag in tags if tag.startswith(_FIRST))
            in_order = all(one <= other for one, other in pairwise(tags))
            if last is not None and tags and in_order and tags[0] >= _FIRST and tags[-1] >= _BEHIND:
                break
            count += 1
            if count >= MAX_PAGES:
                return None
    return frozenset(found)


async def _exists(repository: Repository, tag: str) -> bool:
    headers = (("Accept", ", ".join(mediatype.MANIFEST_ACCEPT)),)
    path = endpoints.manifest(repository.path, tag)
    if repository.memory.answers_head:
        try:
            reply = await repository.request("HEAD", path, headers=headers, ok=(200, 404))
            return reply.status == 200
        except CrossdockError as error:
            if not was_refused(error):
                raise
    reply = await repository.request("GET", path, headers=headers, ok=(200, 404))
    return reply.status == 200
