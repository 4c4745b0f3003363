"""The changes that ``az acr`` makes in a registry: locks, tags, manifests, repositories.

Through ``/acr/v1`` where the registry has it. Elsewhere tags and manifests are deleted by the distribution
API, if the registry permits deletes at all; there are no locks, and a repository is deleted manifest by
manifest. As in `metadata`, the options' source side applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crossdock.acr.walk import Seen, Walk
from crossdock.errors import Advice, CrossdockError, NotFound, Unsupported
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.protocol.metadata import Entry
from crossdock.runs.looking import opened


async def change_attributes(item: Reference, attributes: Mapping[str, bool], options: CopyOptions) -> Entry:
    """Set the locks of a tag, a manifest or a repository, and return its new entry. # network

    Raises `CopyError`, over `Unsupported` where there are no locks.
    """
    async with opened(item, options, "change the attributes of") as registry:
        entry = await registry.metadata.change(_name(item), attributes)
        if entry is not None:
            return entry
        await _must_exist(Walk(registry), item)
        raise Unsupported(
            "this registry has no locks: it does not have Azure's metadata API, /acr/v1",
            advice=Advice("use-azure-registry", "Azure's registries have it, and crossdock registry"),
        )


async def untag(item: Reference, options: CopyOptions) -> None:
    """Remove a tag but not its manifest. # network

    Raises `CopyError`; some registries delete only by digest.
    """
    async with opened(item, options, "untag") as registry:
        if not await registry.metadata.delete_tag(_name(item)):
            await _must_exist(Walk(registry), item)
            await registry.delete_manifest(_name(item))


async def find_manifest(
    item: Reference, options: CopyOptions, *, with_tags: bool
) -> tuple[Digest, list[str]]:
    """The digest of an existing tag or digest, and `with_tags` the names of all its tags. # network

    Raises `CopyError`, over `NotFound`.
    """
    async with opened(item, options, "resolve") as registry:
        walking = Walk(registry)
        digest = (await walking.root(_name(item))).digest
        if not with_tags:
            return digest, []
        entries = await registry.metadata.tags()
        if entries is not None:
            names = [str(each.get("name")) for each in entries if each.get("digest") == digest]
        else:
            names = [name for name, each in (await walking.tags()).items() if each.digest == digest]
        return digest, sorted(names)


async def delete_manifest(item: Reference, options: CopyOptions) -> None:
    """Remove a manifest by its digest, and with it all its tags. # network

    Raises `CopyError`, over `Unsupported` where the registry does not permit deletes.
    """
    async with opened(item, options, "delete") as registry:
        await registry.delete_manifest(_name(item))


async def delete_repository(repository: Reference, options: CopyOptions) -> Entry:
    """Remove everything in a repository, and return a description of the removed content. # network

    Raises `CopyError`, over `NotFound` for an unknown repository. Without ``/acr/v1`` it deletes the tagged
    manifests and everything reachable from them, up to the first refusal.
    """
    async with opened(repository, options, "delete repository") as registry:
        said = await registry.metadata.delete_repository()
        if said is not None:
            return said
        walking = Walk(registry)
        tags = await walking.tags()
        if not tags:
            raise NotFound(f"{repository.locator} has no tags, or does not exist", status=404)
        seen = await walking.manifests(tags.values(), referrers=True)
        done: list[str] = []
        for digest in _parents_first(seen):
            try:
                await registry.delete_manifest(digest)
            except NotFound:
                pass  # some registries delete it with its index or subject
            except CrossdockError as error:
                counted = f"{len(done)} of {len(seen)} manifests were deleted"
                raise error.replace(advice=_delete_again(error.advice, counted)) from error.__cause__
            done.append(str(digest))
        return {"manifestsDeleted": sorted(done), "tagsDeleted": sorted(tags)}


def _name(item: Reference) -> str:
    """The digest or tag; empty for a repository."""
    return item.digest or item.tag or ""


async def _must_exist(walking: Walk, item: Reference) -> None:
    """Raise `NotFound` if the distribution API does not have the item either. # network"""
    if name := _name(item):
        await walking.root(name)
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
