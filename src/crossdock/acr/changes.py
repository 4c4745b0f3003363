"""The changes that ``az acr`` makes in a registry: locks, tags, manifests, repositories.

Through ``/acr/v1`` where the registry has it. Elsewhere tags and manifests are deleted by the distribution
API, if the registry permits deletes at all; there are no locks, and a repository is deleted manifest by
manifest. As in `metadata`, the options' source side applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from crossdock.acr.metadata import opened
from crossdock.errors import Advice, CrossdockError, NotFound, Unsupported
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.protocol.metadata import Entry

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient
    from crossdock.registry.walk import Seen


async def change_attributes(item: Reference, attributes: Mapping[str, bool], options: CopyOptions) -> Entry:
    """Set the locks of a tag, a manifest or a repository, and return its new entry. # network

    Raises `CopyError`, over `Unsupported` where there are no locks.
    """
    from crossdock.registry.attributes import change_item

    async with opened(item, options, "change the attributes of") as client:
        entry = await change_item(client, item, attributes)
        if entry is not None:
            return entry
        await _must_exist(client, item)
        raise Unsupported(
            "this registry has no locks: it does not have Azure's metadata API, /acr/v1",
            advice=Advice("use-azure-registry", "Azure's registries have it, and crossdock registry"),
        )


async def untag(item: Reference, options: CopyOptions) -> None:
    """Remove a tag but not its manifest. # network

    Raises `CopyError`; some registries delete only by digest.
    """
    from crossdock.registry import attributes

    async with opened(item, options, "untag") as client:
        if not await attributes.delete_tag(client, item):
            await _must_exist(client, item)
            await attributes.delete_manifest(client, item)


async def find_manifest(
    item: Reference, options: CopyOptions, *, with_tags: bool
) -> tuple[Digest, list[str]]:
    """The digest of an existing tag or digest, and `with_tags` the names of all its tags. # network

    Raises `CopyError`, over `NotFound`.
    """
    from crossdock.registry import catalog, walk

    async with opened(item, options, "resolve") as client:
        walking = walk.Walk(client, item.repository)
        digest = (await walking.root(str(item.digest or item.tag))).digest
        if not with_tags:
            return digest, []
        entries = await catalog.tag_entries(client, item.repository, None, None)
        if entries is not None:
            names = [str(each.get("name")) for each in entries if each.get("digest") == digest]
        else:
            names = [name for name, each in (await walking.tags()).items() if each.digest == digest]
        return digest, sorted(names)


async def delete_manifest(item: Reference, options: CopyOptions) -> None:
    """Remove a manifest by its digest, and with it all its tags. # network

    Raises `CopyError`, over `Unsupported` where the registry does not permit deletes.
    """
    from crossdock.registry import attributes

    async with opened(item, options, "delete") as client:
        await attributes.delete_manifest(client, item)


async def delete_repository(repository: Reference, options: CopyOptions) -> Entry:
    """Remove everything in a repository, and return what that was. # network

    Raises `CopyError`, over `NotFound` for an unknown repository. Without ``/acr/v1`` it deletes the tagged
    manifests and everything reachable from them, up to the first refusal.
    """
    from crossdock.registry import attributes, walk

    async with opened(repository, options, "delete repository") as client:
        said = await attributes.delete_repository(client, repository)
        if said is not None:
            return said
        walking = walk.Walk(client, repository.repository)
        tags = await walking.tags()
        if not tags:
            raise NotFound(f"{repository.locator} has no tags, or does not exist", status=404)
        seen = await walking.manifests(tags.values(), referrers=True)
        done: list[str] = []
        for digest in _parents_first(seen):
            try:
                await attributes.delete_manifest(client, replace(repository, digest=digest))
            except NotFound:
                pass  # some registries delete it with its index or subject
            except CrossdockError as error:
                counted = f"{len(done)} of {len(seen)} manifests were deleted"
                raise error.replace(advice=_delete_again(error.advice, counted)) from error.__cause__
            done.append(str(digest))
        return {"manifestsDeleted": sorted(done), "tagsDeleted": sorted(tags)}


async def _must_exist(client: RegistryClient, item: Reference) -> None:
    """Raise `NotFound` if the distribution API does not have the item either. # network"""
    from crossdock.registry import walk

    walking = walk.Walk(client, item.repository)
    if wanted := item.digest or item.tag:
        await walking.root(wanted)
    else:
        await walking.tags()


def _parents_first(seen: Mapping[Digest, Seen]) -> Iterable[Digest]:
    """Indexes before their manifests, referrers before subjects: registries keep manifests in use."""
    needs = {digest: set(_needed(one)) for digest, one in seen.items()}
    order: list[Digest] = []
    while needs:
        needed = set().union(*needs.values())
        free = [digest for digest in needs if digest not in needed]
        for digest in free or list(needs):  # without a free one there would be a cycle of digests
            order.append(digest)
            del needs[digest]
    return order


def _needed(one: Seen) -> Iterable[Digest]:
    if one.manifest is not None:
        yield from (each.digest for each in one.manifest.manifests)
        if one.manifest.subject is not None:
            yield one.manifest.subject.digest


def _delete_again(advice: Advice | None, counted: str) -> Advice:
    """`advice` on a manifest that could not be deleted, and how many were."""
    if advice is None:
        return Advice("delete-again", counted)
    return advice.replace(why=f"{counted}; {advice.why}" if advice.why else counted)
