"""A registry's repositories, manifests and tags, as ``az acr`` lists them.

Through ``/acr/v1`` where the registry has it, whose entries are returned unchanged. Elsewhere through the
distribution API: the tagged manifests and everything reachable from them (`walk`), in entries with
the same fields. That API has no push times, so both times are the image's own creation time, or that of the
newest image of an index without one. Ordered by time, entries without a time come last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from crossdock.acr.walk import Seen, Walk
from crossdock.errors import NotFound
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.protocol.metadata import (
    Entry,
    ImageConfig,
    Order,
    changeable_attributes,
    created_time,
    image_size,
    manifest_entry,
    tag_entry,
    tags_by_digest,
    timestamp,
)
from crossdock.runs.looking import opened
from crossdock.runs.places import OnWarning, Places
from crossdock.steps import during


async def list_repositories(
    registry: str, options: CopyOptions, *, top: int | None = None, on_warning: OnWarning | None = None
) -> list[str]:
    """The repositories of ``host[:port]``, in the registry's order, the first `top` of them. # network

    In this module the options' source side applies, and invalid entries are left out and reported to
    `on_warning`. Raises `InvalidReference` for anything but a host, and `CopyError`.
    """
    place = Reference(registry, "catalog")
    async with Places(options) as places:
        places.prepare(place, "source")
        with during("list repositories of", "source", registry, names_side=False):
            return await places.repositories(place, top, on_warning)


async def list_manifests(
    repository: Reference,
    options: CopyOptions,
    *,
    order: Order | None = None,
    top: int | None = None,
    on_warning: OnWarning | None = None,
) -> list[Entry]:
    """An entry for each manifest, by digest or by time, the first `top` of them. # network

    Raises `CopyError`.
    """
    async with opened(repository, options, "list manifests of") as registry:
        entries = await registry.metadata.manifests(order, top, on_warning)
        if entries is not None:
            return entries
        walking = Walk(registry, on_warning)
        roots = await walking.tags()
        seen = await walking.manifests(roots.values(), referrers=True)
        facts, shown = await _choose(walking, seen, {digest: digest for digest in seen}, order, top)
        names = tags_by_digest((name, each.digest) for name, each in roots.items())
        return [facts.entry(seen[digest], names.get(digest, [])) for digest in map(Digest, shown)]


async def list_tags(
    repository: Reference,
    options: CopyOptions,
    *,
    order: Order | None = None,
    top: int | None = None,
    on_warning: OnWarning | None = None,
) -> list[Entry]:
    """An entry for each tag, by name or by time, the first `top` of them. # network

    Raises `CopyError`.
    """
    async with opened(repository, options, "list tags of") as registry:
        entries = await registry.metadata.tags(order, top, on_warning)
        if entries is not None:
            return entries
        walking = Walk(registry, on_warning)
        roots = await walking.tags()
        seen = await walking.manifests(roots.values(), referrers=False)
        tags = {name: each.digest for name, each in roots.items() if each.digest in seen}
        facts, shown = await _choose(walking, seen, tags, order, top)
        return [tag_entry(name, tags[name], facts.time(tags[name])) for name in shown]


async def list_tag_names(
    repository: Reference,
    options: CopyOptions,
    *,
    order: Order | None = None,
    top: int | None = None,
    on_warning: OnWarning | None = None,
) -> list[str]:
    """As `list_tags`, only names; without an order this needs only the registry's list of tags. # network"""
    if order is not None:
        return _names(await list_tags(repository, options, order=order, top=top, on_warning=on_warning))
    async with opened(repository, options, "list tags of") as registry:
        entries = await registry.metadata.tags(order, top, on_warning)
        if entries is not None:
            return _names(entries)
        return sorted(await registry.tags(on_warning))[:top]


