"""`Run`: work of a session that can be awaited, watched and cancelled."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from msgspec import Struct

from crossdock.activity import CURRENT, Activity
from crossdock.events import BlobProgress, Event
from crossdock.runs.places import Shared
from crossdock.runs.totals import Totals
from crossdock.tally import Tally, log
from crossdock.tasks import stop

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MOST_QUEUED = 8
"""Events that wait for their consumer before the run waits for it. What a copy is doing then it may end, so
that it holds nothing that others need: some events more than these can come."""

Deliver = Callable[[int, Event], object]
"""A listener to the events of a run's copies: the index of the copy, and what happened."""


if TYPE_CHECKING:  # each protocol made would cost a start some 0.1 ms

    class Work(Protocol[R_co]):
        """The work of a run."""

        @property
        def totals(self) -> Totals:
            """Its progress."""

        async def run(self, shared: Shared, watchers: Watchers) -> None:
            """Do it. Its copies go through `Watchers.follow`."""

        def result(self) -> R_co:
            """The result so far."""

    class Owner(Protocol):
        """The session of a run."""

        def check(self) -> None:
            """Raise RuntimeError when it cannot be used, or not here."""

        async def shared(self) -> Shared:
            """The things that its copies share."""

        def enter(self, task: asyncio.Task[Any]) -> None:
            """A run has begun: it is cancelled with the session."""


class RunEvent(Struct, frozen=True):
    """An event of one copy of a run. ``index`` is its number, in the order listed, from 0."""

    index: int
    source: str
    target: str
    event: Event


