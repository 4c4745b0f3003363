"""The content of a registry to mirror: repositories from the catalog, tags, manifests without a tag."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msgspec import Struct

from crossdock.content import ListsManifests
from crossdock.errors import (
    Advice,
    CopyError,
    NotFound,
    NothingMatched,
    RegistryError,
    root_cause,
)
from crossdock.mirroring.names import Namespace, Selection
from crossdock.oci.attachedtag import STEM, listed_subject
from crossdock.oci.digest import Digest
from crossdock.oci.text import quote
from crossdock.steps import during

if TYPE_CHECKING:
    from crossdock.runs.places import Places

_REFUSED = frozenset({400, 401, 403, 404, 405, 501})
_PATTERNS = Advice(
    "correct-pattern", "patterns are a shell's (*, ?, [a-z]) and match the whole name below the prefix"
)


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
        source: Namespace,
        selection: Selection,
        *,
        untagged: bool = False,
        referrers: bool = True,
        on_warning: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`on_warning` is called for entries of the source's lists that are not valid names."""
        self._places = places
        self._source = source
        self._selection = selection
        self._untagged = untagged
        self._referrers = referrers
        self._named = selection.named(source)
        self._on_warning = on_warning
        self._in_catalog: list[str] | None = None
        self._wanted_repositories = self._all_tags = 0
        self._idle_patterns = dict.fromkeys(selection.tags)  # those that have matched no tag

    async def repositories(self) -> list[str]:
        """The names below the prefix, as they were given or in the catalog's order. # network

        Raises `CopyError`, with advice where the registry does not show its catalog.
        """
        if self._named is not None:
            self._wanted_repositories = len(self._named)
            return self._named
        try:
            with during("list repositories of", "source", str(self._source)):
                registry = self._source.reference("catalog")
                found = await self._places.repositories(
                    registry, on_warning=self._on_warning, prefix=self._source.prefix
                )
        except CopyError as error:
            cause = root_cause(error)
            if not isinstance(cause, RegistryError) or cause.status not in _REFUSED:
                raise
            raise error.replace(advice=Advice("name-repositories", side="source")) from cause
        self._in_catalog = list(dict.fromkeys(found))
        below = [name for each in self._in_catalog if (name := self._source.name_of(each)) is not None]
        wanted = [name for name in below if self._selection.wants_repository(name)]
        for pattern in self._selection.unmatched(below) if wanted else ():
            self._on_warning(f"no repository of {self._source} matches {quote(pattern)}")
        self._wanted_repositories = len(wanted)
        return wanted

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
            if self._named is not None or not isinstance(root_cause(error), NotFound):
                raise
            tags = []
        self._all_tags += len(tags)
        for pattern in [each for each in self._idle_patterns if any(fnmatchcase(tag, each) for tag in tags)]:
            del self._idle_patterns[pattern]
        wanted = [Item(name, tag) for tag in tags if self._selection.wants_tag(tag)]
        lists = [each for each in wanted if listed_subject(each.tag or "") is not None]
        items = [each for each in wanted if listed_subject(each.tag or "") is None]
        if self._untagged:
            untagged = await self._without_tag(place, repository, bool(tags))
            items += [Item(name, digest=each) for each in untagged]
        digest_tags = frozenset(tag for tag in tags if tag.startswith(STEM))
        return Contents(lists if self._referrers else [], items, digest_tags)

    async def items(self) -> AsyncIterator[Item | CopyError]:
        """Everything, repository by repository; a `CopyError` for one that cannot be listed. # network"""
        for name in await self.repositories():
            try:
                found = await self.contents(name)
            except UntaggedUnlisted:
                raise
            except CopyError as error:
                yield error
                continue
            for item in (*found.referrers_lists, *found.items):
                yield item

    def finish(self) -> None:
        """Everything was listed: tell of patterns that matched no tag, if others did."""
        if len(self._idle_patterns) < len(self._selection.tags):
            for pattern in self._idle_patterns:
                self._on_warning(f"no tag of {self._source} matches {quote(pattern)}")

    def nothing(self) -> NothingMatched:
        """The error to raise when there is nothing to copy: it says why."""
        source, selection, advice = self._source, self._selection, None
        if self._wanted_repositories:
            repositories = (
                f"the {_count(self._wanted_repositories, 'repository', 'repositories')} of {source}"
            )
            what = f"{repositories} {'has' if self._wanted_repositories == 1 else 'have'} no tags"
            if self._all_tags:
                of = f"the {_count(self._all_tags, 'tag', 'tags')} of {repositories}"
                what = f"{_quoted(selection.tags)} matches none of {of}"
                advice = _PATTERNS.replace(
                    text="patterns are a shell's (*, ?, [a-z]) and match the whole tag"
                )
        elif self._in_catalog is None:
            what = f"all repositories that are named are excluded: {_quoted(selection.exclude)}"
            advice = _PATTERNS
        elif self._in_catalog:
            what, advice = self._unwanted(self._in_catalog)
        else:
            what = f"{source.registry} lists no repositories"
            advice = Advice("log-in", why="a login may show more", side="source", registry=source.registry)
        return NothingMatched(f"nothing to mirror: {what}", advice=advice)

    def _unwanted(self, listed: list[str]) -> tuple[str, Advice]:
        """Why no repository of the catalog is wanted, and the advice."""
        source, selection = self._source, self._selection
        repositories = f"the {_count(len(listed), 'repository', 'repositories')} of {source.registry}"
        below = [name for each in listed if (name := source.name_of(each)) is not None]
        if not below:
            return f"none of {repositories} is below {source.prefix}/", _advice_on_prefix(source, listed)
        matching = [name for name in below if selection.matches_repository(name)]
        if not matching:
            return f"none of {repositories} is wanted: {_quoted(selection.repositories)}", _PATTERNS
        left = f"the {_count(len(matching), 'repository', 'repositories')} of {source}"
        if selection.repositories:
            left = f"{left} for {_quoted(selection.repositories)}"
        return f"all of {left} are excluded: {_quoted(selection.exclude)}", _PATTERNS

    async def _without_tag(self, place: str, repository: ListsManifests, exists: bool) -> list[Digest]:
        with during("list manifests of", "source", place):
            rows = await repository.list_manifests(self._on_warning, untagged=True, needed=True)
        if rows is None and exists:
            raise UntaggedUnlisted(
                f"list manifests of source {place}: the registry has no API for that",
                advice=Advice("omit-untagged", side="source"),
                operation="list manifests of",
                side="source",
                reference=place,
            )
        return [row.digest for row in rows or () if not row.tags]


class UntaggedUnlisted(CopyError):
    """Manifests without a tag are wanted, and the source cannot list them."""


def _advice_on_prefix(source: Namespace, listed: list[str]) -> Advice:
    """A repository given as a prefix, as skopeo sync takes it, or a prefix that is almost right."""
    if source.prefix in listed:
        parent, _, name = source.prefix.rpartition("/")
        place = f"{source.registry}/{parent}" if parent else source.registry
        return Advice(
            "mirror-parent", why=f"{source.prefix} is a repository", registry=place, repository=name
        )
    more = ", for example" if len(listed) > 1 else ""
    return Advice("check-name", f"it lists {quote(listed[0])}{more}")


def _quoted(patterns: Iterable[str]) -> str:
    return ", ".join(quote(each) for each in patterns)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
