"""`Session`: connections, tokens, memory and the journal of uploads, for as many runs as one likes.

async with Session(options) as session:
    result = await session.copy("alpine:3", "registry.example/alpine:3")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from msgspec.structs import replace

from crossdock.activity import CURRENT
from crossdock.descriptors import affordable
from crossdock.errors import InvalidInput
from crossdock.events import Event, Listener
from crossdock.oci.platform import Platform
from crossdock.oci.reference import Location, as_location
from crossdock.options import CopyOptions
from crossdock.runs.one import CopyResult, CopySpec, OneCopy
from crossdock.runs.places import Places, Shared, as_places, open_resuming
from crossdock.runs.run import Deliver, Run, Watchers, is_async
from crossdock.runs.workshop import open_share, open_workshop
from crossdock.tasks import stop

if TYPE_CHECKING:
    from crossdock.mirroring.run import MirrorOptions, MirrorResult
    from crossdock.runs.looking import Inspection
    from crossdock.runs.places import AnySource, AnyTarget
    from crossdock.runs.results import ManyResult, TargetsResult
    from crossdock.runs.run import Work

T = TypeVar("T")

COPIES_AT_ONCE = 24
"""Single copies of a session that are under way at once. Each makes more requests than one of a list, for its
referrers, and all of them should open no more connections (`runs.runner.AT_ONCE`)."""


class Session:
    """Runs that share connections, tokens, memory and a journal. Use it in an ``async with`` block.

    Leaving the block cancels the runs under way and waits for their ends. A session belongs to the event loop
    and process that entered it; used anywhere else, or afterwards, it raises RuntimeError.
    """

    def __init__(self, options: CopyOptions | None = None) -> None:
        """Raises `InvalidInput` for platforms that cannot be parsed; no I/O."""
        self._options = options or CopyOptions()
        self._platforms = tuple(Platform.parse(text) for text in self._options.platforms)
        self._places = Places(self._options)
        self._stack = AsyncExitStack()
        self._shared: asyncio.Future[Shared] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._slots = asyncio.Semaphore(affordable(COPIES_AT_ONCE, per=8))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._is_closed = False
        self._parent: tuple[Session, str, Callable[[], bool]] | None = None

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a session can be entered once")
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        await self._stack.enter_async_context(self._places)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.check()
        self._is_closed = True
        try:
            await stop(*self._tasks, self._shared)
        finally:
            await self._stack.aclose()

    # -- runs ----------------------------------------------------------------------------------------------

    @overload
    def copy(
        self,
        source: AnySource,
        target: AnyTarget,
        *,
        source_name: str | None = None,
        target_name: str | None = None,
        on_event: Listener | None = None,
    ) -> Run[CopyResult]: ...
    @overload
    def copy(
        self,
        source: AnySource,
        target: list[Any] | tuple[Any, ...],
        *,
        source_name: str | None = None,
        target_name: str | None = None,
        on_event: Listener | None = None,
    ) -> Run[TargetsResult]: ...
    def copy(
        self,
        source: AnySource,
        target: AnyTarget | list[Any] | tuple[Any, ...],
        *,
        source_name: str | None = None,
        target_name: str | None = None,
        on_event: Listener | None = None,
    ) -> Run[Any]:
        """Copy what `source` names to `target`, byte-exact, with everything below it; the tag is written
        last.

        They are references (``host[:port]/repository[:tag][@digest]``) or layouts
        (``oci:DIR[:tag|@digest]``), as text or parsed, or objects: a `Source` and a `Target`, each one
        repository, in which `source_name` and `target_name` name a tag or digest. By default that is the
        other side's tag, or else ``latest``. `on_event` is called with values of `crossdock.events`, and
        awaited if it is a coroutine function; one that raises ends the copy with its error.

        Raises `InvalidInput` before anything is sent. Awaiting raises `CopyError` with operation, side,
        reference and cause when the copy fails; other exceptions of your own objects pass through. Then the
        target has no new tag, and upload sessions are dropped, also on cancellation, except those that the
        same copy can resume later (``options.state``; the event `UploadKept` names them).

        `target` may be a list: then the source is read once for all of them, and the result is a
        `TargetsResult` with an entry for each. It does not raise when only some of them fail; when none has
        the content it raises `CopiesFailed`. Events do not say which target they are of: see `CopyStarted`,
        or iterate `Run.events`.
        """
        self.check()
        if isinstance(target, list | tuple):
            from crossdock.runs.targets import TargetsCopy

            if not target:
                raise InvalidInput("there is no target to copy to")
            ends = [as_places(source, each, source_name, target_name) for each in target]
            targets = TargetsCopy(ends[0][0], [end for _, end in ends], self._places_for_one())
            return self.start(targets, _without_index(on_event) if on_event is not None else None)
        places = as_places(source, target, source_name, target_name)
        request = CopySpec(*places, is_alone=True, is_named=True)
        work = OneCopy(request, self._places_for_one())
        return self.start(work, _without_index(on_event) if on_event is not None else None)

    def _places_for_one(self) -> asyncio.Semaphore:
        # A listener may await another copy, which must not wait for the place that this one holds.
        return self._slots if CURRENT.get() is None else asyncio.Semaphore()

    def copy_many(
        self,
        pairs: Iterable[tuple[AnySource, AnyTarget]],
        *,
        on_event: Deliver | None = None,
        fail_fast: bool = False,
        at_once: int | None = None,
    ) -> Run[ManyResult]:
        """Copy each source to its target, `at_once` of them (32) at the same time, as `copy` does each.

        A pair that is given twice is copied once. `on_event` is called with the index of the pair among the
        different ones and a value of `crossdock.events`, and awaited if it is a coroutine function; one that
        raises ends that copy with its error. With `fail_fast` the first failure ends the run. Referrers are
        copied if ``options.referrers`` is True.

        Raises `InvalidInput` before anything is sent: for an invalid reference, for two sources of one tag,
        and for a pair that reads a tag which another one writes. Copies that fail do not raise: see the
        result.
        """
        from crossdock.runs.pairs import listed
        from crossdock.runs.runner import AT_ONCE, ManyCopy

        self.check()
        checked = listed(pairs)
        work = ManyCopy(checked, fail_fast=fail_fast, at_once=AT_ONCE if at_once is None else at_once)
        return self.start(work, on_event)

    def mirror(
        self, source: str, targets: str | Iterable[str], **chosen: Unpack[MirrorOptions]
    ) -> Run[MirrorResult]:
        """Copy all repositories and tags of `source`, ``HOST[:PORT][/PREFIX]``, to each of `targets`,
        likewise.

        `source` may be a layout, ``oci:DIR``: its tags go to the repository that a target names. `chosen` are
        the fields of `MirrorOptions`. Nothing is ever removed. Referrers of the manifests are copied unless
        ``options.referrers`` is False.

        Raises `InvalidInput` before anything is sent. Awaiting raises `CopyError` when the repositories, or
        manifests without tag, cannot be listed. Copies that fail do not raise: see the result.
        """
        from crossdock.mirroring.run import MirrorRun

        self.check()
        return self.start(MirrorRun.of(source, targets, self._options, chosen), chosen.get("on_event"))

    def share(self, options: CopyOptions, name: str, keeps: Callable[[], bool] = lambda: True) -> Session:
        """A session with other options, for one of several users of this one who do not know each other.

        It has its own connections, a share of this one's memory, and its journal. `name` is different for
        each user; `keeps` says whether a blob that fails now will be resumed.
        """
        other = Session(options)
        other._parent = self, name, keeps
        return other

    def start(self, work: Work[T], on_event: Deliver | None = None) -> Run[T]:
        """A run of `work`, for what this package makes runs of."""
        return Run(self, work, Watchers(work.totals, on_event))

    # -- looking -------------------------------------------------------------------------------------------

    async def inspect(
        self, reference: str | Location, *, on_warning: Callable[[str], None] = lambda message: None
    ) -> Inspection:
        """The content of `reference`; only its manifest is fetched. Uses the options' source side.

        `on_warning` is called for places of logins that cannot be used. Raises `CopyError`.
        """
        from crossdock.runs.looking import inspect

        self.check()
        return await self._tracked(inspect(as_location(reference), self._places, on_warning))

    async def list_tags(
        self, repository: str | Location, *, on_warning: Callable[[str], None] = lambda message: None
    ) -> list[str]:
        """The tags of a repository or layout, as it lists them. Uses the options' source side.

        `on_warning` is called for entries that are not tags, which are left out, and as by `inspect`. Raises
        `CopyError`.
        """
        from crossdock.runs.looking import list_tags

        self.check()
        return await self._tracked(list_tags(as_location(repository), self._places, on_warning))

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled with the session."""
        task = asyncio.ensure_future(work)
        self.enter(task)
        return await task

    # -- what runs need (`runs.run.Owner`) -----------------------------------------------------------------

    def check(self) -> None:
        """Raise RuntimeError unless the session can be used here and now."""
        if self._loop is None:
            raise RuntimeError("the session is not open: use it in an `async with` block")
        if os.getpid() != self._process:
            raise RuntimeError("the session belongs to another process: open one in this process")
        if self._is_closed:
            raise RuntimeError("the session is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the session belongs to another event loop: open one in this loop")

    async def shared(self) -> Shared:
        """The things that copies share, opened by the first of them."""
        if self._shared is None:
            self._shared = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._shared)

    async def _open(self) -> Shared:
        if self._parent is not None:
            parent, name, keeps = self._parent
            whole = await parent.shared()
            limits = self._places.limits
            share = await self._stack.enter_async_context(
                open_share(whole.workshop, parent._options, name, limits)
            )
            resuming = replace(whole.resuming, keeps=keeps)
            return Shared(self._options, self._platforms, self._places, share, resuming)
        workshop = await self._stack.enter_async_context(open_workshop(self._options, self._places.limits))
        resuming = await self._stack.enter_async_context(open_resuming(self._options))
        return Shared(self._options, self._platforms, self._places, workshop, resuming)

    def enter(self, task: asyncio.Task[Any]) -> None:
        """A run has begun."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _without_index(listener: Listener) -> Deliver:
    if is_async(listener):

        async def deliver(index: int, event: Event) -> None:
            await listener(event)  # type: ignore[misc]

        return deliver
    return lambda index, event: listener(event)