class Run(Generic[T]):
    """Work of a `Session`: ``await`` it for the result, or iterate `events` and await it then.

    It starts with the first await or iteration. Cancelling the task that awaits it cancels the run, and ends
    when everything is cleaned up.
    """

    def __init__(self, owner: Owner, work: Work[T], watchers: Watchers) -> None:
        self._owner = owner
        self._work = work
        self._watchers = watchers
        self._task: asyncio.Task[T] | None = None
        self._is_cancelled = False
        self._iterator: weakref.ref[RunEvents] | None = None  # its end is how one sees that it was left

    def __repr__(self) -> str:
        state = "not started" if self._task is None else "ended" if self._task.done() else "running"
        return f"<Run {state}>"

    def __await__(self) -> Generator[Any, None, T]:
        task = self._start()
        if self._iterator is not None and (iterator := self._iterator()) is not None:
            iterator.leave_to(asyncio.current_task())
        return (yield from task.__await__())

    def events(self) -> RunEvents:
        """The events of the run's copies, in order, until it has ended. Await it then for its result.

        A slow consumer slows the run. Leaving the iteration lets the run continue by itself.
        Raises RuntimeError when called twice.
        """
        if self._iterator is not None:
            raise RuntimeError("the events of a run can be iterated once")
        feed = Feed(MOST_QUEUED)
        if self._task is not None and self._task.done():
            feed.end()
        self._watchers.iterated = feed
        iterator = RunEvents(feed, self._start)
        self._iterator = weakref.ref(iterator)
        return iterator

    def cancel(self) -> None:
        """Cancel the run, unless it has ended. Awaiting it raises CancelledError after the clean-up."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    @property
    def totals(self) -> Totals:
        """The progress of the run: an object that always shows the present figures."""
        return self._watchers.totals

    @property
    def done(self) -> bool:
        """Whether the run has ended, well or not."""
        return self._task is not None and self._task.done()

    @property
    def result(self) -> T:
        """The result so far, also after the run failed or was cancelled.

        Of a single copy that has not succeeded the digests are empty.
        """
        task = self._task
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        return self._work.result()

    def _start(self) -> asyncio.Task[T]:
        if self._task is None or not self._task.done():
            self._owner.check()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
            # A callback, because a task that is cancelled before it runs never reaches its own end.
            self._task.add_done_callback(self._watchers.end)
            self._owner.enter(self._task)
            if self._is_cancelled:
                self._task.cancel()
        return self._task

    async def _run(self) -> T:
        watchers = self._watchers
        shared = await self._owner.shared()
        CURRENT.set(watchers.totals.activity)
        watchers.totals.start(shared.workshop.supply.permits)
        async with watchers, shared.places.writing():
            await self._work.run(shared, watchers)
        return self._work.result()


class Watchers:
    """The consumers of a run's events: totals, a listener, an iterator. To be used in ``async with``."""

    def __init__(self, totals: Totals, on_event: Deliver | None = None) -> None:
        self.totals = totals
        self.iterated: Feed | None = None
        self.on_event = on_event
        self.awaited = Feed(0) if on_event is not None and is_async(on_event) else None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self.awaited is not None:
            self._pump = asyncio.ensure_future(self._deliver(self.awaited))

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self.awaited is not None and self._pump is not None:
            if kind is None:
                self.awaited.end()
                await asyncio.wait({self._pump})
            self.awaited.close()
            await stop(self._pump)

    def end(self, _: object = None) -> None:
        """Nothing more will happen."""
        self.totals.stop()
        if self.iterated is not None:
            self.iterated.end()

    async def follow(
        self, index: int, source: str, target: str, tally: Tally, copy: Callable[[Tally], Awaitable[R]]
    ) -> R:
        """The result of `copy`, one of the run, whose events and figures go through `tally`.

        A listener that raises ends it with that error.
        """
        stream = _Stream(self, index, source, target)
        tally.listener = stream
        tally.backlog = self
        activity = Activity(tally.retried, since=self.totals.activity.since)
        number = self.totals.begin(source, target, tally, activity)
        outer = CURRENT.set(activity)
        try:
            if self.on_event is None:
                return await copy(tally)
            return await self._guarded(stream, copy, tally)
        finally:
            CURRENT.reset(outer)
            self.totals.end(number)

    async def _guarded(self, stream: _Stream, copy: Callable[[Tally], Awaitable[R]], tally: Tally) -> R:
        """`copy`, which a listener's error cancels; as `asyncio.timeout` tells that from a cancellation."""
        task = stream.task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            result = await copy(tally)
            await stream.delivered()
            if stream.failure is None:
                return result
        except (asyncio.CancelledError, Exception):
            if stream.failure is None:
                raise
        with suppress(asyncio.CancelledError):  # that of the listener, if it was not met yet
            await asyncio.sleep(0)
        if task.uncancel() > before:
            raise asyncio.CancelledError
        raise stream.failure

    def tell(self, index: int, source: str, target: str, event: Event) -> None:
        """An event of a copy that is not under way. An error of the listener is logged: no copy can end."""
        stream = _Stream(self, index, source, target)
        stream(event)
        if stream.failure is not None:
            log.error("a listener failed: %s", stream.failure, exc_info=stream.failure)

    @property
    def is_full(self) -> bool:
        """As `tally.Backlog.is_full`."""
        return any(feed is not None and feed.is_full for feed in (self.iterated, self.awaited))

    async def room(self) -> None:
        """As `tally.Backlog.room`."""
        for feed in (self.iterated, self.awaited):
            if feed is not None:
                await feed.room()

    async def _deliver(self, feed: Feed) -> None:
        """Await the listener for each event, one after the other."""
        on_event: Any = self.on_event
        while (item := await feed.get()) is not None:
            stream, event = item
            if stream.failure is None:
                try:
                    await on_event(stream.index, event)
                except asyncio.CancelledError:
                    if feed.is_closed:
                        raise
                    stream.fail(RuntimeError("the listener was cancelled"))
                except Exception as error:
                    stream.fail(error)
            stream.took()


