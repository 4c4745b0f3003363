"""`mirror`: one entry, applied without a state on disk; every copy is reported and counted, none is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Self, TypedDict

from crossdock.errors import (
    Advice,
    CopiesFailed,
    CopyError,
    InvalidInput,
    InvalidOption,
    InvalidReference,
    NothingMatched,
)
from crossdock.events import CopyDone, CopyFailed, CopyStarted
from crossdock.mirroring.applying import Applying
from crossdock.mirroring.choice import Sort, TagChoice
from crossdock.mirroring.entry import Entry, ReferrersMode, parse_source
from crossdock.mirroring.names import Namespace
from crossdock.mirroring.outcomes import Names, Place
from crossdock.mirroring.patterns import Patterns
from crossdock.mirroring.rename import Naming, Rename, collisions
from crossdock.mirroring.shard import Shard
from crossdock.mirroring.survey import Survey, UntaggedUnlisted
from crossdock.mirroring.views import RepositoryView, is_digest
from crossdock.oci.digest import Digest
from crossdock.oci.reference import Location, Reference
from crossdock.options import CopyOptions
from crossdock.runs.one import CopyResult
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import FIGURES, PairResult, Status, advice_to_repeat, without_traceback
from crossdock.runs.run import Deliver, Watchers
from crossdock.runs.runner import AT_ONCE, ResultListener
from crossdock.runs.totals import Totals

MOST_FAILURES = 10_000  # that are kept; each takes about 1 KB
MOST_WARNINGS = 1_000  # likewise
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
    """The entry that the arguments of `mirror` describe. Raises `InvalidInput`."""
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
        source=parse_source(source),
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


class MirrorRun:
    """A mirror as a run (`runs.run.Work`) that receives the outcome of every name (`outcomes.Sink`)."""

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
        """`entry` was checked; `shard`: its part alone. Raises `InvalidOption`."""
        if at_once < 1:
            raise InvalidOption("at_once must be 1 or more")
        self.entry = entry
        self._options = options
        self.on_result = on_result
        self.on_warning: Callable[[str], None] = lambda message: None
        self._fail_fast = fail_fast
        self._shard = shard
        self.totals = Totals()
        self._applying = Applying([entry], self._views, self, self.totals, at_once=at_once)
        self.window = self._applying.window
        self._survey: Survey | None = None
        self._watchers = Watchers(self.totals)
        self._repositories = self._tags = 0
        self._counts: dict[Status, int] = dict.fromkeys(
            ("copied", "unchanged", "left out", "reported", "failed"), 0
        )
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
    ) -> Self:
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
        places, entry = shared.places, self.entry
        self.totals.is_listed = False
        self._watchers = watchers
        places.prepare(entry.source_reference("catalog"), "source")
        for target in entry.targets:
            places.prepare(target.reference("catalog"), "target")
        with _told_as_copy_error():
            survey, names = await self._listed(places)
            self._repositories = len(names)
            whole = await self._copy(shared, names)
        for warning in places.take_warnings():
            self._warn(warning)
        if whole and not len(self.window):
            self._nothing = survey.nothing

    async def _copy(self, shared: Shared, names: list[str]) -> bool:
        """Copy these repositories, which the survey knows; False: the run failed fast. # network"""
        return await self._applying.run(shared, self._watchers, fail_fast=self._fail_fast)

    def result(self) -> MirrorResult:
        """The result so far."""
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
            unfinished=tuple(self._applying.unended()),
            totals=dict(self._sums),
            seconds=self.totals.seconds,
            warnings=tuple(self._warnings),
            nothing=self._nothing,
        )

    async def list_pairs(self, on_pair: Callable[[Location, Reference], None]) -> None:
        """Report every copy that `run` would look into, and copy nothing.

        Raises as `run` does, and at the end `CopiesFailed` for repositories that could not be listed, or
        `NothingMatched`. # network
        """
        errors: list[Exception] = []
        async with Places(self._options) as places:
            with _told_as_copy_error():
                survey, names = await self._listed(places)
                for name in names:
                    try:
                        for pair in self._pairs(name, await survey.chosen(name)):
                            on_pair(*pair)
                    except (CopyError, InvalidReference) as error:
                        errors.append(without_traceback(error))
            for warning in places.take_warnings():
                self._warn(warning)
        if not errors and (nothing := survey.nothing) is not None:
            raise nothing
        survey.finish()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise CopiesFailed(
                f"{len(errors)} repositories could not be listed: {errors[0]}", errors=tuple(errors)
            )

    def _pairs(self, name: str, chosen: Iterable[str]) -> Iterator[tuple[Location, Reference]]:
        for each in chosen:
            tag, digest = (None, Digest(each)) if is_digest(each) else (each, None)
            source = self.entry.source_reference(name, tag, digest)
            for target in self.entry.targets:
                yield source, self.entry.target_reference(target, name, tag, digest)

    async def _listed(self, places: Places) -> tuple[Survey, list[str]]:
        """The survey, and the repositories of the shard.

        Raises `CopyError`, and `InvalidInput` for what cannot work, before anything is copied. # network
        """
        entry, shard = self.entry, self._shard
        self._survey = survey = Survey(entry, places, shard=shard, on_warning=self._warn)
        names = await survey.repositories()
        if found := collisions(names, entry.naming):
            more = f", and {len(found) - 1} more do so" if len(found) > 1 else ""
            raise InvalidInput(
                f"repositories of {entry.source}: {found[0]}{more}",
                advice=Advice(
                    "correct-pattern", "rename one of them, leave it out, or keep more of the names"
                ),
            )
        await survey.check_answered()
        return survey, [each for each in names if shard is None or shard.has(entry, each)]

    async def _views(self, _: int) -> AsyncGenerator[RepositoryView, None]:
        assert self._survey is not None
        async with aclosing(self._survey.views()) as views:
            async for view in views:
                self._tags += len(view.names)
                yield view

    def _warn(self, message: str) -> None:
        if len(self._warnings) < MOST_WARNINGS and message not in self._warnings:
            self._warnings.append(message)
            self.on_warning(message)

    # -- outcomes.Sink -------------------------------------------------------------------------------------

    def unchanged(self, names: Names) -> None:
        """As `Sink.unchanged`."""
        for name in names.indices:
            self._end_likewise(names, name, "unchanged")

    def expected(self, names: Names) -> None:
        """As `Sink.expected`."""

    def ended(self, names: Names, result: PairResult) -> None:
        """As `Sink.ended`."""
        first = True
        for name, index in names.indices.items():
            if first:
                self._end(index, _of_first(names, name, result))
            else:
                self._end_likewise(names, name, result.status, result)
            first = False

    def completed(self, place: Place) -> None:
        """As `Sink.completed`."""

    def _end_likewise(self, names: Names, name: str, status: Status, first: PairResult | None = None) -> None:
        """The name has ended without a copy of its own: as the `first` of its manifest, or unchanged."""
        (source, target), index = names.pair(name), names.indices[name]
        if first is not None and first.error is not None:
            if status == "failed":
                self._watchers.tell(index, source, target, CopyFailed(source, target, first.error))
            self._end(index, PairResult(source=source, target=target, status=status, error=first.error))
            return
        copied = first.result if first is not None else None
        tag, previous = names.tag(name, copied)
        result = CopyResult(
            source=source,
            target=target,
            digest=copied.digest if copied is not None else names.digest,
            source_digest=copied.source_digest if copied is not None else names.digest,
            media_type=copied.media_type if copied is not None else names.media_type,
            manifests=1,
            tag=tag,
            previous_digest=previous,
            changed=status != "unchanged",
        )
        if first is None:  # names that had one were reported with it, by `Applying`
            self._watchers.tell(
                index, source, target, CopyStarted(source, target, result.digest, result.media_type)
            )
            done = CopyDone(result.digest, 0.0, tag, previous, changed=False)
            self._watchers.tell(index, source, target, done)
        self._end(index, PairResult(source=source, target=target, status=status, result=result))

    def _end(self, index: int, result: PairResult) -> None:
        self._counts["copied" if result.status == "left_behind" else result.status] += 1
        if result.result is not None:
            for name in FIGURES:
                self._sums[name] += getattr(result.result, name)
        if result.status == "failed" and len(self._failures) < MOST_FAILURES:
            self._failures.append(result)
        if self.on_result is not None:
            self.on_result(index, result)


def _of_first(names: Names, name: str, result: PairResult) -> PairResult:
    """`result` as that of `name`: the tag that stood for all may have been refused."""
    source, target = names.pair(name)
    if result.result is None or result.target == target:
        return result
    tag, previous = names.tag(name, result.result)
    copied = replace(result.result, source=source, target=target, tag=tag, previous_digest=previous)
    return replace(result, source=source, target=target, result=copied)


@contextmanager
def _told_as_copy_error() -> Iterator[None]:
    """Raise a `CopyError` about the source where an entry of a file would be refused as invalid."""
    try:
        yield
    except UntaggedUnlisted as error:
        raise CopyError(
            str(error),
            advice=error.advice,
            operation="list manifests of",
            side="source",
            reference=error.reference or "",
        ) from None
