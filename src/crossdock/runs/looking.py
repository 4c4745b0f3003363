"""Read-only operations: a manifest, a list of tags, a single registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossdock.content import Source
from crossdock.errors import NotFound
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.manifest import Manifest
from crossdock.oci.platform import Platform
from crossdock.oci.reference import Location, Reference
from crossdock.options import CopyOptions
from crossdock.reading import read_manifest
from crossdock.runs.places import Places
from crossdock.steps import during
from crossdock.tally import log_retry
from crossdock.transfer.naming import fetch_named

if TYPE_CHECKING:
    from crossdock.registry.repository import RegistryRepository


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The content of a reference: its descriptor's fields, the document's bytes and the parsed document."""

    reference: str
    digest: str
    media_type: str
    size: int
    raw: bytes
    manifest: Manifest


async def inspect(location: Location, places: Places, on_warning: Callable[[str], None]) -> Inspection:
    """As `Session.inspect`. # network"""
    repository = await places.open(location, "source", log_retry)
    with during("inspect", "source", str(location)):

        async def resolve() -> Descriptor:
            # Empty for a layout without tag and digest: its only manifest.
            found: Descriptor = await repository.resolve(location.tag or str(location.digest or ""))
            return found

        named, data = await fetch_named(repository.fetch_manifest, await resolve(), resolve)
        manifest = await read_manifest(data, named.media_type)
    for warning in places.take_warnings():
        on_warning(warning)
    return Inspection(
        reference=str(location),
        digest=named.digest,
        media_type=manifest.media_type,
        size=len(data),
        raw=data,
        manifest=manifest,
    )


async def list_tags(location: Location, places: Places, on_warning: Callable[[str], None]) -> list[str]:
    """As `Session.list_tags`. # network"""
    opened = await places.open(location, "source", log_retry)
    with during("list tags of", "source", opened.name):
        names: list[str] = await opened.tags(on_warning)
    for warning in places.take_warnings():
        on_warning(warning)
    return names


async def fetch_chosen(
    source: Source, digest: Digest, platforms: tuple[Platform, ...]
) -> tuple[Descriptor, bytes]:
    """The manifest that a copy of `digest` for these platforms is at a target, and its bytes. # network

    Raises as `Source.fetch_manifest`, and `CopyError` over `NotFound` when a platform is not there.
    """
    named = Descriptor("", digest, 0)
    data = await source.fetch_manifest(named)
    if not platforms:
        return named, data
    from crossdock.transfer.platforms import select

    return await select(named, data, platforms, source)


@asynccontextmanager
async def opened(item: Reference, options: CopyOptions, operation: str) -> AsyncIterator[RegistryRepository]:
    """The repository of `item`, outside of any session, with the options' source side. # network

    An error inside becomes a `CopyError` with `operation` and `item`, and without a side, since there is only
    one registry. If the item was not found, the advice says which part of it is missing.
    """
    async with Places(options) as places:
        repository = await places.open(item, "source")
        with during(operation, "source", str(item), names_side=False):
            try:
                yield repository
            except NotFound as error:
                if error.advice is not None:
                    raise
                advice = await repository.explain_missing(str(item.digest or item.tag or ""))
                raise error.replace(advice=advice) from error.__cause__
