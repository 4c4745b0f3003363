"""Running several coroutines as one: the first failure ends the others, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

_abandoned: contextvars.ContextVar[threading.Event] = contextvars.ContextVar("crossdock_abandoned")


async def run_together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order. On the first failure, or when cancelled, the rest is cancelled and waited for.

    Unlike `asyncio.TaskGroup` the failure is raised as it is, not in a group: callers tell errors apart.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception() or AssertionError
        return [task.result() for task in tasks]
    finally:
        await stop(*tasks)


async def run_each(items: Iterable[T], work: Callable[[T], Awaitable[U]], at_once: int) -> list[U]:
    """The results of `work` for every item, `at_once` of them under way, in no order.

    As of `run_together`, the first failure ends the others.
    """
    waiting, done = iter(items), list[U]()

    async def take() -> None:
        for item in waiting:
            done.append(await work(item))

    await run_together(take() for _ in range(at_once))
    return done


async def run_each_of(items: AsyncIterator[T], work: Callable[[T], Awaitable[object]], at_once: int) -> None:
    """As `run_each`, for items that are waited for; each of the workers takes one when it is free."""
    turn = asyncio.Lock()

    async def take() -> None:
        while True:
            async with turn:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            await work(item)

    await run_together(take() for _ in range(at_once))


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Two results. When `first` fails, or when cancelled, `second` is cancelled and waited for.

    When both fail, the error is always that of `first`: which was quicker is chance.
    """
    other = asyncio.ensure_future(second)
    try:
        result = await first
    except BaseException:
        await stop(other)
        raise
    return result, await other


async def stop(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel what still runs and wait until it has ended; its outcome is dropped.

    A cancellation that arrives meanwhile is raised once everything has ended.
    """
    pending = {task for task in tasks if task is not None}
    cancelled = False
    for task in pending:
        task.cancel()
    while pending:
        try:
            done, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
            continue
        for task in done:
            if not task.cancelled():
                task.exception()
    if cancelled:
        raise asyncio.CancelledError


async def in_thread(
    action: Callable[..., T], *arguments: object, undo: Callable[[T], object] | None = None
) -> T:
    """The result of `action`, run in a thread. If cancelled, it still waits for the end of `action`.

    Otherwise the caller would give its buffers away while the thread still reads or writes them. `undo` gets
    a result that a cancelled caller will never see.
    """
    running = asyncio.get_running_loop().run_in_executor(None, action, *arguments)
    try:
        return await ended(running)
    except asyncio.CancelledError:
        if undo is not None and not running.cancelled() and running.exception() is None:
            undo(running.result())
        raise


async def in_abandonable_thread(
    action: Callable[..., T], *arguments: object, undo: Callable[[T], object] | None = None
) -> T:
    """As `in_thread`, for an `action` that may wait for ever: it looks at `is_abandoned` while it waits."""
    event = threading.Event()
    context = contextvars.copy_context()
    context.run(_abandoned.set, event)
    waiting = asyncio.ensure_future(in_thread(context.run, action, *arguments, undo=undo))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        event.set()
        await stop(waiting)
        raise


def is_abandoned() -> bool:
    """Whether the caller of `in_abandonable_thread`, in whose thread this is, was cancelled."""
    event = _abandoned.get(None)
    return event is not None and event.is_set()


async def ended(running: asyncio.Future[T]) -> T:
    """The result of `running`, in a thread that cannot be cancelled; on cancellation its end is awaited."""
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return running.result()
