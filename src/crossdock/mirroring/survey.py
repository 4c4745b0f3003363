"""A survey: the content of an entry's source, the chosen part of it, and the targets' share of that.

Repositories are surveyed some at a time, ahead of whoever takes the views. Where a registry lists manifests
in bulk (`content.ListsManifests`), that list says it all. Elsewhere a repository costs one list of tags at
the source, and each chosen tag one HEAD a side; a target's tags are listed only if all of them are wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct, field

from crossdock.content import ListsManifests, ManifestRow
from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    Denied,
    InvalidInput,
    NotFound,
    NothingMatched,
    Unauthorized,
    root_cause,
)
from crossdock.mirroring.choice import times_unknown
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.patterns import matcher
from crossdock.mirroring.repositories import Repositories
from crossdock.mirroring.shard import Shard
from crossdock.mirroring.views import RepositoryView, TargetView, is_digest, place_of, shown
from crossdock.oci.attachedtag import listed_subject
from crossdock.oci.descriptor import Descriptor
from crossdock.oci.digest import Digest
from crossdock.oci.reference import LayoutReference, Reference, is_tag
from crossdock.oci.text import quote
from crossdock.runs.reach import Reach
from crossdock.runs.results import without_traceback
from crossdock.steps import during, named
from crossdock.tally import log_retry
from crossdock.tasks import run_each, run_together, stop

if TYPE_CHECKING:
    from crossdock.runs.places import Places

LISTED_AT_ONCE = 8  # repositories; as many more wait to be taken
ASKED_AT_ONCE = 64  # names of all repositories, at each side: as many requests as a host gets at once
ASKED_OF_ONE = 8, 32  # of one repository: at least, however many others are asked about, and at most
PATIENCE = 8  # requests in a row that are refused, or fail after all retries: then the rest fails likewise
FEW = 4  # names: as many HEADs are no dearer than a bulk list, which has a page for each 100 manifests or so

Settled = Callable[[str], tuple[frozenset[str], ...] | None]
"""For a repository's name below the source's prefix: the names (tags, or digests of manifests without one)
that are done at each target, in the entry's order, about which nothing is asked. None: the whole repository
is done."""


class UntaggedUnlisted(InvalidInput):
    """Manifests without a tag are wanted, and the source cannot list them."""


class Survey:
    """The survey of one entry. `repositories` may be called first; `views` is to be iterated once."""

    def __init__(
        self,
        entry: Entry,
        places: Places,
        *,
        settled: Settled | None = None,
        only: Mapping[str, Collection[str]] | None = None,
        all_target_tags: bool = False,
        shard: Shard | None = None,
        names: Collection[str] | None = None,
        on_warning: Callable[[str], None] = lambda message: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`only`: just these repositories, and in each these names (tags or digests), which are not chosen
        again, without the catalog and lists of tags. `all_target_tags`: list what the targets have, for
        deletes and comparisons. `shard`: views of its repositories only. `names`: the repositories, which
        are not looked up. `on_warning` hears of odd entries of lists. `clock` tells the time since the
        epoch. No I/O.
        """
        self._entry = entry
        self._places = places
        self._settled = settled or (lambda name: tuple(frozenset[str]() for _ in entry.targets))
        self._only = only
        self._all_target_tags = all_target_tags
        self._shard = shard
        self._on_warning = on_warning
        self._clock = clock
        self._catalog = Repositories(entry, places, on_warning)
        self._reach = Reach()
        self._is_part = names is not None  # others may match the patterns
        listed = names if names is not None else only
        self._names: list[str] | None = list(listed) if listed is not None else None
        self._asking = 0  # repositories about whose names something is being asked
        self._listed = self._chosen_names = 0
        self._failed = False
        self._idle = dict.fromkeys(entry.tags.patterns.include)  # patterns that have matched no tag

    async def repositories(self) -> list[str]:
        """The source's repositories that are wanted, below its prefix; one without a name for a layout.

        Raises `CopyError` when the catalog cannot be read, with advice where there is none. # network
        """
        if self._names is None:
            self._names = await self._catalog.names()
        return self._names

    async def views(self) -> AsyncGenerator[RepositoryView, None]:
        """The views, as they are ready; iterate in ``contextlib.aclosing``. # network

        Raises as `repositories` does, and `InvalidInput` for a choice that needs what the source's lists do
        not tell: push times, or manifests without a tag. Other errors are in the views.
        """
        names, shard = await self.repositories(), self._shard
        wanted = [each for each in names if shard is None or shard.has(self._entry, each)]
        found: asyncio.Queue[RepositoryView | Exception | None] = asyncio.Queue(LISTED_AT_ONCE)

        async def look(name: str) -> None:
            if (view := await self._view(name)) is not None:
                await found.put(view)

        async def look_at_all() -> None:
            try:
                await run_each(wanted, look, LISTED_AT_ONCE)
            except Exception as error:
                await found.put(error)
            await found.put(None)

        looking = asyncio.ensure_future(look_at_all())
        try:
            while (view := await found.get()) is not None:
                if isinstance(view, Exception):
                    raise view
                yield view
        finally:
            await stop(looking)
        self.finish()

    def finish(self) -> None:
        """Everything was listed: warn of patterns that matched no tag, if others did."""
        if len(self._idle) < len(self._entry.tags.patterns.include) and not self._is_part:
            for pattern in self._idle:
                self._on_warning(f"no tag of {self._entry.source} matches {quote(pattern)}")

    @property
    def nothing(self) -> NothingMatched | None:
        """Why there is nothing to copy, after everything was listed; None: something is chosen, or other
        shards may have something.
        """
        is_part = self._only is not None or (self._shard is not None and bool(self._names))
        if is_part or self._chosen_names or self._failed:
            return None
        return self._catalog.nothing(self._listed, idle=self._idle)

    async def check_answered(self) -> None:
        """Raise `InvalidInput` when the source cannot tell what the choice needs: its first repository shows
        that. # network
        """
        names = await self.repositories()
        if names and (self._entry.untagged or self._entry.tags.needs_times):
            with suppress(CopyError):
                await self._list(self._new_view(names[0]))

    # -- one repository ------------------------------------------------------------------------------------

    async def chosen(self, name: str) -> list[str]:
        """The chosen names of one repository: tags, and digests of manifests without one. # network

        Raises `CopyError`, and `InvalidInput` as `views` does.
        """
        view = self._new_view(name)
        await self._list(view)
        self._count(view)
        return view.names

    async def _view(self, name: str) -> RepositoryView | None:
        settled = self._settled(name)
        if settled is None:
            return None
        targets = self._entry.targets
        asked = [_Asked(self._target(each, name), done) for each, done in zip(targets, settled, strict=True)]
        view = self._new_view(name, asked)
        place = view.source
        try:
            if (given_up := self._reach.error_for((place, place))) is not None:
                raise given_up
            await self._list(view)
            self._count(view)
            self._reach.reached((place, place))
        except InvalidInput:
            raise
        except Exception as error:
            self._reach.missed((place, place), error)
            self._failed = True
            view.error = without_traceback(error)
            return view.done()
        everywhere = frozenset[str].intersection(*settled) if settled else frozenset[str]()
        view.names = [each for each in view.names if each not in everywhere]
        self._asking += 1
        try:
            await run_together([self._resolve(view), *(self._look(view, each) for each in asked)])
        finally:
            self._asking -= 1
        return view.done()

    def _target(self, target: Namespace, name: str) -> TargetView:
        """The target's repository, of which nothing is known yet."""
        try:
            found = self._entry.target_reference(target, name)
        except InvalidInput as error:
            wanted = f"{target}/{self._entry.target_name(name)}".removesuffix("/")
            return TargetView(name=wanted, repository=None, error=without_traceback(error))
        return TargetView(name=found.locator, repository=found)

    async def _list(self, view: _View) -> None:
        """Fill in the source's list and what is chosen of it. Raises `CopyError`. # network"""
        only = self._only
        names = list(dict.fromkeys(only[view.name])) if only is not None else None
        repository = await self._places.open(view.source, "source", log_retry)
        view.repository = repository
        rows: list[ManifestRow] | None = None
        try:
            if names is None or len(names) > FEW:
                with during("list tags of", "source", place_of(view.source)):
                    untagged = self._entry.untagged
                    needed = untagged or self._entry.tags.needs_times
                    rows = await self._rows(repository, untagged=True, needed=needed)
                    view.has_all_rows = rows is not None
                    if rows is None and not untagged:
                        rows = await self._rows(repository, needed=needed)
                    tags = None if rows is not None or names is not None else await self._tags(repository)
        except CopyError as error:
            # The catalog of distribution lists repositories without tags, which it then calls unknown.
            if self._catalog.is_named or not isinstance(root_cause(error), NotFound):
                raise
            rows, tags = [], []
        pushed: dict[str, float | None] = {}
        if rows is not None:
            view.rows = {row.digest: row for row in rows}
            view.digests = {tag: row.digest for row in rows for tag in row.tags}
            pushed = {tag: row.pushed for row in rows for tag in row.tags}
        elif names is None:
            pushed = dict.fromkeys(tags or ())
        if names is None:
            self._check_answered(view, rows)
            view.listed = frozenset(pushed)
            if self._entry.tags.needs_times:
                view.errors |= {
                    tag: times_unknown(f"of the tag {quote(tag)}") for tag, at in pushed.items() if at is None
                }
                pushed = {tag: at for tag, at in pushed.items() if at is not None}
            names = self._chosen(pushed)
            if self._entry.untagged:
                names += [row.digest for row in rows or () if not row.tags]
        view.names = names

    async def _rows(
        self, repository: Any, *, untagged: bool = False, needed: bool = False
    ) -> list[ManifestRow] | None:
        if not hasattr(repository, "list_manifests"):
            return None
        lister = cast("ListsManifests", repository)
        return await lister.list_manifests(self._on_warning, untagged=untagged, needed=needed)

    async def _tags(self, repository: Any) -> list[str]:
        tags: list[str] = await repository.tags(self._on_warning)
        return tags

    def _new_view(self, name: str, asked: Sequence[_Asked] = ()) -> _View:
        return _View(name, self._entry.source_reference(name), asked)

    def _count(self, view: _View) -> None:
        """Count the listed and the chosen names, and note the patterns that matched."""
        if view.listed is None:
            return
        self._listed += len(view.listed)
        self._chosen_names += len(view.names)
        for pattern in list(self._idle):
            if any(map(matcher(pattern), view.listed)):
                del self._idle[pattern]

    def _check_answered(self, view: _View, rows: list[ManifestRow] | None) -> None:
        reference = place_of(view.source)
        if self._entry.untagged and rows is None:
            raise UntaggedUnlisted(
                f"list manifests of source {reference}: the registry has no API for that",
                advice=Advice("omit-untagged", side="source"),
                reference=reference,
            )
        has_times = rows is not None and (not rows or any(row.pushed is not None for row in rows))
        if self._entry.tags.needs_times and not has_times:
            raise times_unknown(f"of a tag of {reference}")

    def _chosen(self, pushed: Mapping[str, float | None]) -> list[str]:
        """The chosen tags, lists of referrers first."""
        chosen = self._entry.choose(pushed, self._clock())
        lists = [tag for tag in chosen if listed_subject(tag) is not None]
        others = [tag for tag in chosen if listed_subject(tag) is None]
        return [*lists, *others]

    # -- what names mean -----------------------------------------------------------------------------------

    async def _resolve(self, view: _View) -> None:
        """Resolve the chosen names at the source, unless a list has told their digests. # network"""
        unknown = [each for each in view.names if each not in view.digests and not _is_listed(view, each)]
        silence = _Silence()

        async def ask(name: str) -> None:
            if silence.error is not None:
                view.errors[name] = silence.error
                return
            try:
                found: Descriptor = await view.repository.resolve(name)
            except CrossdockError as error:
                failed = named(error, "resolve", "source", shown(place_of(view.source), name))
                view.errors[name] = without_traceback(failed)
                silence.failed(failed)
                return
            view.digests[name] = found.digest
            view.media_types[found.digest] = found.media_type
            silence.end()

        await self._ask_all(unknown, ask)

    async def _ask_all(self, names: Sequence[str], ask: Callable[[str], Awaitable[None]]) -> None:
        """Ask about each of a repository's names at one side. # network"""
        least, most = ASKED_OF_ONE
        at_once = min(most, max(least, ASKED_AT_ONCE // self._asking))
        await run_each(names, ask, min(at_once, len(names)))

    async def _look(self, view: _View, asked: _Asked) -> None:
        """Find which of the chosen names one target has. # network"""
        there = asked.view
        names = [
            each for each in view.names if each not in asked.settled and (is_tag(each) or is_digest(each))
        ]
        if there.repository is None or not (names or self._all_target_tags):
            return
        place = there.repository, there.repository
        try:
            if (given_up := self._reach.error_for(place)) is not None:
                raise given_up
            repository = await self._places.open(there.repository, "target", log_retry)
            with during("list tags of", "target", there.name):
                if (self._all_target_tags or len(names) > FEW) and await self._look_in_list(
                    repository, asked
                ):
                    return
                if self._all_target_tags:
                    tags = await self._tags(repository)
                    asked.listed = frozenset(tags)
                    names = [each for each in names if each in asked.listed or is_digest(each)]
            await self._ask_each(repository, asked, names)
        except CrossdockError as error:
            if isinstance(root_cause(error), NotFound):
                asked.exists, asked.listed = False, frozenset()
            else:
                asked.error = asked.error or without_traceback(error)
        if asked.error is None:
            self._reach.reached(place)
        else:
            self._reach.missed(place, asked.error)

    async def _look_in_list(self, repository: Any, asked: _Asked) -> bool:
        rows = await self._rows(repository)
        if rows is None:
            return False
        asked.tags = {tag: row.digest for row in rows for tag in row.tags}
        asked.digests = {row.digest for row in rows}
        asked.listed = frozenset(asked.tags)
        return True

    async def _ask_each(self, repository: Any, asked: _Asked, names: list[str]) -> None:
        """One HEAD each, as long as it is worthwhile."""
        silence = _Silence()

        async def ask(name: str) -> None:
            if silence.error is not None:
                return
            try:
                found: Descriptor | None = await repository.find(name)
            except CrossdockError as error:
                failed = named(error, "resolve", "target", shown(asked.view.name, name))
                asked.error = asked.error or without_traceback(failed)
                silence.failed(failed)
                return
            silence.end()
            if found is not None and is_digest(name):
                asked.digests.add(found.digest)
            elif found is not None:
                asked.tags[name] = found.digest

        await self._ask_all(names, ask)


class _Asked(Struct):
    """A target's view in the making."""

    view: TargetView
    settled: frozenset[str]
    tags: dict[str, Digest] = field(default_factory=dict)
    digests: set[Digest] = field(default_factory=set)
    listed: frozenset[str] | None = None
    exists: bool = True
    error: Exception | None = None

    def done(self) -> TargetView:
        """The view."""
        return TargetView(
            name=self.view.name,
            repository=self.view.repository,
            tags=self.tags,
            digests=frozenset(self.digests),
            listed=self.listed,
            settled=self.settled,
            exists=self.exists,
            error=self.error or self.view.error,
        )


class _View(Struct):
    """A view in the making. `digests` says what names mean at the source, as far as it is known."""

    name: str
    source: Reference | LayoutReference
    asked: Sequence[_Asked]
    repository: Any = None
    names: list[str] = field(default_factory=list)  # tags, and digests of manifests without one
    digests: dict[str, Digest] = field(default_factory=dict)
    listed: frozenset[str] | None = None
    rows: dict[Digest, ManifestRow] = field(default_factory=dict)
    has_all_rows: bool = False
    media_types: dict[Digest, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    error: Exception | None = None

    def done(self) -> RepositoryView:
        """The view."""
        return RepositoryView(
            name=self.name,
            source=self.source,
            targets=tuple(each.done() for each in self.asked),
            tags={
                each: self.digests[each]
                for each in self.names
                if not is_digest(each) and each in self.digests
            },
            untagged=tuple(
                Digest(each) for each in self.names if is_digest(each) and each not in self.errors
            ),
            listed=self.listed,
            rows=self.rows,
            has_all_rows=self.has_all_rows,
            media_types=self.media_types,
            errors=self.errors,
            error=self.error,
        )


class _Silence(Struct):
    """Whether it is worthwhile to ask for more: not without a login, nor after `PATIENCE` failures in a row.

    A refusal of one name says nothing about the others.
    """

    failures: int = 0
    error: Exception | None = None

    def failed(self, error: CrossdockError) -> None:
        """A request failed."""
        cause = root_cause(error)
        self.failures += 1
        may_end = isinstance(cause, Denied) or getattr(cause, "retryable", False)
        if isinstance(cause, Unauthorized) or (may_end and self.failures >= PATIENCE):
            self.error = without_traceback(error)

    def end(self) -> None:
        """A request was answered."""
        self.failures = 0


def _is_listed(view: _View, name: str) -> bool:
    return is_digest(name) and name in view.rows
