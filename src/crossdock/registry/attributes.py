"""Single items of Azure's metadata API, ``/acr/v1``: a repository, a manifest or a tag, read and changed.

A registry without the API answers 404 to its paths, as one with it does for an item that is not there. So
"no such item" and "no such API" are one answer here, and the distribution API tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from crossdock.errors import (
    Advice,
    ProtocolError,
    RegistryError,
    Unsupported,
)
from crossdock.oci import mediatype
from crossdock.oci.reference import Reference
from crossdock.protocol import endpoints
from crossdock.registry.auth.authorization import Scope
from crossdock.registry.catalog import NO_API
from crossdock.registry.http.refusal import LOCKED
from crossdock.registry.pages import document_of

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient, Reply

Entry = dict[str, Any]

_DELETED = (200, 202, 204)


async def item_entry(client: RegistryClient, item: Reference) -> Entry | None:
    """What the API says of `item`: of its tag, its digest or, without either, the repository. # network

    None: there is no such item, or no such API.
    """
    try:
        reply = await client.request("GET", _path(item), scope=_scope(item, "metadata_read"))
        return _entry_in(reply, item)
    except ProtocolError:
        return None  # such as the page of a web interface that answers every path
    except RegistryError as error:
        if error.status in NO_API:
            return None
        raise


async def change_item(
    client: RegistryClient, item: Reference, attributes: Mapping[str, bool]
) -> Entry | None:
    """Change attributes such as ``writeEnabled``; the item's entry after that. # network

    None: as of `item_entry`.
    """
    try:
        reply = await client.request(
            "PATCH",
            _path(item),
            scope=_scope(item, "metadata_read,metadata_write"),
            headers=(("Content-Type", "application/json"),),
            body=msgspec.json.encode(attributes),
            ok=(200, 202),
        )
        return _entry_in(reply, item)
    except ProtocolError:
        return None
    except RegistryError as error:
        if error.status in NO_API and LOCKED not in error.codes:
            return None
        raise


async def delete_tag(client: RegistryClient, item: Reference) -> bool:
    """Remove the tag, and not its manifest. False: there is no such tag, or no such API. # network"""
    return await _delete(client, _path(item), item) is not None


async def delete_repository(client: RegistryClient, item: Reference) -> Entry | None:
    """Remove the whole repository; what the registry says of that. None as of `delete_tag`. # network"""
    reply = await _delete(client, _path(Reference(item.registry, item.repository)), item)
    if reply is None:
        return None
    return document_of(reply) if reply.body else {}


async def delete_manifest(client: RegistryClient, item: Reference) -> None:
    """Remove the manifest with this digest, or this tag alone, over the distribution API. # network

    Raises `NotFound`, and `Unsupported` where the registry does not delete.
    """
    target = endpoints.manifest(item.repository, item.digest or item.tag or "")
    try:
        await client.request("DELETE", target, scope=Scope.delete(item.repository), ok=_DELETED)
    except Unsupported as error:
        if LOCKED in error.codes or error.advice is not None:
            raise
        why = "this registry does not delete by this API, or not as it is configured"
        raise error.replace(advice=Advice("see-log", why)) from error.__cause__


async def _delete(client: RegistryClient, target: str, item: Reference) -> Reply | None:
    try:
        reply = await client.request("DELETE", target, scope=Scope.delete(item.repository), ok=_DELETED)
    except RegistryError as error:
        if error.status in NO_API and LOCKED not in error.codes:
            return None
        raise
    is_page = mediatype.bare(reply.headers.get("Content-Type")) == "text/html"
    return None if is_page else reply  # a web interface answers every path, and deletes nothing


def _path(item: Reference) -> str:
    path = f"/acr/v1/{quote(item.repository, safe='/')}"
    if item.digest:
        return f"{path}/_manifests/{quote(item.digest, safe=':')}"
    return f"{path}/_tags/{quote(item.tag, safe='')}" if item.tag else path


def _scope(item: Reference, actions: str) -> Scope:
    return Scope((f"repository:{item.repository}:{actions}",), item.repository)


def _entry_in(reply: Reply, item: Reference) -> Entry:
    """The entry in an answer. Raises `ProtocolError` when it has none."""
    document = document_of(reply)
    entry = document.get("manifest" if item.digest else "tag") if item.digest or item.tag else document
    if not isinstance(entry, dict) or not ("digest" in entry or "imageName" in entry):
        raise ProtocolError(f"{reply.url}: the answer does not describe {item}")
    return entry
