"""Entries applied: their repositories are surveyed, tags that mean one manifest are copied together.

What is as it should be is told at once and never waits in the queue, whose length is bounded. So the memory
that this takes depends on the largest repository, not on how many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace as with_fields

from crossdock.errors import CopyError, is_final
from crossdock.events import CopyFailed, Warned
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.group import Group, GroupCopy, Share
from crossdock.mirroring.views import RepositoryView, TargetView
from crossdock.oci.attachedtag import is_attached_tag, listed_subject
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import is_index
from crossdock.oci.platform import Platform
from crossdock.oci.reference import LayoutReference, Reference
from crossdock.runs.places import Shared
from crossdock.runs.results import PairResult, Status, status_of_error, without_traceback
from crossdock.runs.run import Watchers
from crossdock.runs.runner import AT_ONCE, Runner
from crossdock.runs.totals import Totals
from crossdock.tasks import run_together

ENTRIES_AT_ONCE = 4
VIEWS_AT_ONCE = 16  # of one entry: what precedes the rest of a repository is waited for
WAITING = 256  # groups
_NOT_YET = ("…", "…")


class Window:
    """The copies that are listed and not done, as displays name them. Its length counts all listed."""

    def __init__(self, totals: Totals) -> None:
        self.open: dict[int, tuple[str, str]] = {}
        self._totals = totals
        self._count = 0

    def __len__(self) -> int:
        return self._totals.images_found

    def __getitem__(self, index: int) -> tuple[str, str]:
        return self.open.get(index, _NOT_YET)

    def add(self, pair: tuple[object, object], images: int = 1) -> int:
        """The index of one more copy, of so many images."""
        index = self._count
        self._count += 1
        self.open[index] = str(pair[0]), str(pair[1])
        self._totals.images_found += images
        return index

    def end(self, index: int) -> None:
        """The copy is done."""
        self.open.pop(index, None)


class Place(Struct, frozen=True):
    """One repository of an entry at one of its targets. `name` is that below the source's prefix."""

    entry: int
    target: int
    name: str
    source: Reference | LayoutReference
    repository: str  # host/repository of the target, as people write it


class Sink(Protocol):
    """Who is told what became of each name: a tag, a digest of a manifest without one, or "" for a whole
    repository. May not block for long.
    """

    def unchanged(self, place: Place, names: Mapping[str, Digest]) -> None:
        """The target has these already."""

    def expected(self, place: Place, names: Mapping[str, Digest]) -> None:
        """These are to be copied."""

    def ended(self, place: Place, names: Mapping[str, Digest], result: PairResult) -> None:
        """Names of one manifest were copied together, or failed together."""

    def failed(self, place: Place, name: str, digest: str, error: Exception) -> None:
        """A name cannot be copied, or the whole repository cannot."""

    def completed(self, place: Place) -> None:
        """Nothing of the repository failed, and nothing is left."""


class _Repository(Struct):
    """How many copies of one repository are under way to one target."""

    place: Place
    left: int = 0
    has_failed: bool = False
    is_listed: bool = False


class _Round(Struct, eq=False):
    """Names of one manifest that are copied to one target together."""

    repository: _Repository
    group: Group
    share: Share
    index: int = -1


class _Job(Struct, eq=False):
    """A group with its rounds, for all targets."""

    entry: int
    group: Group
    rounds: list[_Round]
    done: asyncio.Event = field(default_factory=asyncio.Event)


async def _now() -> None:
    """Something new may be begun at any time."""


