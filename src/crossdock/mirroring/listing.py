"""The content of a registry to mirror: repositories from the catalog, tags, manifests without a tag."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.content import ListsManifests, ManifestRow
from crossdock.errors import (
    Advice,
    CopyError,
    InvalidInput,
    NotFound,
    NothingMatched,
    root_cause,
)
from crossdock.mirroring.choice import times_unknown
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import matcher
from crossdock.mirroring.rename import collisions
from crossdock.mirroring.repositories import Repositories
from crossdock.mirroring.shard import Shard
from crossdock.oci.attachedtag import STEM, listed_subject
from crossdock.oci.digest import Digest
from crossdock.oci.text import quote
from crossdock.steps import during

if TYPE_CHECKING:
    from crossdock.runs.places import Places


class Item(Struct, frozen=True):
    """One thing to copy: a tag, or a manifest without one. ``repository`` is its name below the prefix."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None


class Contents(Struct, frozen=True):
    """The part of one repository to be copied."""

    referrers_lists: list[Item]  # of the Referrers Tag Schema, to be copied before what they are about
    items: list[Item]
    digest_tags: frozenset[str]  # all tags that are made of digests, wanted or not


class Listing:
    """Lists a source. Each repository's tags are requested once."""

    def __init__(
        self,
        places: Places,
        entry: Entry,
        *,
        shard: Shard | None = None,
        on_warning: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`shard`: its repositories only. `on_warning` is called for invalid names in the source's lists."""
        assert isinstance(entry.source, Namespace)
        self._places = places
        self._entry = entry
        self._source = entry.source
        self._shard = shard
        self._catalog = Repositories(entry, places, on_warning)
        self._on_warning = on_warning
        self._all_tags = 0
        self._is_partial = False  # other shards have repositories that this one does not list
        self._idle_patterns = dict.fromkeys(entry.tags.patterns.include)  # those that have matched no tag

    async def repositories(self) -> list[str]:
        """The names below the prefix, as they were given or in the catalog's order. # network

        Those of the shard, if there is one. Raises `CopyError`, with advice where the registry does not show
        its catalog, and `InvalidInput` for two names that become one at the targets.
        """
        wanted = await self._catalog.names()
        if found := collisions(wanted, self._entry.naming):
            more = f", and {len(found) - 1} more do so" if len(found) > 1 else ""
            raise InvalidInput(
                f"repositories of {self._source}: {found[0]}{more}",
                advice=Advice(
                    "correct-pattern", "rename one of them, leave it out, or keep more of the names"
                ),
            )
        shard = self._shard
        self._is_partial = shard is not None and bool(wanted)
        return [each for each in wanted if shard is None or shard.has(self._entry, each)]

    async def contents(self, name: str) -> Contents:
        """The part of the repository to be copied. # network

        One that the catalog has and that has no tags, which distribution calls unknown, is empty. Raises
        `CopyError`.
        """
        reference = self._source.reference(name)
        place = reference.locator
        repository = await self._places.open(reference, "source")
        try:
            with during("list tags of", "source", place):
                tags = await repository.tags(self._on_warning)
        except CopyError as error:
            if self._catalog.is_named or not isinstance(root_cause(error), NotFound):
                raise
            tags = []
        self._all_tags += len(tags)
        for pattern in [each for each in self._idle_patterns if any(map(matcher(each), tags))]:
            del self._idle_patterns[pattern]
        entry = self._entry
        rows = []
        if entry.untagged or entry.tags.needs_times:
            rows = await self._rows(place, repository, bool(tags))
        pushed = dict[str, float | None].fromkeys(tags)
        pushed.update((tag, row.pushed) for row in rows for tag in row.tags if tag in pushed)
        wanted = [Item(name, tag) for tag in entry.choose(pushed, time.time())]
        lists = [each for each in wanted if listed_subject(each.tag or "") is not None]
        items = [each for each in wanted if listed_subject(each.tag or "") is None]
        if entry.untagged:
            items += [Item(name, digest=row.digest) for row in rows if not row.tags]
        digest_tags = frozenset(tag for tag in tags if tag.startswith(STEM))
        return Contents(lists, items, digest_tags)

    async def items(self) -> AsyncIterator[Item | Exception]:
        """Everything, repository by repository; an error for one that cannot be listed. # network"""
        for name in await self.repositories():
            try:
                found = await self.contents(name)
            except (UntaggedUnlisted, TimesUnlisted):
                raise
            except (CopyError, InvalidInput) as error:
                yield error
                continue
            for item in (*found.referrers_lists, *found.items):
                yield item

    def finish(self) -> None:
        """Everything was listed: tell of patterns that matched no tag, if others did."""
        if len(self._idle_patterns) < len(self._entry.tags.patterns.include):
            for pattern in self._idle_patterns:
                self._on_warning(f"no tag of {self._source} matches {quote(pattern)}")

    def nothing(self) -> NothingMatched | None:
        """The error to raise when there is nothing to copy: it says why; None if other shards have some."""
        return None if self._is_partial else self._catalog.nothing(self._all_tags, idle=self._idle_patterns)

    async def _rows(self, place: str, repository: ListsManifests, exists: bool) -> list[ManifestRow]:
        """The list of manifests, which is needed. Raises `CopyError`, `UntaggedUnlisted`, `TimesUnlisted`."""
        with during("list manifests of", "source", place):
            rows = await repository.list_manifests(
                self._on_warning, untagged=self._entry.untagged, needed=True
            )
        if rows is not None or not exists:
            return rows or []
        if self._entry.untagged:
            raise UntaggedUnlisted(
                f"list manifests of source {place}: the registry has no API for that",
                advice=Advice("omit-untagged", side="source"),
                operation="list manifests of",
                side="source",
                reference=place,
            )
        error = times_unknown(f"of a tag of {place}")
        raise TimesUnlisted(str(error), advice=error.advice)


class UntaggedUnlisted(CopyError):
    """Manifests without a tag are wanted, and the source cannot list them."""


class TimesUnlisted(InvalidInput):
    """Tags are chosen by push time, and the source has no list that tells it."""
