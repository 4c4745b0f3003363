"""Entries applied: their repositories are surveyed, tags that mean one manifest are copied together.

A name that needs no copy is reported at once and never waits in the queue, whose length is bounded. So memory
use depends on the largest repository, not on how many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace as with_fields

from crossdock.errors import CopyError, InvalidInput, is_final
from crossdock.events import CopyDone, CopyFailed, CopyStarted, Warned
from crossdock.mirroring.entry import Entry
from crossdock.mirroring.group import Group, GroupCopy, Share
from crossdock.mirroring.outcomes import Names, Place, Sink, Window
from crossdock.mirroring.views import RepositoryView, TargetView, is_digest
from crossdock.oci.attachedtag import is_attached_tag, listed_subject
from crossdock.oci.digest import Digest
from crossdock.oci.mediatype import is_index
from crossdock.oci.platform import Platform
from crossdock.oci.reference import LayoutReference, Reference, is_tag
from crossdock.runs.one import CopyResult
from crossdock.runs.oneread import TargetReads, status_of
from crossdock.runs.places import Shared
from crossdock.runs.results import PairResult, Status, status_of_error, unended, without_traceback
from crossdock.runs.run import Watchers
from crossdock.runs.runner import AT_ONCE, FailedFast, Runner
from crossdock.runs.totals import Totals
from crossdock.tasks import run_each, run_each_of, run_together

ENTRIES_AT_ONCE = 4
VIEWS_AT_ONCE = 16  # of one entry: what precedes the rest of a repository is waited for
WAITING = 256  # groups


class _Repository(Struct):
    """How many copies of one repository are under way to one target."""

    place: Place
    left: int = 0
    has_failed: bool = False
    is_listed: bool = False


class _Round(Struct, eq=False):
    """Names of one manifest that are copied to one target together."""

    repository: _Repository
    names: Names
    share: Share

    @property
    def index(self) -> int:
        """The index of the copy of the first name, which stands for all."""
        return next(iter(self.names.indices.values()))


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
        self._begun: set[int] = set()
        self._fail_fast = False
        self.watchers = Watchers(totals)
        self._learning = asyncio.Lock()
        self._asked: dict[tuple[int, str], Group] = {}  # by entry and repository, whose referrers are known

    async def run(self, shared: Shared, watchers: Watchers, *, fail_fast: bool = False) -> bool:
        """Copy it all; False: a copy failed, and the run failed fast. # network

        Raises what `views` raises, over which no entry can be done at all.
        """
        self._shared = [_for_entry(shared, each) for each in self._entries]
        self._copies = [GroupCopy(each) for each in self._shared]
        self._fail_fast, self.watchers = fail_fast, watchers
        runner = Runner(watchers, self._end, fail_fast=fail_fast)
        self._begun = runner.begun
        return await runner.work(
            self._queue.get, partial(self._do, runner), self._at_once, beside=[self._list_all()]
        )

    def unended(self) -> Iterator[PairResult]:
        """The copies that the end of the run has left."""
        for one in self._rounds.values():
            for name in one.names.indices:
                yield unended(*one.names.pair(name), begun=one.index in self._begun)

    # -- views → groups ------------------------------------------------------------------------------------

    async def _list_all(self) -> None:
        await run_each(range(len(self._entries)), self._list, ENTRIES_AT_ONCE)
        self.totals.is_listed = True
        for _ in range(self._at_once):
            await self._queue.put(None)

    async def _list(self, number: int) -> None:
        async with aclosing(self._views(number)) as views:
            await run_each_of(views, partial(self._take, number), VIEWS_AT_ONCE)

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
                tag, digest = next(iter(view.tags.items()))
                group = self._group(number, view, digest, tag)
                self._asked[number, view.name] = group
                await copying.may_have_attached(group)

    def _group(self, number: int, view: RepositoryView, digest: Digest, name: str) -> Group:
        asked = self._asked.get((number, view.name))
        if asked is not None and asked.digest == digest:
            return self._asked.pop((number, view.name))
        row, tags = view.rows.get(digest), self._entries[number].tags
        return Group(
            _repository_of(view.source),
            digest,
            None if is_digest(name) else name,
            view.media_types.get(digest) or (row.media_type if row is not None else ""),
            view.digest_tags,
            tags.takes_all,
            tags.leaves_out if tags.patterns.exclude else None,
        )

    def _jobs(self, number: int, view: RepositoryView, repositories: list[_Repository]) -> list[list[_Job]]:
        """The copies that the repository needs, step by step.

        Lists of referrers precede their subjects. Images precede indexes, which may list them and then need
        not push them.
        """
        names: dict[str, Digest] = {**view.tags, **{each: each for each in view.untagged}}
        done = [
            target.settled | self._refused(view, repository, target, names)
            for repository, target in zip(repositories, view.targets, strict=True)
        ]
        groups: dict[Digest, list[str]] = {}
        for name, digest in names.items():
            groups.setdefault(digest, []).append(name)
        lists: list[_Job] = []
        images: list[_Job] = []
        indexes: list[_Job] = []
        for digest, members in groups.items():
            for some in _alone([each for each in members if listed_subject(each) is not None]):
                lists += self._job(number, view, repositories, done, digest, some)
            rest = [each for each in members if listed_subject(each) is None]
            for job in self._job(number, view, repositories, done, digest, rest) if rest else ():
                (indexes if is_index(job.group.media_type) else images).append(job)
        return [each for each in (lists, images, indexes) if each]

    def _refused(
        self, view: RepositoryView, repository: _Repository, target: TargetView, names: Mapping[str, Digest]
    ) -> frozenset[str]:
        """The names that cannot be copied to this target; reports each. Raises `FailedFast`."""
        if view.error is not None:
            self._fail(repository, "", "", view.error)
        for name, error in view.errors.items():
            if name not in target.settled:
                self._fail(repository, name, "", error)
        if target.repository is not None and isinstance(view.source, Reference):
            return frozenset()
        refused = {name: each for name in names if (each := _problem_of(target, name)) is not None}
        for name, problem in refused.items():
            if name not in target.settled:
                self._fail(repository, name, names[name], problem)
        return frozenset(refused)

    def _job(
        self,
        number: int,
        view: RepositoryView,
        repositories: list[_Repository],
        done: Sequence[frozenset[str]],
        digest: Digest,
        members: list[str],
    ) -> list[_Job]:
        """The names that mean one manifest, for each target without the names in `done`."""
        entry, copying = self._entries[number], self._copies[number]
        group = self._group(number, view, digest, members[0])
        rounds: list[_Round] = []
        for repository, target, left_out in zip(repositories, view.targets, done, strict=True):
            names = [each for each in members if each not in left_out]
            if target.repository is None or not names:
                continue
            if self._is_there(number, view, target, group, names):
                self._unchanged(repository, group, names)
                continue
            there = _there(target, names, digest)
            names = self._behind(number, repository, group, names, there)
            tags = [each for each in names if not is_digest(each)]
            lots = self._rounds_of(entry, copying, tags, there, digest) if tags else [names]
            for some in lots:
                share = Share(target.repository, tuple(some) if tags else (), there)
                rounds.append(self._begin(repository, group, some, share))
        return [_Job(number, group, rounds)] if rounds else []

    def _behind(
        self,
        number: int,
        repository: _Repository,
        group: Group,
        names: list[str],
        there: Mapping[str, Digest | None],
    ) -> list[str]:
        """The names to be written; all of them when it may only be that something attached is missing."""
        if self._shared[number].platforms:
            return names
        behind = [each for each in names if there.get("" if is_digest(each) else each) != group.digest]
        if behind and (right := [each for each in names if each not in behind]):
            self._unchanged(repository, group, right)
        return behind or names

    def _unchanged(self, repository: _Repository, group: Group, members: Collection[str]) -> None:
        there = {name: group.digest for name in members if not is_digest(name)}
        names = self._found(repository, members, group.digest, group.media_type, there)
        self._sink.unchanged(names)
        self.totals.images_done += len(names.indices)
        self._leave(names)

    def _found(
        self,
        repository: _Repository,
        members: Iterable[str],
        digest: str,
        media_type: str = "",
        there: Mapping[str, Digest | None] | None = None,
    ) -> Names:
        """More names, each with the index of its copy."""
        place = repository.place
        indices = {name: self.window.add((place, name)) for name in members}
        return Names(place, indices, digest, media_type, there or {})

    def _leave(self, names: Names) -> None:
        """These are done."""
        for index in names.indices.values():
            self.window.end(index)

    def _is_there(
        self, number: int, view: RepositoryView, target: TargetView, group: Group, names: list[str]
    ) -> bool:
        """Whether the target has all of it, as far as can be known without a request."""
        shared, copying = self._shared[number], self._copies[number]
        platforms = shared.platforms and not all(map(is_attached_tag, names))
        if platforms or shared.checks_blobs:
            return False
        there = _there(target, names, group.digest)
        if any(there.get("" if is_digest(each) else each) != group.digest for each in names):
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
        """The tags, in batches that are copied together."""
        keeps = entry.existing != "overwrite"
        alone: list[str] = []
        together: list[str] = []
        for tag in tags:
            # Each tag that the target keeps has a result of its own.
            stays = keeps and there.get(tag, "unknown") not in (None, digest)
            (alone if copying.is_alone(tag) or stays else together).append(tag)
        return [*([together] if together else []), *_alone(alone)]

    def _begin(self, repository: _Repository, group: Group, members: Iterable[str], share: Share) -> _Round:
        names = self._found(repository, members, group.digest, group.media_type, share.there)
        self._sink.expected(names)
        one = _Round(repository, names, share)
        self._rounds[one.index] = one
        return one

    def _fail(self, repository: _Repository, name: str, digest: str, error: Exception) -> None:
        """Report a name, or the whole repository, that cannot be copied. Raises `FailedFast`."""
        names = self._found(repository, (name,), digest)
        has_failed = self._lose(repository, names, name, error)
        self._leave(names)
        if has_failed and self._fail_fast:
            raise FailedFast

    def _lose(self, repository: _Repository, names: Names, name: str, error: Exception) -> bool:
        """Report that this one of the names was not copied; whether that is a failure."""
        (source, target), index = names.pair(name), names.indices[name]
        status = self._error_status(index, repository.place.entry, name, error)
        if status == "failed":
            repository.has_failed = True
            self.totals.images_failed += 1
            self.watchers.tell(index, source, target, CopyFailed(source, target, error))
        else:
            self.totals.images_done += 1
        result = PairResult(source=source, target=target, status=status, error=without_traceback(error))
        self._sink.ended(with_fields(names, indices={name: index}), result)
        return status == "failed"

    def tell(self, source: str, target: str, error: Exception) -> None:
        """Report a failure outside of the copies under way."""
        index = self.window.add((source, target), images=0)
        self.watchers.tell(index, source, target, CopyFailed(source, target, error))
        self.window.end(index)

    def _complete(self, repository: _Repository) -> None:
        if repository.is_listed and not repository.left and not repository.has_failed:
            self._sink.completed(repository.place)

    # -- groups → copies -----------------------------------------------------------------------------------

    async def _do(self, runner: Runner, job: _Job) -> None:
        rounds: dict[int, list[_Round]] = {}
        for one in job.rounds:
            rounds.setdefault(one.repository.place.target, []).append(one)
        targets = [of[0].share.target for of in rounds.values()]
        async with self._copies[job.entry].reads(job.group, targets) as reads:
            await run_together(
                self._copy_to(runner, job, *each) for each in zip(rounds.values(), reads, strict=True)
            )
        job.group.kept = None
        job.done.set()

    async def _copy_to(
        self, runner: Runner, job: _Job, rounds: Iterable[_Round], reads: TargetReads | None
    ) -> None:
        """Copy a target's part of a group, one round after the other."""
        copying, group = self._copies[job.entry], job.group
        try:
            for one in rounds:
                await self._may_begin()
                tag = one.share.tags[0] if one.share.tags else None
                await runner.copy(
                    one.index,
                    (group.named(tag), one.share.named(tag, group.digest)),
                    partial(copying.copy, group, one.share, reads=reads),
                    status_of=partial(status_of, reads),
                    error_status=partial(self._error_status, one.index, job.entry, tag or ""),
                )
        finally:
            if reads is not None:
                reads.end()

    def _error_status(self, index: int, entry: int, name: str, error: Exception) -> Status:
        """Whether it is only a referrer, which the engine leaves out of a copy of the image as well."""
        if self._entries[entry].referrers == "required" or not is_attached_tag(name):
            return status_of_error(error, self._entries[entry].existing)
        if not isinstance(error, CopyError) or not is_final(error):
            return "failed"
        warning = Warned(f"left out, as it is attached to an image and cannot be copied: {error}")
        self.watchers.tell(index, *self.window[index], warning)
        return "left out"

    def _end(self, index: int, result: PairResult) -> None:
        one = self._rounds.pop(index)
        repository, names, errors = one.repository, one.names, one.share.errors
        repository.left -= 1
        has_lost = [self._lose(repository, names, tag, error) for tag, error in errors.items()]
        rest = {name: each for name, each in names.indices.items() if name not in errors}
        if result.status == "failed":
            repository.has_failed = True
            self.totals.images_failed += len(rest) - 1  # the runner has counted one
        else:
            self.totals.images_done += len(rest) - 1
        if result.result is not None:
            self._tell_others(one, rest, result.result)
        self._sink.ended(with_fields(names, indices=rest), result)
        self._leave(names)
        self._complete(repository)
        if any(has_lost) and self._fail_fast:
            raise FailedFast

    def _tell_others(self, one: _Round, rest: Mapping[str, int], result: CopyResult) -> None:
        """Report the end of the names that had no copy of their own."""
        for name, index in rest.items():
            if index == one.index:
                continue
            source, target = pair = one.names.pair(name)
            became = one.names.tag(name, result)
            self.watchers.tell(index, *pair, CopyStarted(source, target, result.digest, result.media_type))
            done = CopyDone(result.digest, 0.0, *became, changed=result.changed)
            self.watchers.tell(index, *pair, done)


