"""A registry's repositories where ``/v2/_catalog`` does not show them: by the API that the registry has.

As with manifests, the question is optional: what it answers besides a list counts as no list. Harbor shows
the catalog to administrators alone, Google lists what is below a name, ECR has no catalog.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crossdock.errors import CrossdockError, LimitExceeded, NotFound
from crossdock.oci.reference import is_repository
from crossdock.protocol import endpoints
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.handle import Repository
from crossdock.registry.listings import bulk as bulk_lists
from crossdock.registry.listings import ecr, google, harbor, quay
from crossdock.registry.listings.api import Asked
from crossdock.registry.listings.rows import number_of
from crossdock.registry.pages import (
    MOST_NAMES,
    LeftOut,
    OnWarning,
    Page,
    Query,
    bare_list_in,
    document_of,
    list_in,
    page_of_names,
    pages,
)
from crossdock.tasks import run_each

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Reply

_log = logging.getLogger(__name__)

_DEEPEST = 16  # parts of a name
IN_FLIGHT = 16  # requests at once


async def list_below(client: RegistryClient, prefix: str, on_warning: OnWarning | None) -> list[str] | None:
    """The repositories at and below `prefix`, or all; None: no API lists them. # network"""
    handle = Repository.to_read(client, prefix)
    bulk = bulk_lists.bulk_of(handle)
    for name in bulk.left:
        lister = _LISTERS.get(name)
        if lister is None:
            continue
        try:
            found = await lister(Asked(handle, retries=bulk.is_sure), on_warning)
        except CrossdockError as error:
            _log.debug("%s list of repositories: %s", bulk_lists.load(name).name, error)
        else:
            bulk.answered(name)
            return found
    return None


def has_no_catalog(client: RegistryClient) -> bool:
    """The registry is known to list its repositories by an API alone."""
    return bulk_lists.bulk_of(Repository.to_read(client, "")).left == ("ecr",)


async def _harbors(asked: Asked, on_warning: OnWarning | None) -> list[str]:
    project = asked.path.partition("/")[0]
    path = f"{harbor.ROOT}/projects/{quote(project, safe='')}" if project else harbor.ROOT
    await harbor.log_in(asked)
    totals: list[int | None] = []

    def read(reply: Reply) -> Page:
        totals.append(number_of(reply.headers.get("X-Total-Count")))
        listed = bare_list_in(reply)
        page = page_of_names(_members(listed, "name"), is_repository)
        page.following = harbor.next_page(reply, len(listed))
        return page

    found = await _collected(pages(asked, Query(f"{path}/repositories", more=harbor.FIRST), read), on_warning)
    harbor.check_total("repositories", totals, len(found))
    return found


async def _quays(asked: Asked, on_warning: OnWarning | None) -> list[str]:
    namespace = asked.path.partition("/")[0]
    if not namespace:
        raise NotFound("Quay lists the repositories of a namespace")
    await quay.log_in(asked)
    more = (("namespace", namespace), ("public", "true"))

    def read(reply: Reply) -> Page:
        page = page_of_names(
            [
                f"{namespace}/{name}" if name else name
                for name in _members(list_in(reply, "repositories"), "name")
            ],
            is_repository,
        )
        if isinstance(token := document_of(reply).get("next_page"), str) and token:
            page.following = Query("/api/v1/repository", more=(*more, ("next_page", token))).target
        return page

    return await _collected(pages(asked, Query("/api/v1/repository", more=more), read), on_warning)


async def _ecrs(asked: Asked, on_warning: OnWarning | None) -> list[str]:
    return await _collected(ecr.walk_repositories(asked), on_warning)


async def _googles(asked: Asked, on_warning: OnWarning | None) -> list[str]:
    """Name by name below the prefix. What the lists say of manifests is kept: it need not be asked again."""
    if not asked.path:
        raise NotFound("Google lists what is below a name")
    bulk, found, level = bulk_lists.bulk_of(asked), list[str](), [asked.path]
    left_out = LeftOut()

    async def look(path: str) -> list[str]:
        below = Asked(asked, retries=asked.retries)
        below.path, below.scope = path, Scope.pull(path)
        children: list[str] = []

        def read(reply: Reply) -> Page:
            children.extend(f"{path}/{each}" for each in list_in(reply, "child", required=False))
            return google.read(reply)

        listed_at = time.monotonic()
        rows: list[Any] = []
        async with aclosing(pages(below, Query(endpoints.tags(path)), read)) as walk:
            async for page in walk:
                rows += page.entries
        if rows or not children:
            found.append(path)
            bulk.keep(path, rows, listed_at)
        left_out.add(each for each in children if not is_repository(each))
        return [each for each in children if is_repository(each)]

    for _ in range(_DEEPEST):
        level = [each for below in await run_each(level, look, IN_FLIGHT) for each in below]
        if len(found) + len(level) > MOST_NAMES:
            raise LimitExceeded(f"{asked.path} has over {MOST_NAMES} repositories", limit=MOST_NAMES)
        if not level:
            left_out.tell(on_warning, "list of repositories")
            return sorted(found)
    raise LimitExceeded(f"the names below {asked.path} have over {_DEEPEST} parts", limit=_DEEPEST)


async def _collected(walk: AsyncGenerator[Page, None], on_warning: OnWarning | None) -> list[str]:
    found: dict[str, None] = {}
    left_out = LeftOut()
    async with aclosing(walk):
        async for page in walk:
            found |= dict.fromkeys(page.entries)
            left_out.add(page.odd)
    left_out.tell(on_warning, "list of repositories")
    return list(found)


def _members(listed: list[Any], name: str) -> list[Any]:
    return [each.get(name) if isinstance(each, dict) else each for each in listed]


_LISTERS: dict[str, Callable[[Asked, OnWarning | None], Awaitable[list[str]]]] = {
    "harbor": _harbors,
    "quay": _quays,
    "ecr": _ecrs,
    "google": _googles,
}