class Applying:
    """The work on some entries. `views` of each are read in `run`."""

    def __init__(
        self,
        entries: Sequence[Entry],
        views: Callable[[int], AsyncGenerator[RepositoryView, None]],
        sink: Sink,
        totals: Totals,
        *,
        may_begin: Callable[[], Awaitable[None]] = _now,
        at_once: int = AT_ONCE,
    ) -> None:
        """`views`: those of the entry with this number. `may_begin` is awaited before a copy is begun."""
        self.totals = totals
        self.window = Window(totals)
        self._entries = entries
        self._views = views
        self._sink = sink
        self._may_begin = may_begin
        self._at_once = at_once
        self._queue: asyncio.Queue[_Job | None] = asyncio.Queue(WAITING)
        self._rounds: dict[int, _Round] = {}
        self._copies: list[GroupCopy] = []
        self._shared: list[Shared] = []
        self.watchers: Watchers | None = None
        self._learning = asyncio.Lock()
        self._asked: dict[tuple[int, str], Group] = {}  # by entry and repository, whose referrers are known

    async def run(self, shared: Shared, watchers: Watchers, *, fail_fast: bool = False) -> bool:
        """Copy it all; False: a copy failed, and the run failed fast. # network

        Raises what `views` raises, over which no entry can be done at all.
        """
        self._shared = [_for_entry(shared, each) for each in self._entries]
        self._copies = [GroupCopy(each) for each in self._shared]
        runner = Runner(watchers, partial(self._end, watchers), fail_fast=fail_fast)
        whole = await runner.work(
            self._queue.get, partial(self._do, runner, watchers), self._at_once, beside=[self._list_all()]
        )
        for place in {id(each.places): each.places for each in self._shared}.values():
            for warning in place.take_warnings():
                watchers.tell(-1, "", "", Warned(warning))
        return whole

    # -- views → groups ------------------------------------------------------------------------------------

    async def _list_all(self) -> None:
        pending = iter(range(len(self._entries)))

        async def take() -> None:
            for number in pending:
                await self._list(number)

        await run_together(take() for _ in range(min(ENTRIES_AT_ONCE, len(self._entries))))
        self.totals.is_listed = True
        for _ in range(self._at_once):
            await self._queue.put(None)

    async def _list(self, number: int) -> None:
        turn = asyncio.Lock()
        async with aclosing(self._views(number)) as views:

            async def take() -> None:
                while True:
                    async with turn:
                        view = await anext(views, None)
                    if view is None:
                        return
                    await self._take(number, view)

            await run_together(take() for _ in range(VIEWS_AT_ONCE))

    async def _take(self, entry: int, view: RepositoryView) -> None:
        repositories = [
            _Repository(Place(entry, index, view.name, view.source, each.name))
            for index, each in enumerate(view.targets)
        ]
        await self._learn(entry, view)
        steps = self._jobs(entry, view, repositories)
        for job in (each for step in steps for each in step):
            for each in job.rounds:
                each.repository.left += 1
        for repository in repositories:
            repository.is_listed = True
            self._complete(repository)
        for number, step in enumerate(steps, 1):
            for job in step:
                await self._queue.put(job)
            for job in step if number < len(steps) else ():
                await job.done.wait()

    async def _learn(self, number: int, view: RepositoryView) -> None:
        """Find out whether the source has the referrers API, by one question, before it matters. # network"""
        copying = self._copies[number]
        if view.has_all_rows or not view.tags or copying.knows_referrers(view.source):
            return
        async with self._learning:
            if not copying.knows_referrers(view.source):
                group = self._group(number, view, next(iter(view.tags.values())))
                self._asked[number, view.name] = group
                await copying.may_have_attached(group)

    def _group(self, number: int, view: RepositoryView, digest: Digest) -> Group:
        asked = self._asked.get((number, view.name))
        if asked is not None and asked.digest == digest:
            return self._asked.pop((number, view.name))
        row, tags = view.rows.get(digest), self._entries[number].tags
        return Group(
            _repository_of(view.source),
            digest,
            view.media_types.get(digest) or (row.media_type if row is not None else ""),
            view.digest_tags,
            tags.takes_all,
            tags.leaves_out if tags.patterns.exclude else None,
        )

    def _jobs(self, number: int, view: RepositoryView, repositories: list[_Repository]) -> list[list[_Job]]:
        """What is to be copied of the repository, one step after the other.

        Lists of referrers precede what they are about. Images precede indexes, which may list them and then
        need not push them.
        """
        names: dict[str, Digest] = {**view.tags, **{each: each for each in view.untagged}}
        for repository, target in zip(repositories, view.targets, strict=True):
            problem = view.error or (target.error if target.repository is None else None)
            if view.error is not None:
                self._fail(repository, "", "", view.error)
            for name, digest in names.items() if problem is not None else ():
                self._fail(repository, name, digest, problem or view.error or AssertionError())
            for name, error in view.errors.items():
                if name not in target.settled:
                    self._fail(repository, name, "", error)
        groups: dict[Digest, list[str]] = {}
        for name, digest in names.items():
            groups.setdefault(digest, []).append(name)
        lists: list[_Job] = []
        images: list[_Job] = []
        indexes: list[_Job] = []
        for digest, members in groups.items():
            for some in _alone([each for each in members if listed_subject(each) is not None]):
                lists += self._job(number, view, repositories, digest, some)
            rest = [each for each in members if listed_subject(each) is None]
            for job in self._job(number, view, repositories, digest, rest) if rest else ():
                (indexes if is_index(job.group.media_type) else images).append(job)
        return [each for each in (lists, images, indexes) if each]

    def _job(
        self,
        number: int,
        view: RepositoryView,
        repositories: list[_Repository],
        digest: Digest,
        members: list[str],
    ) -> list[_Job]:
        entry, copying = self._entries[number], self._copies[number]
        group = self._group(number, view, digest)
        rounds: list[_Round] = []
        for repository, target in zip(repositories, view.targets, strict=True):
            if target.repository is None or view.error is not None:
                continue
            names = [each for each in members if each not in target.settled]
            if names and self._is_there(number, view, target, group, names):
                self._unchanged(repository, dict.fromkeys(names, digest))
                continue
            there = _there(target, names, digest)
            names = self._behind(number, repository, names, there, digest)
            tags = [each for each in names if ":" not in each]
            for some in self._rounds_of(entry, copying, tags, there, digest) if tags else [()]:
                if names:
                    share = Share(target.repository, tuple(some), there)
                    rounds.append(self._begin(_Round(repository, group, share)))
        return [_Job(number, group, rounds)] if rounds else []

    def _behind(
        self,
        number: int,
        repository: _Repository,
        names: list[str],
        there: Mapping[str, Digest | None],
        digest: Digest,
    ) -> list[str]:
        """The names to be written; all of them when it may only be that something attached is missing."""
        if self._shared[number].platforms:
            return names
        behind = [each for each in names if there.get("" if ":" in each else each) != digest]
        if behind and (right := dict.fromkeys([each for each in names if each not in behind], digest)):
            self._unchanged(repository, right)
        return behind or names

    def _unchanged(self, repository: _Repository, names: Mapping[str, Digest]) -> None:
        self._sink.unchanged(repository.place, names)
        self.totals.images_found += len(names)
        self.totals.images_done += len(names)

    def _is_there(
        self, number: int, view: RepositoryView, target: TargetView, group: Group, names: list[str]
    ) -> bool:
        """Whether the target has all of it, as far as can be known without a request."""
        shared, copying = self._shared[number], self._copies[number]
        platforms = shared.platforms and not all(map(is_attached_tag, names))
        if platforms or shared.checks_blobs:
            return False
        there = _there(target, names, group.digest)
        if any(there.get("" if ":" in each else each) != group.digest for each in names):
            return False
        if copying.is_without_attached(group):
            return True
        # What refers to a manifest has no tag, so a list of everything shows it.
        return view.has_all_rows and group.takes_all_tags and view.without_tag <= target.digests

    def _rounds_of(
        self,
        entry: Entry,
        copying: GroupCopy,
        tags: list[str],
        there: Mapping[str, Digest | None],
        digest: Digest,
    ) -> list[list[str]]:
        """The tags, in lots that are copied together."""
        keeps = entry.existing != "overwrite"
        alone: list[str] = []
        together: list[str] = []
        for tag in tags:
            # What stays as it is there is found for each by itself.
            stays = keeps and there.get(tag, "unknown") not in (None, digest)
            (alone if copying.is_alone(tag) or stays else together).append(tag)
        return [*([together] if together else []), *_alone(alone)]

    def _begin(self, one: _Round) -> _Round:
        names = _names(one)
        self._sink.expected(one.repository.place, names)
        tag = one.share.tags[0] if one.share.tags else None
        pair = one.group.named(tag), one.share.named(tag, one.group.digest)
        one.index = self.window.add(pair, len(names))
        self._rounds[one.index] = one
        return one

    def _fail(self, repository: _Repository, name: str, digest: str, error: Exception) -> None:
        repository.has_failed = True
        self.totals.images_found += 1
        self.totals.images_failed += 1
        self._sink.failed(repository.place, name, digest, without_traceback(error))
        place = repository.place
        shown = f"{'@' if ':' in name else ':'}{name}" if name else ""
        source = place.source.locator if isinstance(place.source, Reference) else str(place.source)
        self.tell(f"{source}{shown}", f"{place.repository}{shown}", error)

    def tell(self, source: str, target: str, error: Exception) -> None:
        """Tell of a failure that is not one of a copy under way."""
        if self.watchers is not None:
            index = self.window.add((source, target), 0)
            self.watchers.tell(index, source, target, CopyFailed(source, target, error))
            self.window.end(index)

    def _complete(self, repository: _Repository) -> None:
        if repository.is_listed and not repository.left and not repository.has_failed:
            self._sink.completed(repository.place)

    # -- groups → copies -----------------------------------------------------------------------------------

    async def _do(self, runner: Runner, watchers: Watchers, job: _Job) -> None:
        copying = self._copies[job.entry]
        for one in job.rounds:
            await self._may_begin()
            tag = one.share.tags[0] if one.share.tags else None
            await runner.copy(
                one.index,
                (one.group.named(tag), one.share.named(tag, one.group.digest)),
                partial(copying.copy, one.group, one.share),
                status_of=lambda result: "copied" if result.changed else "unchanged",
                error_status=partial(self._error_status, watchers, job.entry, one),
            )
        job.group.kept = None
        job.done.set()

    def _error_status(self, watchers: Watchers, entry: int, one: _Round, error: Exception) -> Status:
        """Whether it is only a referrer, which the engine leaves out of a copy of the image as well."""
        is_attached = bool(one.share.tags) and is_attached_tag(one.share.tags[0])
        if self._entries[entry].referrers == "required" or not is_attached:
            return status_of_error(error, self._entries[entry].existing)
        if not isinstance(error, CopyError) or not is_final(error):
            return "failed"
        warning = Warned(f"left out, as it is attached to an image and cannot be copied: {error}")
        watchers.tell(one.index, *self.window[one.index], warning)
        return "left out"

    def _end(self, watchers: Watchers, index: int, result: PairResult) -> None:
        one = self._rounds.pop(index)
        repository, names, totals = one.repository, _names(one), self.totals
        repository.left -= 1
        more = len(names) - 1  # the runner has counted one
        for tag, error in one.share.errors.items() if result.result is not None else ():
            more -= 1
            totals.images_failed += 1
            target = str(one.share.named(tag, one.group.digest))
            watchers.tell(index, str(one.group.named(tag)), target, CopyFailed(result.source, target, error))
            self._sink.failed(repository.place, tag, names.pop(tag), error)
            repository.has_failed = True
        if result.status == "failed":
            totals.images_failed += more
            repository.has_failed = True
        else:
            totals.images_done += more
        self._sink.ended(repository.place, names, result)
        self.window.end(index)
        self._complete(repository)


def _names(one: _Round) -> dict[str, Digest]:
    return dict.fromkeys(one.share.tags or (one.group.digest,), one.group.digest)


def _there(target: TargetView, names: Iterable[str], digest: Digest) -> dict[str, Digest | None]:
    """What the target has under the names, as far as it is known."""
    found: dict[str, Digest | None] = {}
    is_known = target.error is None
    for name in names:
        if ":" in name:
            if is_known or digest in target.digests:
                found[""] = digest if digest in target.digests else None
        elif is_known or name in target.tags:
            found[name] = target.tags.get(name)
    return found


def _alone(tags: list[str]) -> list[list[str]]:
    return [[each] for each in tags]


def _repository_of(source: Reference | LayoutReference) -> Reference | LayoutReference:
    if source.tag is None and source.digest is None:
        return source
    return replace(source, tag=None, digest=None)


def _for_entry(shared: Shared, entry: Entry) -> Shared:
    """What copies of the entry share, with its options."""
    referrers = {"warn": None, "off": False, "required": True}[entry.referrers]
    options = replace(shared.options, referrers=referrers, existing=entry.existing, platforms=entry.platforms)
    platforms = tuple(map(Platform.parse, entry.platforms))
    return with_fields(shared, options=options, platforms=platforms)
