"""A run in a worker: the state that its units share there, and the reports to the client.

The units of a run share connections, tokens, memory and what is known of registries, as the copies of a
session do. They run on an event loop of their own: that of Dask's worker has to answer in time.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from crossdock.clusters.asking import ClusterLimits, DeskRows, unreachable
from crossdock.errors import CrossdockError
from crossdock.events import Event
from crossdock.kept.journal import Journal
from crossdock.oci.platform import Platform
from crossdock.options import CopyOptions
from crossdock.runs.places import Places, Shared
from crossdock.runs.results import without_traceback
from crossdock.runs.run import Run, Watchers
from crossdock.runs.totals import Limit, Totals
from crossdock.runs.workshop import open_workshop
from crossdock.tasks import stop
from crossdock.transfer.workshop import Resuming

if TYPE_CHECKING:
    from crossdock.runs.run import Work

GARBAGE = 50_000
"""Objects made before a collection, as in the command (`cli.main`): Dask's modules alone make one slow."""
TELL_S = 0.3
MOST_MOVING = 8  # blobs under way that are reported
ANSWER_S = 10.0
LAST_WORDS_S = 3.0  # for the last reports of units that a cancellation ended

_benches: dict[tuple[str, str], Bench] = {}  # of runs in workers
_guard = threading.Lock()


class Settings(Struct):
    """Everything that a worker needs to know of a run, including the secrets given by flags."""

    options: CopyOptions
    keeps_uploads: bool
    """Whether uploads that a cancelled run leaves can be resumed by a later one."""
    tells_uploads: bool
    """Whether their URLs, which may be the permission to write, may travel."""


class Figures(Struct):
    """The progress of an attempt (`Totals`). Sizes are bytes."""

    images_found: int = 0
    images_done: int = 0
    images_failed: int = 0
    blobs_found: int = 0
    blobs_done: int = 0
    bytes_found: int = 0
    bytes_moved: int = 0
    bytes_skipped: int = 0
    bytes_mounted: int = 0
    bytes_held: int = 0
    retries: int = 0
    requests: int = 0
    under_way: tuple[str, str] = ("", "")
    moving: list[tuple[str, int, int]] = []
    limited_by: Limit | None = None
    knows_total: bool = False


class Told(Struct):
    """A worker's report on an attempt: its progress, its news, and the error that ended it, if one did."""

    attempt: int
    figures: Figures
    news: Any
    is_last: bool = False
    error: Exception | None = None


class Doing(Protocol):
    """A unit that is worked on."""

    @property
    def work(self) -> Work[Any]:
        """The work to run."""

    def listen(self, index: int, event: Event) -> None:
        """Takes the events of its copies."""

    def news(self) -> Any:
        """A consistent snapshot of its progress since the last call, for `Told`."""


class Unit(Protocol):
    """A unit of work, as it travels."""

    def begin(self) -> Doing:
        """Begin it, in a worker."""


def work(run: str, attempt: int, unit: bytes) -> None:
    """Do a pickled unit, and report to its client. Runs in a worker's thread, as a task of Dask."""
    from distributed import get_worker

    worker = get_worker()
    with _guard:
        bench = _benches.get((run, worker.address))
        if bench is None:
            bench = _benches[run, worker.address] = Bench(run, worker)
    bench.do(attempt, unit)