def _there(target: TargetView, names: Iterable[str], digest: Digest) -> dict[str, Digest | None]:
    """The target's manifests under the names, as far as they are known."""
    found: dict[str, Digest | None] = {}
    is_known = target.error is None
    for name in names:
        if is_digest(name):
            if is_known or digest in target.digests:
                found[""] = digest if digest in target.digests else None
        elif is_known or name in target.tags:
            found[name] = target.tags.get(name)
    return found


def _problem_of(target: TargetView, name: str) -> Exception | None:
    """Why the target can have no such name: that of its repository, or a tag that only a layout can have."""
    if target.repository is None:
        return target.error
    if is_digest(name) or is_tag(name):
        return None
    try:
        target.repository.with_tag(name)
    except InvalidInput as error:
        return error
    return None


def _alone(tags: list[str]) -> list[list[str]]:
    return [[each] for each in tags]


def _repository_of(source: Reference | LayoutReference) -> Reference | LayoutReference:
    if source.tag is None and source.digest is None:
        return source
    return replace(source, tag=None, digest=None)


def _for_entry(shared: Shared, entry: Entry) -> Shared:
    """The state shared by the copies of the entry, with the entry's options."""
    referrers = {"warn": None, "off": False, "required": True}[entry.referrers]
    options = replace(shared.options, referrers=referrers, existing=entry.existing, platforms=entry.platforms)
    platforms = tuple(map(Platform.parse, entry.platforms))
    return with_fields(shared, options=options, platforms=platforms)
