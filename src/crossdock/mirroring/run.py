"""`mirror`: everything that a registry holds, copied to others, however much that is.

What is to be copied waits in a queue of bounded length, and what was copied is counted and told, not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct, field

from crossdock.api import CopyResult, refuse_running_loop, run
from crossdock.errors import CopiesFailed, CopyError, InvalidOption, InvalidReference, NothingMatched
from crossdock.events import CopyFailed, Warned, check_listener
from crossdock.many import (
    AT_ONCE,
    SUMS,
    ManyListener,
    PairResult,
    Reach,
    Status,
    hint_to_repeat,
    without_traceback,
)
from crossdock.mirroring.listing import Item, Listing, UntaggedUnlisted
from crossdock.mirroring.names import Namespace, Selection, check
from crossdock.mirroring.pair import PairCopy, Resolved
from crossdock.oci.reference import Reference
from crossdock.options import CopyOptions
from crossdock.transfer.attachedtags import is_attached_tag
from crossdock.transfer.tally import Tally
from crossdock.transfer.tasks import run_together
from crossdock.wiring import Places, open_resuming, open_workshop

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient

LISTED_AT_ONCE = 4  # repositories
WAITING = 256  # items that were listed and are not begun
MOST_FAILURES = 10_000  # that are kept; each takes about 1 KB
MOST_WARNINGS = 1_000  # likewise
_NOT_YET = ("…", "…")

ResultListener = Callable[[int, PairResult], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorResult:
    """How a mirror ended. A copy is one tag, or one manifest without tag, for one target.

    ``tags`` counts what the source has of both, or of what the patterns leave, as far as it was listed.
    ``copies`` were listed before the end: ``copied`` of them were pushed, in whole or in part, ``unchanged``
    were there before. ``left_out`` are tags of signatures and the like that are broken or refused, unless
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
    failed: int
    failures: tuple[PairResult, ...]
    unfinished: tuple[PairResult, ...]
    totals: dict[str, int]
    seconds: float
    warnings: tuple[str, ...] = ()
    nothing: NothingMatched | None = None

    @property
    def failure(self) -> CopiesFailed | NothingMatched | None:
        """What to raise for the copies that failed, or when there was nothing to copy; else None."""
        if not self.failed:
            return self.nothing
        errors = tuple(each.error for each in self.failures if each.error is not None)
        return CopiesFailed(
            f"{self.failed} of {self.copies} copies failed",
            hint=hint_to_repeat("mirror again", errors),
            errors=errors,
        )


async def mirror(
    source: str,
    targets: str | Iterable[str],
    options: CopyOptions | None = None,
    *,
    repositories: Iterable[str] = (),
    exclude: Iterable[str] = (),
    tags: Iterable[str] = (),
    untagged: bool = False,
    on_event: ManyListener = lambda index, event: None,
    on_result: ResultListener = lambda index, result: None,
    fail_fast: bool = False,
    at_once: int = AT_ONCE,
) -> MirrorResult:
    """Copy all repositories and tags of `source`, ``HOST[:PORT][/PREFIX]``, to each of `targets`, the same.

    `repositories`, `exclude` and `tags` are patterns (``*``, ``?``, ``[a-z]``; a ``*`` takes slashes too) of
    names below the prefix. Repositories that are named without patterns are not looked for in the catalog.
    `untagged`: manifests without a tag too, where the source lists them (Azure). Nothing is ever removed.
    What refers to the manifests is copied unless ``options.referrers`` is False. `on_event` and `on_result`
    get the index of the copy, in the order listed, and must not block.

    Raises `InvalidInput` before anything is sent, and `CopyError` when the repositories, or manifests without
    tag, cannot be listed. Copies that fail do not raise: see the result.
    """
    listed = (targets,) if isinstance(targets, str) else tuple(targets)
    mirroring = MirrorRun(
        Namespace.parse(source),
        [Namespace.parse(each) for each in listed],
        Selection(tuple(repositories), tuple(exclude), tuple(tags)),
        options,
        untagged=untagged,
        on_event=on_event,
        on_result=on_result,
        fail_fast=fail_fast,
        at_once=at_once,
    )
    await mirroring.run()
    return mirroring.result()