class Bench:
    """The place of one run in a worker (`runs.run.Owner`)."""

    def __init__(self, run: str, worker: Any) -> None:
        self._run, self._worker = run, worker
        self._is_open = threading.Event()
        self._shared: Shared | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # of runs
        self._doing: set[asyncio.Task[Any]] = set()
        self._outbox: list[bytes] = []
        self._uploads: list[tuple[str, bytes | None]] = []
        self._is_over = False
        threading.Thread(target=self._main, name="crossdock", daemon=True).start()

    def _main(self) -> None:
        collected = gc.get_threshold()
        try:
            import uvloop

            gc.set_threshold(GARBAGE)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        finally:
            gc.set_threshold(*collected)
            with _guard:
                _benches.pop((self._run, self._worker.address), None)
            self._is_over = True
            self._is_open.set()

    # -- the desk ------------------------------------------------------------------------------------------

    async def _ask(self, operation: str, **values: Any) -> Any:
        """As `asking.Asks`: Dask's connections belong to the worker's own loop."""
        asking = asyncio.run_coroutine_threadsafe(
            self._worker.scheduler.crossdock(run=self._run, operation=operation, values=values),
            self._worker.loop.asyncio_loop,
        )
        return await unreachable(asyncio.wrap_future(asking))

    def _upload(self, key: str) -> bytes | None:
        """The saved progress of an upload. Blocks."""
        asking = asyncio.run_coroutine_threadsafe(self._ask("upload", key=key), self._loop)
        try:
            row: bytes | None = asking.result(ANSWER_S)
        except TimeoutError as error:
            raise ConnectionError("the scheduler does not answer") from error
        return row

    def _note_upload(self, key: str, row: bytes | None) -> None:
        def note() -> None:
            self._uploads.append((key, row))
            self._news.set()

        self._loop.call_soon_threadsafe(note)

    def _tell(self, told: Told) -> None:
        self._outbox.append(_portable(told))
        self._news.set()

    async def _send(self) -> None:
        """Send what is in the outbox, in order, until cancelled. Raises OSError without the scheduler."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            messages, self._outbox = self._outbox, []
            uploads, self._uploads = self._uploads, []
            if messages or uploads:
                await self._ask("tell", messages=messages, uploads=uploads)

    # -- the run -------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """Be there for units until the run is over."""
        self._loop = asyncio.get_running_loop()
        self._news, self._sending = asyncio.Event(), asyncio.Lock()
        joined = await self._ask("join")
        if not isinstance(joined, bytes):
            return  # the run is over
        settings: Settings = pickle.loads(joined)
        async with self._open(settings) as (shared, limits):
            self._shared = shared
            self._is_open.set()
            sides = [
                asyncio.ensure_future(limits.follow(self._worker.address)),
                asyncio.ensure_future(self._send()),
            ]
            try:
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._is_over = True
                await stop(*self._tasks, *sides)
                if self._doing:
                    await asyncio.wait(self._doing, timeout=LAST_WORDS_S)

    @asynccontextmanager
    async def _open(self, settings: Settings) -> AsyncIterator[tuple[Shared, ClusterLimits]]:
        options = settings.options
        async with Places(options) as places:
            places.limits = limits = ClusterLimits(options, self._ask)
            async with open_workshop(options, limits) as workshop:
                rows = DeskRows(self._upload, self._note_upload)
                journal = Journal(lambda: rows) if settings.tells_uploads else None
                resuming = Resuming(
                    options.resume_above,
                    options.upload_chunk,
                    journal=journal,
                    keeps=lambda: settings.keeps_uploads or not self._is_over,
                )
                platforms = tuple(map(Platform.parse, options.platforms))
                yield Shared(options, platforms, places, workshop, resuming), limits

    def do(self, attempt: int, unit: bytes) -> None:
        """Do a unit. Blocks until it is done and reported."""
        self._is_open.wait()
        if not self._is_over:
            with suppress(asyncio.CancelledError, OSError):
                asyncio.run_coroutine_threadsafe(self._do(attempt, unit), self._loop).result()

    async def _do(self, attempt: int, packed: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)
        if await self._ask("begin", attempt=attempt) is not True:
            return
        last = Told(attempt, Figures(), None, is_last=True)
        try:
            doing: Doing = pickle.loads(packed).begin()
            try:
                await self._run_told(attempt, doing)
            finally:
                last.figures, last.news = _figures(doing.work.totals), doing.news()
        except asyncio.CancelledError:
            pass  # the run is over; the work that was done is still reported
        except Exception as error:
            last.error = without_traceback(error)
        self._tell(last)
        await self._flush()

    async def _run_told(self, attempt: int, doing: Doing) -> None:
        telling = asyncio.ensure_future(self._tell_often(attempt, doing))
        try:
            await Run(self, doing.work, Watchers(doing.work.totals, doing.listen))
        finally:
            await stop(telling)

    async def _tell_often(self, attempt: int, doing: Doing) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            self._tell(Told(attempt, _figures(doing.work.totals), doing.news()))

    # -- runs.run.Owner ------------------------------------------------------------------------------------

    def check(self) -> None:
        """As `Owner.check`."""

    async def shared(self) -> Shared:
        """As `Owner.shared`."""
        assert self._shared is not None
        return self._shared

    def enter(self, task: asyncio.Task[Any]) -> None:
        """As `Owner.enter`."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _figures(totals: Totals) -> Figures:
    moving = totals.moving
    sent = sum(each.sent for each in moving)
    return Figures(
        images_found=totals.images_found,
        images_done=totals.images_done,
        images_failed=totals.images_failed,
        blobs_found=totals.blobs_found,
        blobs_done=totals.blobs_done,
        bytes_found=totals.bytes_found,
        bytes_moved=totals.bytes_done - sent,
        bytes_skipped=totals.bytes_skipped,
        bytes_mounted=totals.bytes_mounted,
        bytes_held=totals.bytes_done - totals.bytes_here,
        retries=totals.retries,
        requests=totals.requests,
        under_way=next(iter(totals.under_way), ("", "")),
        moving=[(each.digest, each.size, each.sent) for each in moving[:MOST_MOVING]],
        limited_by=totals.limited_by,
        knows_total=totals.is_total_known,
    )


def _portable(told: Told) -> bytes:
    """The pickled report. An error that cannot be pickled is replaced by its text."""
    try:
        return pickle.dumps(told)
    except Exception as error:
        failure = CrossdockError(f"the result cannot be sent to the client: {error}")
        return pickle.dumps(Told(told.attempt, told.figures, None, told.is_last, failure))
