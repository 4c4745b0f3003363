"""The metadata API of Azure's registries, ``/acr/v1``, and Docker's catalog.

Azure.ContainerRegistry 2021-07-01 (L2, az-contract 5.2); scopes and page size are those of ``az acr``,
but for the page of the catalog, which is as large as servers take.
Entries are the JSON objects that the registry sends, unknown fields included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from crossdock.errors import (
    Advice,
    InvalidDigest,
    NotFound,
    ProtocolError,
    RegistryError,
)
from crossdock.oci.digest import Digest
from crossdock.oci.reference import is_repository, is_tag
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

Order = Literal["timeasc", "timedesc"]
Entry = dict[str, Any]

PAGE = 100
NAMES = 1000  # of a page of the catalog: distribution answers 400 to more (L1)
MOST_ENTRIES = 200_000  # of one list; each takes some KiB here
# The statuses of registries without the API: distribution 404, others refuse the path or the method (az
# expects 405 of Azure's old "Classic" ones). A repository that does not exist is 404 too: the caller finds
# that out.
NO_API = frozenset({400, 404, 405, 501})
_NO_CATALOG = NO_API | {401, 403}


async def manifest_entries(
    client: RegistryClient,
    repository: str,
    order: Order | None,
    top: int | None,
    on_warning: OnWarning | None = None,
) -> list[Entry] | None:
    """The entries of a repository's manifests, the first `top` of them; None: there is no such API. # network

    Those without a digest are left out, with a call of `on_warning`. Raises as `pages.pages` does.
    """
    return await _entries(client, repository, "manifests", order, top, on_warning)


async def tag_entries(
    client: RegistryClient,
    repository: str,
    order: Order | None,
    top: int | None,
    on_warning: OnWarning | None = None,
) -> list[Entry] | None:
    """As `manifest_entries`, of its tags; those whose name can be no tag are left out. # network"""
    return await _entries(client, repository, "tags", order, top, on_warning)


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
        return await _read(handle, query, read, top, "list of repositories", on_warning)
    except RegistryError as error:
        if error.status not in _NO_CATALOG:
            raise
        if (found := await list_below(client, prefix, on_warning)) is not None:
            return found[:top]
        if not isinstance(error, NotFound):
            raise
        why = "this registry has no catalog: its repositories have to be known by name"
        raise error.replace(advice=Advice("name-repositories", why)) from error.__cause__


async def _entries(
    client: RegistryClient,
    repository: str,
    index: str,
    order: Order | None,
    top: int | None,
    on_warning: OnWarning | None,
) -> list[Entry] | None:
    name_of = _digest_of if index == "manifests" else _tag_of

    def read(reply: Reply) -> Page:
        listed = list_in(reply, index)
        named = [(name, each) for each in listed if (name := name_of(each))]
        odd = [each for each in listed if not name_of(each)] if len(named) < len(listed) else []
        names = [name for name, _ in named]
        return Page([each for _, each in named], names, len(listed), names[-1] if names else None, odd)

    query = Query(
        f"/acr/v1/{quote(repository, safe='/')}/_{index}",
        _size(top),
        more=(("orderby", order),) if order else (),
    )
    handle = Repository(client, repository, Scope.metadata(repository))
    what = f"list of {index} of {repository}"
    try:
        return await _read(handle, query, read, top, what, on_warning, most=MOST_ENTRIES)
    except _NoList:
        return None
    except RegistryError as error:
        if error.status in NO_API:
            return None
        raise


def _digest_of(entry: object) -> str:
    """The digest of a manifest's entry; empty when it has none."""
    digest = entry.get("digest") if isinstance(entry, dict) else None
    try:
        return Digest(digest) if isinstance(digest, str) else ""
    except InvalidDigest:
        return ""


def _tag_of(entry: object) -> str:
    """The name of a tag's entry; empty when it has none."""
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and is_tag(name) else ""


def _size(top: int | None) -> int:
    return PAGE if top is None else min(top, PAGE)


class _NoList(ProtocolError):
    """The first response is something else, such as the page of a web interface that serves every path."""


async def _read(
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
            raise (_NoList(str(error)) if is_first else error) from None

    async with aclosing(pages(repository, query, read_page, most=most or MOST_NAMES)) as listed:
        async for page in listed:
            found += page.entries
            left_out.add(page.odd)
            is_first = False
            if top is not None and len(found) >= top:
                break
    left_out.tell(on_warning, what)
    return found[:top]
