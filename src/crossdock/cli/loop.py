"""Runs a coroutine on uvloop; a signal cancels it, and a later one ends the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crossdock.cli.exits import ExitCode
from crossdock.errors import Cancelled
from crossdock.stopping import catch_stop_signals

T = TypeVar("T")


def run_until_done(work: Coroutine[Any, Any, T], *, before_abort: Callable[[], None] = lambda: None) -> T:
    """The result of `work`. SIGINT, SIGTERM or SIGHUP cancels it: it cleans up, then `Cancelled` is raised.

    A signal that comes a second later calls `before_abort`, for what must not stay behind even then, and ends
    the process.
    """
    gc.freeze()  # no collection looks at the modules: they are all that there is by now, and no garbage
    # Not the main task's own result: when it ends, Runner has `signal` compare its handler, which makes a
    # text of the handler, of the task that it holds and of the results of all copies.
    results: list[T] = []
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_guarded(work, results.append, before_abort))
    return results[0]


async def _guarded(
    work: Coroutine[Any, Any, T], keep: Callable[[T], None], before_abort: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    # An error outside of any task (a socket that is reset while it is being closed) goes to the debug log:
    # the error of the copy says what matters.
    loop.set_exception_handler(_log)
    task = asyncio.ensure_future(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    def abort(number: int) -> None:
        before_abort()
        os._exit(ExitCode.CANCELLED)

    restore = catch_stop_signals(stop, abort)
    try:
        keep(await task)
    except (asyncio.CancelledError, Exception) as error:
        # An error during cancellation is a consequence of it.
        if signalled:
            raise Cancelled("cancelled") from error
        raise
    finally:
        restore()


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logging.getLogger("crossdock").debug("%s", context.get("message", ""), exc_info=context.get("exception"))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # a platform without wheels of uvloop: only slower
        return asyncio.new_event_loop
    return uvloop.new_event_loop
