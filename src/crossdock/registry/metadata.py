"""Azure's metadata API, ``/acr/v1``: the manifests and tags of a repository, listed, read and changed.

Azure.ContainerRegistry 2021-07-01 (L2, az-contract 5.2); scopes and page size are those of ``az acr``.
Entries are the JSON objects that the registry sends, unknown fields included.

A registry without the API answers 404 to its paths, as one with it does for an item that is not there. So
"no such item" and "no such API" are one answer here, None, and the distribution API tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from crossdock.errors import InvalidDigest, ProtocolError, RegistryError
from crossdock.oci import mediatype
from crossdock.oci.digest import Digest
from crossdock.oci.reference import is_tag
from crossdock.protocol.metadata import Entry, Order
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.catalog import NO_API, NoList, read_list
from crossdock.registry.handle import Repository
from crossdock.registry.http.refusal import LOCKED
from crossdock.registry.pages import OnWarning, Page, Query, document_of, list_in

if TYPE_CHECKING:
    from crossdock.registry.client import Reply

PAGE = 100  # entries
MOST_ENTRIES = 200_000  # of one list; each takes some KiB here
_DELETED = (200, 202, 204)


class Metadata:
    """The API, of one repository. An item is a tag, a digest or, empty, the repository itself."""

    def __init__(self, repository: Repository) -> None:
        self._client = repository.client
        self._repository = repository.path
        self._root = f"/acr/v1/{quote(repository.path, safe='/')}"

    async def manifests(
        self, order: Order | None = None, top: int | None = None, on_warning: OnWarning | None = None
    ) -> list[Entry] | None:
        """The entries of the manifests, the first `top` of them. # network

        Those without a digest are left out, with a call of `on_warning`. Raises as `pages.pages` does.
        """
        return await self._list("manifests", _digest_of, order, top, on_warning)

    async def tags(
        self, order: Order | None = None, top: int | None = None, on_warning: OnWarning | None = None
    ) -> list[Entry] | None:
        """As `manifests`, of the tags; those whose name can be no tag are left out. # network"""
        return await self._list("tags", _tag_of, order, top, on_warning)

    async def item(self, name: str = "") -> Entry | None:
        """The entry of an item. # network"""
        try:
            reply = await self._client.request("GET", self._path(name), scope=self._scope("metadata_read"))
            return _entry_in(reply, name)
        except ProtocolError:
            return None  # such as the page of a web interface that answers every path
        except RegistryError as error:
            if error.status in NO_API:
                return None
            raise

    async def change(self, name: str, attributes: Mapping[str, bool]) -> Entry | None:
        """Change attributes of an item, such as ``writeEnabled``; its entry after that. # network"""
        try:
            reply = await self._client.request(
                "PATCH",
                self._path(name),
                scope=self._scope("metadata_read,metadata_write"),
                headers=(("Content-Type", "application/json"),),
                body=msgspec.json.encode(attributes),
                ok=(200, 202),
            )
            return _entry_in(reply, name)
        except ProtocolError:
            return None
        except RegistryError as error:
            if error.status in NO_API and LOCKED not in error.codes:
                return None
            raise

    async def delete_tag(self, tag: str) -> bool:
        """Remove the tag but not its manifest. False: there is no such tag or no such API. # network"""
        return await self._delete(self._path(tag)) is not None

    async def delete_repository(self) -> Entry | None:
        """Remove the whole repository; returns the registry's document about that. # network"""
        reply = await self._delete(self._root)
        if reply is None:
            return None
        return document_of(reply) if reply.body else {}

    async def _list(
        self,
        index: str,
        name_of: Callable[[object], str],
        order: Order | None,
        top: int | None,
        on_warning: OnWarning | None,
    ) -> list[Entry] | None:
        def read(reply: Reply) -> Page:
            listed = list_in(reply, index)
            named = [(name, each) for each in listed if (name := name_of(each))]
            odd = [each for each in listed if not name_of(each)] if len(named) < len(listed) else []
            names = [name for name, _ in named]
            return Page([each for _, each in named], names, len(listed), names[-1] if names else None, odd)

        more = (("orderby", order),) if order else ()
        query = Query(f"{self._root}/_{index}", PAGE if top is None else min(top, PAGE), more=more)
        handle = Repository(self._client, self._repository, Scope.metadata(self._repository))
        what = f"list of {index} of {self._repository}"
        try:
            return await read_list(handle, query, read, top, what, on_warning, most=MOST_ENTRIES)
        except NoList:
            return None
        except RegistryError as error:
            if error.status in NO_API:
                return None
            raise

    async def _delete(self, path: str) -> Reply | None:
        try:
            reply = await self._client.request(
                "DELETE", path, scope=Scope.delete(self._repository), ok=_DELETED
            )
        except RegistryError as error:
            if error.status in NO_API and LOCKED not in error.codes:
                return None
            raise
        is_page = mediatype.bare(reply.headers.get("Content-Type")) == "text/html"
        return None if is_page else reply  # a web interface answers every path, and deletes nothing

    def _path(self, name: str) -> str:
        if ":" in name:
            return f"{self._root}/_manifests/{quote(name, safe=':')}"
        return f"{self._root}/_tags/{quote(name, safe='')}" if name else self._root

    def _scope(self, actions: str) -> Scope:
        return Scope((f"repository:{self._repository}:{actions}",), self._repository)


def _entry_in(reply: Reply, name: str) -> Entry:
    """The entry in a response. Raises `ProtocolError` when it has none."""
    document = document_of(reply)
    entry = document.get("manifest" if ":" in name else "tag") if name else document
    if not isinstance(entry, dict) or not ("digest" in entry or "imageName" in entry):
        raise ProtocolError(f"{reply.url}: the response does not describe {name or 'the repository'}")
    return entry


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