async def show_item(item: Reference, options: CopyOptions) -> Entry:
    """The entry of a tag, of a manifest by its digest, or of a repository. # network

    Raises `CopyError`, over `NotFound` for an unknown item.
    """
    async with opened(item, options, "show") as registry:
        wanted = item.digest or item.tag or ""
        entry = await registry.metadata.item(wanted)
        if entry is not None:
            return entry
        walking = Walk(registry)
        if wanted:
            root = await walking.root(item.tag or wanted)
            seen = await walking.manifests([root], referrers=False)
            if root.digest not in seen:
                raise NotFound(f"{item} was deleted meanwhile", status=404)
            facts = await _facts_of(walking, seen, [root.digest])
            if item.tag:
                return tag_entry(item.tag, root.digest, facts.time(root.digest))
            tagged = await walking.tags()
            names = sorted(name for name, each in tagged.items() if each.digest == root.digest)
            return facts.entry(seen[root.digest], names)
        tagged = await walking.tags()
        seen = await walking.manifests(tagged.values(), referrers=True)
        facts = await _facts_of(walking, seen, seen)
        return facts.summary(item, len(tagged))


def _names(entries: Iterable[Entry]) -> list[str]:
    return [name for entry in entries if isinstance(name := entry.get("name"), str)]


class _Facts(Struct, frozen=True):
    """The manifests of a repository that were read, and their configs."""

    seen: Mapping[Digest, Seen]
    configs: Mapping[Digest, ImageConfig]

    def entry(self, one: Seen, tags: list[str]) -> Entry:
        digest = one.descriptor.digest
        return manifest_entry(
            one.descriptor,
            one.manifest,
            size=self.size(digest),
            config=self.configs.get(digest, ImageConfig()),
            tags=tags,
            time=self.time(digest),
        )

    def summary(self, repository: Reference, tags: int) -> Entry:
        """The repository's entry; its times are those of the oldest and the newest image."""
        times = [time for time in map(self.time, self.seen) if time is not None]
        entry: Entry = {"registry": repository.registry, "imageName": repository.repository}
        if times:
            entry |= {"createdTime": timestamp(min(times)), "lastUpdateTime": timestamp(max(times))}
        counts = {"manifestCount": len(self.seen), "tagCount": tags}
        return {**entry, **counts, "changeableAttributes": changeable_attributes()}

    def size(self, digest: Digest) -> int:
        """Bytes of a manifest's blobs; for an index, those of all its images."""
        inside = (self.seen[each].manifest for each in _contained(self.seen, [digest]))
        return sum(image_size(manifest) for manifest in inside if manifest is not None)

    def time(self, digest: Digest) -> int | None:
        """The image's creation time; for an index without one, that of its newest image."""
        own = self._created(digest)
        if own is not None:
            return own
        inside = (self._created(each) for each in _contained(self.seen, [digest]))
        return max((time for time in inside if time is not None), default=None)

    def _created(self, digest: Digest) -> int | None:
        manifest = self.seen[digest].manifest
        return created_time(manifest, self.configs.get(digest, ImageConfig())) if manifest else None


async def _choose(
    walking: Walk,
    seen: Mapping[Digest, Seen],
    listed: Mapping[str, Digest],
    order: Order | None,
    top: int | None,
) -> tuple[_Facts, list[str]]:
    """The names of `listed` to show, ordered by name or time, and their facts. # network"""
    names = sorted(listed)
    if order is None:
        names = names[:top]
    facts = await _facts_of(walking, seen, [listed[name] for name in names])
    if order is not None:
        times = {name: facts.time(listed[name]) for name in names}
        dated = [(time, name) for name, time in times.items() if time is not None]
        dated.sort(reverse=order == "timedesc")
        names = [name for _, name in dated] + [name for name in names if times[name] is None]
    return facts, names[:top]


async def _facts_of(walking: Walk, seen: Mapping[Digest, Seen], digests: Iterable[Digest]) -> _Facts:
    """The facts of `digests` and of the manifests inside them. # network"""
    wanted = _contained(seen, digests)
    return _Facts(seen, await walking.configs(seen[digest] for digest in wanted))


def _contained(seen: Mapping[Digest, Seen], digests: Iterable[Digest]) -> set[Digest]:
    """`digests` and the manifests inside their indexes, as far as they were read."""
    found: set[Digest] = set()
    pending = list(digests)
    while pending:
        digest = pending.pop()
        if digest in seen and digest not in found:
            found.add(digest)
            manifest = seen[digest].manifest
            pending += [child.digest for child in manifest.manifests] if manifest else ()
    return found