class _Stream:
    """The events of one copy."""

    __slots__ = ("_all_taken", "_waiting", "_watchers", "failure", "index", "source", "target", "task")

    def __init__(self, watchers: Watchers, index: int, source: str, target: str) -> None:
        self._watchers = watchers
        self.index = index
        self.source = source
        self.target = target
        self.task: asyncio.Task[Any] | None = None
        self.failure: Exception | None = None  # what a listener raised
        self._waiting = 0  # events that the awaited listener has not taken
        self._all_taken: asyncio.Event | None = None

    def __call__(self, event: Event) -> None:
        watchers = self._watchers
        feed = watchers.iterated
        # A large blob moves on while its consumer lags: left out, its progress does not fill the queue.
        is_progress = isinstance(event, BlobProgress)
        if feed is not None and not feed.is_closed and not (is_progress and feed.is_full):
            feed.put(RunEvent(self.index, self.source, self.target, event))
        if watchers.on_event is None or self.failure is not None:
            return
        if watchers.awaited is not None:
            if is_progress and watchers.awaited.is_full:
                return
            self._waiting += 1
            watchers.awaited.put((self, event))
            return
        try:
            watchers.on_event(self.index, event)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """A listener raised: the copy ends."""
        self.failure = error
        if self.task is not None:
            self.task.cancel()

    def took(self) -> None:
        """The awaited listener is done with one event."""
        self._waiting -= 1
        if not self._waiting and self._all_taken is not None:
            self._all_taken.set()

    async def delivered(self) -> None:
        """Return once the awaited listener has taken every event."""
        if self._waiting:
            self._all_taken = asyncio.Event()
            await self._all_taken.wait()


class Feed:
    """A queue with one consumer. Putting never waits; producers that can wait check `is_full`."""

    def __init__(self, most: int) -> None:
        """More than `most` items, and the feed is full."""
        self._most = most
        self._items: deque[Any] = deque()
        self._getter: asyncio.Future[None] | None = None
        self._emptied: asyncio.Event | None = None
        self._has_ended = self._is_taken = False
        self.is_closed = False
        """Whether its consumer has left."""

    @property
    def is_full(self) -> bool:
        """Whether more should wait."""
        return len(self._items) > self._most

    async def room(self) -> None:
        """Return once it is not full."""
        while self.is_full:
            if self._emptied is None:
                self._emptied = asyncio.Event()
            await self._emptied.wait()

    def put(self, item: Any) -> None:
        """Add an item, unless the consumer has left."""
        if not self.is_closed:
            self._items.append(item)
            self._wake()

    async def get(self) -> Any:
        """The next item; None when there will be no more. The item before it is done with."""
        if self._is_taken:
            self._is_taken = False
            self._items.popleft()
            self._let_in()
        while not self._items:
            if self._has_ended or self.is_closed:
                return None
            self._getter = asyncio.get_running_loop().create_future()
            try:
                await self._getter
            finally:
                self._getter = None
        self._is_taken = True
        return self._items[0]

    def end(self) -> None:
        """Nothing more will be put."""
        self._has_ended = True
        self._wake()

    def close(self) -> None:
        """Nothing more will be taken."""
        self.is_closed = True
        self._items.clear()
        self._is_taken = False
        self._wake()
        self._let_in()

    def _wake(self) -> None:
        if self._getter is not None and not self._getter.done():
            self._getter.set_result(None)

    def _let_in(self) -> None:
        if self._emptied is not None and not self.is_full:
            self._emptied.set()
            self._emptied = None


class RunEvents:
    """The iterator of `Run.events`. It may be left at any time."""

    def __init__(self, feed: Feed, start: Callable[[], object]) -> None:
        self._feed = feed
        self._start = start
        self._consumer: asyncio.Task[Any] | None = None

    def __aiter__(self) -> RunEvents:
        return self

    async def __anext__(self) -> RunEvent:
        self._start()
        self._consumer = asyncio.current_task()
        event: RunEvent | None = await self._feed.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Leave the iteration."""
        self._feed.close()

    def leave_to(self, task: asyncio.Task[Any] | None) -> None:
        """`task` awaits the run: if it was the one that iterated, it does so no longer."""
        if task is not None and task is self._consumer:
            self._feed.close()

    def __del__(self) -> None:
        with suppress(RuntimeError):  # the event loop may be closed
            self._feed.close()


def is_async(listener: Callable[..., object]) -> bool:
    """Whether calling it gives something to await."""
    call: object = getattr(listener, "__call__", None)  # noqa: B004 - of an object that is callable
    return inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(call)