def mirror_sync(
    source: str,
    targets: str | Iterable[str],
    options: CopyOptions | None = None,
    *,
    repositories: Iterable[str] = (),
    exclude: Iterable[str] = (),
    tags: Iterable[str] = (),
    untagged: bool = False,
    on_event: ManyListener = lambda index, event: None,
    on_result: ResultListener = lambda index, result: None,
    fail_fast: bool = False,
    at_once: int = AT_ONCE,
) -> MirrorResult:
    """`mirror` for callers without an event loop; runs on uvloop. Raises RuntimeError inside a loop."""
    refuse_running_loop("mirror")
    return run(
        mirror(
            source,
            targets,
            options,
            repositories=repositories,
            exclude=exclude,
            tags=tags,
            untagged=untagged,
            on_event=on_event,
            on_result=on_result,
            fail_fast=fail_fast,
            at_once=at_once,
        )
    )


class _FailedFast(Exception):
    """Ends the run."""


class _Work(Struct):
    """An item with the index of its copy to the first target; the others follow."""

    item: Item
    index: int
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Window:
    """The copies that are listed and not done, as displays name them. Its length counts all listed."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[str, str]] = {}
        self.begun: set[int] = set()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[str, str]:
        return self.open.get(index, _NOT_YET)

    def add(self, pair: tuple[object, object]) -> int:
        """The index of one more copy."""
        self.open[self._length] = str(pair[0]), str(pair[1])
        self._length += 1
        return self._length - 1

    def end(self, index: int) -> None:
        """The copy is done."""
        self.open.pop(index, None)
        self.begun.discard(index)


class MirrorRun:
    """A run of one mirror. `result` can be asked for at any time, also after `run` was cancelled."""

    def __init__(
        self,
        source: Namespace,
        targets: list[Namespace],
        selection: Selection,
        options: CopyOptions | None = None,
        *,
        untagged: bool = False,
        on_event: ManyListener = lambda index, event: None,
        on_result: ResultListener = lambda index, result: None,
        fail_fast: bool = False,
        at_once: int = AT_ONCE,
    ) -> None:
        """Raises `InvalidInput` and `InvalidOption`; no I/O."""
        if at_once < 1:
            raise InvalidOption("at_once must be 1 or more")
        check(source, targets)
        selection.named(source)
        self._source = source
        self._targets = targets
        self._selection = selection
        self._options = options or CopyOptions()
        self._untagged = untagged
        check_listener(on_event)
        self.on_event = on_event
        self.on_result = on_result
        self.on_warning: Callable[[str], None] = lambda message: None
        self._fail_fast = fail_fast
        self._at_once = at_once
        self.window = Window()
        self._queue: asyncio.Queue[_Work | None] = asyncio.Queue(WAITING)
        self._reach = Reach()
        self._repositories = self._tags = 0
        self._counts: dict[Status, int] = {"copied": 0, "unchanged": 0, "left out": 0, "failed": 0}
        self._totals = dict.fromkeys(SUMS, 0)
        self._failures: list[PairResult] = []
        self._warnings: list[str] = []
        self._nothing: NothingMatched | None = None
        self._started = time.monotonic()

    async def run(self) -> None:
        """Mirror it. Raises as `mirror` does, and CancelledError."""
        async with (
            Places(self._options) as places,
            open_workshop(self._options) as workshop,
            open_resuming(self._options) as resuming,
        ):
            client = places.client(self._source.reference("catalog"), "source")
            for target in self._targets:
                places.prepare(target.reference("catalog"), "target")
            listing = self._listing(client)
            names = await listing.repositories()
            self._repositories = len(names)
            copying = PairCopy(places, workshop, resuming, self._selection)
            try:
                work = [self._work(copying) for _ in range(self._at_once)]
                await run_together([self._list(names, listing), *work])
            except _FailedFast:
                pass
            else:
                for warning in places.take_warnings():
                    self._warn(warning)
                listing.finish()
                self._nothing = None if len(self.window) else listing.nothing()

    def result(self) -> MirrorResult:
        """What is known by now."""
        begun = self.window.begun
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
            failed=self._counts["failed"],
            failures=tuple(self._failures),
            unfinished=tuple(left),
            totals=dict(self._totals),
            seconds=time.monotonic() - self._started,
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
            listing = self._listing(places.client(self._source.reference("catalog"), "source"))
            async for item in listing.items():
                if isinstance(item, Exception):
                    errors.append(without_traceback(item))
                    continue
                is_empty = False
                for target in self._targets:
                    on_pair(_reference(self._source, item), _reference(target, item))
            for warning in places.take_warnings():
                self._warn(warning)
        if is_empty and not errors:
            raise listing.nothing()
        listing.finish()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise CopiesFailed(
                f"{len(errors)} repositories could not be listed: {errors[0]}", errors=tuple(errors)
            )

    def _listing(self, client: RegistryClient) -> Listing:
        return Listing(
            client,
            self._source,
            self._selection,
            untagged=self._untagged,
            referrers=self._options.referrers is not False,
            on_warning=self._warn,
        )

    def _warn(self, message: str) -> None:
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings.append(message)
            self.on_warning(message)

    # -- listing → queue -----------------------------------------------------------------------------------

    async def _list(self, names: list[str], listing: Listing) -> None:
        pending = iter(names)

        async def take() -> None:
            for name in pending:
                await self._list_one(name, listing)

        await run_together(take() for _ in range(min(LISTED_AT_ONCE, len(names))))
        for _ in range(self._at_once):
            await self._queue.put(None)

    async def _list_one(self, name: str, listing: Listing) -> None:
        try:
            pairs = [(self._source.reference(name), target.reference(name)) for target in self._targets]
        except InvalidReference as error:  # too long behind a target's prefix
            for target in self._targets:
                self._fail(self.window.add((f"{self._source}/{name}", f"{target}/{name}")), error)
            return
        try:
            if (given_up := self._reach.error_for(pairs[0])) is not None:
                raise given_up
            contents = await listing.contents(name)
        except UntaggedUnlisted:
            raise
        except Exception as error:
            self._reach.missed(pairs[0], error)
            for pair in pairs:
                self._fail(self.window.add((pair[0].locator, pair[1].locator)), error)
            return
        lists = [await self._offer(each) for each in contents.referrers_lists]
        for each in lists:
            await each.done.wait()
        for item in contents.items:
            await self._offer(item)

    async def _offer(self, item: Item) -> _Work:
        pairs = [(_reference(self._source, item), _reference(each, item)) for each in self._targets]
        work = _Work(item, min([self.window.add(pair) for pair in pairs]))
        self._tags += 1
        await self._queue.put(work)
        return work

    # -- queue → copies ------------------------------------------------------------------------------------

    async def _work(self, copying: PairCopy) -> None:
        while (work := await self._queue.get()) is not None:
            resolved = Resolved(_reference(self._source, work.item))
            for index, target in enumerate(self._targets, work.index):
                await self._copy(index, resolved, _reference(target, work.item), copying)
            work.done.set()

    async def _copy(self, index: int, resolved: Resolved, target: Reference, copying: PairCopy) -> None:
        self.window.begun.add(index)
        pair = resolved.source, target
        if (given_up := self._reach.error_for(pair)) is not None:
            self._fail(index, given_up)
            await asyncio.sleep(0)  # a copy that fails without waiting lets the others go on
            return
        try:
            result, changed = await copying.copy(resolved, target, Tally(partial(self.on_event, index)))
        except Exception as error:
            if self._may_leave_out(target, error):
                self._leave_out(index, error)
                return
            self._reach.missed(pair, error)
            self._fail(index, error)
            return
        self._reach.reached(pair)
        self._done(index, result, "copied" if changed else "unchanged")

    def _done(self, index: int, result: CopyResult, status: Status) -> None:
        for name in SUMS:
            self._totals[name] += getattr(result, name)
        self._end(index, PairResult(source=result.source, target=result.target, status=status, result=result))

    def _may_leave_out(self, target: Reference, error: Exception) -> bool:
        """Whether it is but something attached, as the engine leaves it out of a copy of the image."""
        if self._options.referrers is True or not (
            isinstance(error, CopyError) and is_attached_tag(target.tag)
        ):
            return False
        from crossdock.transfer.referrers import is_final

        return is_final(error)

    def _leave_out(self, index: int, error: Exception) -> None:
        source, target = self.window[index]
        self.on_event(index, Warned(f"left out, as it is attached to an image and cannot be copied: {error}"))
        kept = without_traceback(error)
        self._end(index, PairResult(source=source, target=target, status="left out", error=kept))

    def _fail(self, index: int, error: Exception) -> None:
        source, target = self.window[index]
        self.on_event(index, CopyFailed(source, target, error))
        failed = PairResult(source=source, target=target, status="failed", error=without_traceback(error))
        if len(self._failures) < MOST_FAILURES:
            self._failures.append(failed)
        self._end(index, failed)
        if self._fail_fast:
            raise _FailedFast

    def _end(self, index: int, result: PairResult) -> None:
        self._counts[result.status] += 1
        self.on_result(index, result)
        self.window.end(index)


def _reference(place: Namespace, item: Item) -> Reference:
    return place.reference(item.repository, item.tag, item.digest)
