"""The metadata API of Azure's registries, ``/acr/v1``, and Docker's catalog.

Azure.ContainerRegistry 2021-07-01; scopes and page size are those of ``az acr``. Entries are the JSON objects
that the registry sends, unknown fields included.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from crossdock.errors import NotFound, ProtocolError, RegistryError
from crossdock.registry.auth import Scope
from crossdock.registry.tags import document_of, pages
from crossdock.transport.redact import redact_url

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Reply

Order = Literal["timeasc", "timedesc"]
Entry = dict[str, Any]

PAGE = 100
# What registries without the API answer: distribution 404, others refuse the path or the method (az expects
# 405 of Azure's old "Classic" ones). A repository that does not exist is 404 too: the caller finds that out.
_NO_API = frozenset({400, 404, 405, 501})


async def manifest_entries(
    client: RegistryClient, repository: str, order: Order | None, top: int | None
) -> list[Entry] | None:
    """The entries of a repository's manifests, the first `top` of them; None: there is no such API. # network

    Raises `RegistryError`, `TransportError`, `ProtocolError` when a later page breaks.
    """
    return await _entries(client, repository, "manifests", order, top)


async def tag_entries(
    client: RegistryClient, repository: str, order: Order | None, top: int | None
) -> list[Entry] | None:
    """As `manifest_entries`, of its tags. # network"""
    return await _entries(client, repository, "tags", order, top)


async def list_repositories(client: RegistryClient, top: int | None = None) -> list[str]:
    """The registry's repositories, the first `top` of them. # network

    Raises `NotFound` where there is no catalog, `ProtocolError` for an answer that is none.
    """
    path = f"/v2/_catalog?{urlencode({'n': _size(top)})}"
    try:
        return await _read(client, path, Scope.catalog(), "repositories", str, top)
    except NotFound as error:
        error.hint = "this registry has no catalog: its repositories have to be known by name"
        raise


async def _entries(
    client: RegistryClient, repository: str, index: str, order: Order | None, top: int | None
) -> list[Entry] | None:
    query = {"n": str(_size(top))} | ({"orderby": order} if order else {})
    path = f"/acr/v1/{quote(repository, safe='/')}/_{index}?{urlencode(query)}"
    scope = Scope((f"repository:{repository}:metadata_read",), repository)
    try:
        return await _read(client, path, scope, index, dict, top)
    except _NoList:
        return None
    except RegistryError as error:
        if error.status in _NO_API:
            return None
        raise


def _size(top: int | None) -> int:
    return PAGE if top is None else min(top, PAGE)


class _NoList(ProtocolError):
    """The first answer is something else, such as the page of a web interface that answers every path."""


async def _read(
    client: RegistryClient, path: str, scope: Scope, index: str, kind: type[Any], top: int | None
) -> list[Any]:
    """The lists called `index` of all pages together, each of `kind`s, until there are `top`."""
    found: list[Any] = []
    is_first = True
    async with aclosing(pages(client, path, scope)) as replies:
        async for reply in replies:
            try:
                page = _list_in(reply, index, kind)
            except ProtocolError as error:
                raise (_NoList(str(error)) if is_first else error) from None
            found += page
            is_first = False
            if top is not None and len(found) >= top:
                break
    return found[:top]


def _list_in(reply: Reply, index: str, kind: type[Any]) -> list[Any]:
    """The list; null is what a server in Go sends for an empty one."""
    page = document_of(reply).get(index, False)
    if page is None:
        return []
    if not isinstance(page, list) or not all(isinstance(each, kind) for each in page):
        raise ProtocolError(f"GET {redact_url(reply.url)}: the answer has no list of {index}")
    return page
