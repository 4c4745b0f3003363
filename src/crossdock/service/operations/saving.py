"""Writes to the store without blocking the event loop.

One thread writes. Statements that arrive meanwhile are written together next, so that a burst of imports
costs a few disk syncs instead of one each. Progress is written at most once per `PERIOD_S`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from crossdock.errors import StoreError
from crossdock.kept.sqlitefile import Statement
from crossdock.service.operations.store import OperationStore, outdated, updated
from crossdock.service.values import Operation
from crossdock.tasks import ended

log = logging.getLogger(__name__)

PERIOD_S = 1.0  # between snapshots of running imports
CLEANING_S = 600.0  # between removals of old results
MOST_AT_ONCE = 256  # callers per transaction, so that none waits long

_Waiting = tuple[Sequence[Statement], asyncio.Future[None]]


class Saving:
    """The only writer of a store. Use it in an ``async with`` block; its end writes noted changes."""

    def __init__(self, store: OperationStore, keep_s: float, now: Callable[[], float] = time.time) -> None:
        """Results are kept for `keep_s` seconds; `now` returns seconds since 1970."""
        self._store = store
        self._keep_s = keep_s
        self._now = now
        self._waiting: list[_Waiting] = []
        self._noted: dict[str, Operation] = {}
        self._wake = asyncio.Event()
        self._cleaned = 0.0
        self._is_failing = False
        self._is_closing = False

    async def __aenter__(self) -> Saving:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        self._wake.set()
        await self._task

    async def save(self, statements: Sequence[Statement]) -> None:
        """Write `statements` now; they are on disk when this returns. Raises `StoreError`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done))
        self._wake.set()
        await done

    def note(self, operation: Operation) -> None:
        """Write the operation's current state within about `PERIOD_S`. Retried until it succeeds."""
        self._noted[operation.id] = operation

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PERIOD_S
        while not self._is_closing:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                pass
            is_due = loop.time() >= due
            if is_due:
                due = loop.time() + PERIOD_S
            await self._write(with_noted=is_due)
        await self._write(with_noted=True)
        while self._waiting:
            await self._write(with_noted=False)

    async def _write(self, *, with_noted: bool) -> None:
        """One transaction."""
        self._wake.clear()
        waiting, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        if self._waiting:
            self._wake.set()
        noted: dict[str, Operation] = {}
        if with_noted:
            noted, self._noted = self._noted, {}
        try:
            await self._write_all(waiting, noted, cleans=with_noted)
        except StoreError as error:
            self._failed(error, waiting)
            self._noted = {**noted, **self._noted}
        except Exception as error:  # a bug: these callers get an error, later ones are served
            log.exception("imports were not written")
            self._failed(StoreError(f"the imports cannot be written: {type(error).__name__}"), waiting)
        else:
            self._is_failing = False
            for _, done in waiting:
                if not done.done():
                    done.set_result(None)

    async def _write_all(
        self, waiting: Sequence[_Waiting], noted: Mapping[str, Operation], *, cleans: bool
    ) -> None:
        statements = [each for operation in noted.values() for each in updated(operation)]
        statements += [each for group, _ in waiting for each in group]
        if cleans and self._now() - self._cleaned >= CLEANING_S:
            self._cleaned = self._now()
            statements += outdated(self._now() - self._keep_s)
        if statements:
            await ended(asyncio.ensure_future(asyncio.to_thread(self._store.write, statements)))

    def _failed(self, error: StoreError, waiting: Sequence[_Waiting]) -> None:
        if not self._is_failing:
            log.error("%s; %s", error, error.advice)
        self._is_failing = True
        for _, done in waiting:
            if not done.done():
                done.set_exception(StoreError(str(error), advice=error.advice))
