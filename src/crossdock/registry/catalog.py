"""The registry's catalog: its repositories."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from crossdock.errors import (
    Advice,
    NotFound,
    ProtocolError,
    RegistryError,
    RetriesExhausted,
    root_cause,
)
from crossdock.oci.reference import is_repository
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.handle import Repository
from crossdock.registry.pages import (
    MOST_NAMES,
    LeftOut,
    OnWarning,
    Page,
    Query,
    list_in,
    page_of_names,
    pages,
)

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Reply

NAMES = 1000  # of a page of the catalog: distribution answers 400 to more (L1)
# The statuses of registries without the API: distribution 404, others refuse the path or the method (az
# expects 405 of Azure's old "Classic" ones). A repository that does not exist is 404 too: the caller finds
# that out.
NO_API = frozenset({400, 404, 405, 501})
_NO_CATALOG = NO_API | {401, 403}


async def list_repositories(
    client: RegistryClient, top: int | None = None, on_warning: OnWarning | None = None, *, prefix: str = ""
) -> list[str]:
    """The registry's repositories, the first `top` of them. # network

    Only those below `prefix` are needed: a registry that does not show its catalog may list these by an API
    of its own. Names that cannot be one are left out, with a call of `on_warning`. Raises `NotFound` where
    there is no catalog, and as `pages.pages` does.
    """
    from crossdock.registry.listings.repositories import has_no_catalog, list_below

    if has_no_catalog(client) and (found := await list_below(client, prefix, on_warning)) is not None:
        return found[:top]

    def read(reply: Reply) -> Page:
        return page_of_names(list_in(reply, "repositories"), is_repository)

    handle, query = Repository(client, "", Scope.catalog()), Query("/v2/_catalog", min(top or NAMES, NAMES))
    try:
        return await read_list(handle, query, read, top, "list of repositories", on_warning)
    except (RegistryError, RetriesExhausted) as error:
        cause = root_cause(error)
        if not isinstance(cause, RegistryError) or cause.status not in _NO_CATALOG:
            raise
        if (found := await list_below(client, prefix, on_warning)) is not None:
            return found[:top]
        if not isinstance(error, NotFound):
            raise
        why = "this registry has no catalog: its repositories have to be known by name"
        raise error.replace(advice=Advice("name-repositories", why)) from error.__cause__


class NoList(ProtocolError):
    """The first response is something else, such as the page of a web interface that serves every path."""


async def read_list(
    repository: Repository,
    query: Query,
    read: Callable[[Reply], Page],
    top: int | None,
    what: str,
    on_warning: OnWarning | None,
    most: int | None = None,
) -> list[Any]:
    """The entries of all pages together, until there are `top`. Warnings call the list `what`."""
    found: list[Any] = []
    left_out = LeftOut()
    is_first = True

    def read_page(reply: Reply) -> Page:
        try:
            return read(reply)
        except ProtocolError as error:
            raise (NoList(str(error)) if is_first else error) from None

    async with aclosing(pages(repository, query, read_page, most=most or MOST_NAMES)) as listed:
        async for page in listed:
            found += page.entries
            left_out.add(page.odd)
            is_first = False
            if top is not None and len(found) >= top:
                break
    left_out.tell(on_warning, what)
    return found[:top]
