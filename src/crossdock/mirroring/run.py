"""`mirror`: everything that a registry holds, copied to others, however much that is.

Copies to be made wait in a queue of bounded length; those that are made are counted and reported, not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from msgspec import Struct, field

from crossdock.errors import (
    CopiesFailed,
    CopyError,
    InvalidOption,
    InvalidReference,
    NothingMatched,
    is_final,
)
from crossdock.events import Warned
from crossdock.mirroring.choice import Sort, TagChoice
from crossdock.mirroring.entry import Entry, ReferrersMode
from crossdock.mirroring.listing import Item, Listing, TimesUnlisted, UntaggedUnlisted
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.pair import PairCopy, Resolved
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming, Rename
from crossdock.mirroring.shard import Shard
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import (
    FIGURES,
    PairResult,
    Status,
    advice_to_repeat,
    status_of_error,
    without_traceback,
)
from crossdock.runs.run import Deliver, Watchers
from crossdock.runs.runner import AT_ONCE, ResultListener, Runner
from crossdock.runs.totals import Totals
from crossdock.tasks import run_together

LISTED_AT_ONCE = 4  # repositories
WAITING = 256  # items that were listed and are not begun
MOST_FAILURES = 10_000  # that are kept; each takes about 1 KB
MOST_WARNINGS = 1_000  # likewise
_NOT_YET = ("…", "…")
_REFERRERS: dict[bool | None, ReferrersMode] = {None: "warn", True: "required", False: "off"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorResult:
    """How a mirror ended. A copy is one tag, or one manifest without tag, for one target.

    ``tags`` counts what the source has of both, or of what the patterns leave, as far as it was listed.
    ``copies`` were listed before the end: ``copied`` of them were pushed, in whole or in part, ``unchanged``
    were there before. ``reported`` are tags that mean something else at the target and stay (`CopyOptions.
    existing`). ``left_out`` are tags of signatures and the like that are broken or refused, unless
    referrers were asked for. ``failures`` are the first 10,000 that failed, ``unfinished`` those that the end
    of the run left. ``totals`` are sums over all results, sizes in bytes, as those of `ManyResult`.
    ``warnings`` are the first 1,000 about the source's lists; those of a copy are in its result. ``nothing``
    is why there was nothing to copy.
    """

    repositories: int
    tags: int
    copies: int
    copied: int
    unchanged: int
    left_out: int
    reported: int
    failed: int
    failures: tuple[PairResult, ...]
    unfinished: tuple[PairResult, ...]
    totals: dict[str, int]
    seconds: float
    warnings: tuple[str, ...] = ()
    nothing: NothingMatched | None = None

    @property
    def failure(self) -> CopiesFailed | NothingMatched | None:
        """The error to raise for the copies that failed, or when there was nothing to copy; else None."""
        if not self.failed:
            return self.nothing
        errors = tuple(each.error for each in self.failures if each.error is not None)
        return CopiesFailed(
            f"{self.failed} of {self.copies} copies failed",
            advice=advice_to_repeat("mirror again", errors),
            errors=errors,
        )


class MirrorOptions(TypedDict, total=False):
    """Which part of a registry is mirrored, how it is named at the targets, and how.

    ``repositories``, ``exclude``, ``tags`` and ``exclude_tags`` are patterns of names below the prefix and of
    tags: a shell's (``*``, which takes slashes too, ``?``, ``[a-z]``) or ``/regular expressions/``.
    Repositories that are named without patterns are not looked for in the catalog. ``semver``, ``newest``,
    ``sort``, ``pushed_after`` (a moment, in seconds since the epoch), ``pushed_within`` and ``min_age`` (in
    seconds) choose tags as `mirroring.choice.TagChoice` says. ``untagged``: manifests without a tag too,
    where the source lists them (Azure). ``rename`` (pairs of a regular expression and what takes its place,
    of which the first that matches applies) and ``flatten`` (the last parts to keep, so many) make the names
    at the targets.

    ``on_event`` is called with the index of the copy, in the order listed, and a value of
    `crossdock.events`, ``on_result`` with the index and a `PairResult`; neither may block. ``fail_fast``: the
    first failure ends the run. ``at_once`` images (32) are under way at the same time.
    """

    repositories: Iterable[str]
    exclude: Iterable[str]
    tags: Iterable[str]
    exclude_tags: Iterable[str]
    semver: str
    newest: int | None
    sort: Sort
    pushed_after: float | None
    pushed_within: float | None
    min_age: float | None
    untagged: bool
    rename: Iterable[tuple[str, str]]
    flatten: int
    on_event: Deliver | None
    on_result: ResultListener | None
    fail_fast: bool
    at_once: int


def entry_of(source: str, targets: str | Iterable[str], options: CopyOptions, chosen: MirrorOptions) -> Entry:
    """The entry that `mirror` is told by its arguments. Raises `InvalidInput`."""
    listed = (targets,) if isinstance(targets, str) else tuple(targets)
    choice = TagChoice(
        patterns=Patterns(tuple(chosen.get("tags", ())), tuple(chosen.get("exclude_tags", ()))),
        semver=chosen.get("semver", ""),
        newest=chosen.get("newest"),
        sort=chosen.get("sort", "semver"),
        pushed_after=chosen.get("pushed_after"),
        pushed_within=chosen.get("pushed_within"),
        min_age=chosen.get("min_age"),
    )
    entry = Entry(
        name=source,
        source=Namespace.parse(source),
        targets=tuple(Namespace.parse(each) for each in listed),
        repositories=Patterns(tuple(chosen.get("repositories", ())), tuple(chosen.get("exclude", ()))),
        tags=choice,
        untagged=chosen.get("untagged", False),
        platforms=options.platforms,
        referrers=_REFERRERS[options.referrers],
        naming=Naming(
            renames=tuple(Rename(*each) for each in chosen.get("rename", ())),
            flatten=chosen.get("flatten", 0),
        ),
        existing=options.existing,
    )
    entry.check()
    return entry


class _Work(Struct):
    """An item with the index of its copy to the first target; the others follow."""

    item: Item
    index: int
    digest_tags: frozenset[str]  # of its repository at the source
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Window:
    """The copies that are listed and not done, as displays name them. Its length counts all listed."""

    def __init__(self, totals: Totals) -> None:
        self.open: dict[int, tuple[str, str]] = {}
        self._totals = totals

    def __len__(self) -> int:
        return self._totals.images_found

    def __getitem__(self, index: int) -> tuple[str, str]:
        return self.open.get(index, _NOT_YET)

    def add(self, pair: tuple[object, object]) -> int:
        """The index of one more copy."""
        index = self._totals.images_found
        self.open[index] = str(pair[0]), str(pair[1])
        self._totals.images_found += 1
        return index

    def end(self, index: int) -> None:
        """The copy is done."""
        self.open.pop(index, None)


class MirrorRun:
    """A mirror as a run (`runs.run.Work`)."""

    def __init__(
        self,
        entry: Entry,
        options: CopyOptions,
        *,
        on_result: ResultListener | None = None,
        fail_fast: bool = False,
        at_once: int = AT_ONCE,
        shard: Shard | None = None,
    ) -> None:
        """`entry` is of a registry, and was checked; `shard`: its part alone. Raises `InvalidOption`."""
        if at_once < 1:
            raise InvalidOption("at_once must be 1 or more")
        assert isinstance(entry.source, Namespace)
        self.entry = entry
        self._source = entry.source
        self._targets = entry.targets
        self._options = options
        self.on_result = on_result
        self.on_warning: Callable[[str], None] = lambda message: None
        self._fail_fast = fail_fast
        self._at_once = at_once
        self._shard = shard
        self.totals = Totals()
        self.window = Window(self.totals)
        self._queue: asyncio.Queue[_Work | None] = asyncio.Queue(WAITING)
        self._begun: set[int] = set()
        self._repositories = self._tags = 0
        self._counts: dict[Status, int] = {
            "copied": 0,
            "unchanged": 0,
            "left out": 0,
            "reported": 0,
            "failed": 0,
        }
        self._sums = dict.fromkeys(FIGURES, 0)
        self._failures: list[PairResult] = []
        self._warnings: list[str] = []
        self._nothing: NothingMatched | None = None

    @classmethod
    def of(
        cls,
        source: str,
        targets: str | Iterable[str],
        options: CopyOptions,
        chosen: MirrorOptions,
        shard: Shard | None = None,
    ) -> MirrorRun:
        """The run of `mirror` with these arguments. Raises `InvalidInput` and `InvalidOption`."""
        return cls(
            entry_of(source, targets, options, chosen),
            options,
            on_result=chosen.get("on_result"),
            fail_fast=chosen.get("fail_fast", False),
            at_once=chosen.get("at_once", AT_ONCE),
            shard=shard,
        )

    async def run(self, shared: Shared, watchers: Watchers) -> None:
        """Mirror it. Raises as `Session.mirror` says. # network"""
        places = shared.places
        self.totals.is_listed = False
        places.prepare(self._source.reference("catalog"), "source")
        for target in self._targets:
            places.prepare(target.reference("catalog"), "target")
        listing = self._listing(places)
        names = await listing.repositories()
        self._repositories = len(names)
        runner = Runner(watchers, self._end, fail_fast=self._fail_fast)
        self._begun = runner.begun
        copying = PairCopy(shared, not self.entry.tags.takes_all)
        whole = await runner.work(
            self._queue.get,
            partial(self._copy_to_all, runner, copying, watchers),
            self._at_once,
            beside=[self._list(names, listing, runner)],
        )
        if whole:
            for warning in places.take_warnings():
                self._warn(warning)
            listing.finish()
            self._nothing = None if len(self.window) else listing.nothing()

    def result(self) -> MirrorResult:
        """The result so far."""
        begun = self._begun
        left = [
            PairResult(source=each[0], target=each[1], status="cancelled" if index in begun else "not begun")
            for index, each in self.window.open.items()
        ]
        return MirrorResult(
            repositories=self._repositories,
            tags=self._tags,
            copies=len(self.window),
            copied=self._counts["copied"],
            unchanged=self._counts["unchanged"],
            left_out=self._counts["left out"],
            reported=self._counts["reported"],
            failed=self._counts["failed"],
            failures=tuple(self._failures),
            unfinished=tuple(left),
            totals=dict(self._sums),
            seconds=self.totals.seconds,
            warnings=tuple(self._warnings),
            nothing=self._nothing,
        )

    async def list_pairs(self, on_pair: Callable[[Reference, Reference], None]) -> None:
        """Tell every copy that `run` would look into, and copy nothing.

        Raises as `run` does, and at the end `CopiesFailed` for repositories that could not be listed, or
        `NothingMatched`.
        """
        errors: list[Exception] = []
        is_empty = True
        async with Places(self._options) as places:
            listing = self._listing(places)
            async for item in listing.items():
                if isinstance(item, Exception):
                    errors.append(without_traceback(item))
                    continue
                is_empty = False
                for target in self._targets:
                    on_pair(self._reference(item), self._reference_at(target, item))
            for warning in places.take_warnings():
                self._warn(warning)
        if is_empty and not errors and (nothing := listing.nothing()) is not None:
            raise nothing
        listing.finish()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise CopiesFailed(
                f"{len(errors)} repositories could not be listed: {errors[0]}", errors=tuple(errors)
            )

    def _listing(self, places: Places) -> Listing:
        return Listing(places, self.entry, shard=self._shard, on_warning=self._warn)

    def _reference(self, item: Item) -> Reference:
        return self._source.reference(item.repository, item.tag, item.digest)

    def _reference_at(self, target: Namespace, item: Item) -> Reference:
        return self.entry.target_reference(target, item.repository, item.tag, item.digest)

    def _warn(self, message: str) -> None:
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings.append(message)
            self.on_warning(message)

    # -- listing → queue -----------------------------------------------------------------------------------

    async def _list(self, names: list[str], listing: Listing, runner: Runner) -> None:
        pending = iter(names)

        async def take() -> None:
            for name in pending:
                await self._list_one(name, listing, runner)

        await run_together(take() for _ in range(min(LISTED_AT_ONCE, len(names))))
        self.totals.is_listed = True
        for _ in range(self._at_once):
            await self._queue.put(None)

    async def _list_one(self, name: str, listing: Listing, runner: Runner) -> None:
        try:
            source = self._source.reference(name)
            pairs = [(source, self.entry.target_reference(target, name)) for target in self._targets]
        except InvalidReference as error:  # too long behind a target's prefix, or renamed to what is no name
            for target in self._targets:
                there = f"{target}/{self.entry.target_name(name)}"
                self._fail(runner, f"{self._source}/{name}", there, error)
            return
        try:
            if (given_up := runner.reach.error_for(pairs[0])) is not None:
                raise given_up
            contents = await listing.contents(name)
        except (UntaggedUnlisted, TimesUnlisted):
            raise
        except Exception as error:
            runner.reach.missed(pairs[0], error)
            for pair in pairs:
                self._fail(runner, pair[0].locator, pair[1].locator, error)
            return
        digest_tags = contents.digest_tags
        lists = [await self._offer(each, digest_tags) for each in contents.referrers_lists]
        for each in lists:
            await each.done.wait()
        for item in contents.items:
            await self._offer(item, digest_tags)

    async def _offer(self, item: Item, digest_tags: frozenset[str]) -> _Work:
        pairs = [(self._reference(item), self._reference_at(each, item)) for each in self._targets]
        work = _Work(item, min([self.window.add(pair) for pair in pairs]), digest_tags)
        self._tags += 1
        await self._queue.put(work)
        return work

    def _fail(self, runner: Runner, source: str, target: str, error: Exception) -> None:
        """A repository that cannot be listed counts as one copy to each target."""
        runner.fail(self.window.add((source, target)), source, target, error)

    # -- queue → copies ------------------------------------------------------------------------------------

    async def _copy_to_all(self, runner: Runner, copying: PairCopy, watchers: Watchers, work: _Work) -> None:
        resolved = Resolved(self._reference(work.item), work.digest_tags, self.entry.tags.leaves_out)
        for index, place in enumerate(self._targets, work.index):
            target = self._reference_at(place, work.item)
            await runner.copy(
                index,
                (resolved.source, target),
                partial(copying.copy, resolved, target),
                status_of=lambda result: "copied" if result.changed else "unchanged",
                error_status=partial(self._error_status, watchers, index, target),
            )
        work.done.set()

    def _error_status(self, watchers: Watchers, index: int, target: Reference, error: Exception) -> Status:
        """Whether it is only a referrer, which the engine leaves out of a copy of the image as well."""
        if self._options.referrers is True or not (
            isinstance(error, CopyError) and is_attached_tag(target.tag)
        ):
            return status_of_error(error, self._options.existing)
        if not is_final(error):
            return "failed"
        warning = Warned(f"left out, as it is attached to an image and cannot be copied: {error}")
        watchers.tell(index, *self.window[index], warning)
        return "left out"

    def _end(self, index: int, result: PairResult) -> None:
        self._counts[result.status] += 1
        if result.result is not None:
            for name in FIGURES:
                self._sums[name] += getattr(result.result, name)
        if result.status == "failed" and len(self._failures) < MOST_FAILURES:
            self._failures.append(result)
        if self.on_result is not None:
            self.on_result(index, result)
        self.window.end(index)
