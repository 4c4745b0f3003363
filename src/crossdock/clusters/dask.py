"""The workers of a Dask cluster at the work of one run: jobs handed out, losses noticed, figures added up.

Only the run knows what a job is. A job is done by one worker at a time. One whose worker is lost goes to
another with what is left of it, so each hand-out is an attempt of its own.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from crossdock import __version__
from crossdock.activity import Activity
from crossdock.clusters.asking import ClusterLimits, unreachable
from crossdock.clusters.bench import Figures, Settings, Told, Unit, work
from crossdock.clusters.desk import open_desk, workers_of
from crossdock.clusters.groups import Item, Job, jobs_of
from crossdock.clusters.place import CONNECT_S, ClusterPlace, connected
from crossdock.clusters.uploads import KeptUploads
from crossdock.errors import Advice, CrossdockError, InvalidOption
from crossdock.events import ignore
from crossdock.options import CopyOptions, HostLimits
from crossdock.runs.places import Shared
from crossdock.runs.totals import MovingBlob, Totals
from crossdock.tally import Tally
from crossdock.tasks import ended, stop
from crossdock.units import count

LOOK_S = 0.1
ANSWER_S = 5.0  # to a question that no worker has to think about
INBOX_S = 1.0  # between looks at the workers, when none reports anything
END_S = 8.0  # for the workers' last reports after a cancellation
TRIES = 3  # of a job whose workers died before anything of it was done


class WorkerLost(CrossdockError):
    """Workers died, one after the other, while they worked on a job."""


class ClusterLost(CrossdockError):
    """The scheduler, or the last worker, is gone."""


class ClusterRun(Protocol):
    """A run whose work is done in jobs."""

    @property
    def totals(self) -> Totals:
        """Its figures."""

    def unit_of(self, job: Job) -> Unit | None:
        """The work that is left of the job; None: nothing."""

    def take(self, job: Job, news: Any) -> bool:
        """Record a worker's progress (`bench.Doing.news`); whether the run is to continue."""

    def fail(self, job: Job, error: Exception) -> None:
        """Report the rest of the job as failed."""


class _Attempt:
    """A job at a worker, whose figures are part of the run's totals."""

    def __init__(
        self, number: int, job: Job, tries: int, worker: str, future: Any, totals: Totals, finds: bool
    ) -> None:
        self.number, self.job, self.worker, self.future = number, job, worker, future
        self.tries = tries  # before this one, of workers that did nothing
        self.was_done = False
        self._totals, self._finds = totals, finds
        self._figures = Figures()
        self._tally, self._activity = Tally(ignore), Activity()
        self._copy = totals.begin("", "", self._tally, self._activity)

    @property
    def has_done(self) -> bool:
        """Whether any image of it was done."""
        return bool(self._figures.images_done)

    @property
    def knows_total(self) -> bool:
        """Whether the worker has found everything that there is to move."""
        return self._figures.knows_total

    def take(self, new: Figures) -> None:
        """Update the totals with its progress."""
        before, self._figures, totals, tally = self._figures, new, self._totals, self._tally
        if self._finds:
            totals.images_found += new.images_found - before.images_found
        totals.images_done += new.images_done - before.images_done
        totals.images_failed += new.images_failed - before.images_failed
        tally.blobs_found, tally.bytes_found, tally.retries = new.blobs_found, new.bytes_found, new.retries
        tally.blobs["moved"] = new.blobs_done
        tally.bytes["moved"], tally.bytes["skipped"] = new.bytes_moved, new.bytes_skipped
        tally.bytes["mounted"] = new.bytes_mounted
        tally.bytes_held = tally.bytes_resumed = new.bytes_held
        tally.moving = {digest: MovingBlob(digest, size, sent) for digest, size, sent in new.moving}
        self._activity.requests = new.requests
        totals.told_limit(new.limited_by)
        if any(new.under_way):
            totals.rename(self._copy, *new.under_way)

    def end(self, *, is_lost: bool = False) -> None:
        """End it in the totals. Images that a lost attempt had found and not done will be found again."""
        figures, tally = self._figures, self._tally
        if is_lost:
            if self._finds:
                self._totals.images_found -= (
                    figures.images_found - figures.images_done - figures.images_failed
                )
            tally.blobs_found, tally.bytes_found = sum(tally.blobs.values()), sum(tally.bytes.values())
        tally.moving = {}
        self._totals.end(self._copy)


class Cluster:
    """The workers of one run. Made by `open_cluster`."""

    def __init__(
        self,
        client: Any,
        address: str,
        run: ClusterRun,
        shared: Shared,
        silence: float,
        warn: Callable[[str], None],
    ) -> None:
        self.address = address
        self.id = os.urandom(8).hex()  # a new one each time: a lost client leaves tasks under its own
        self._client, self._run, self._shared, self._warn = client, run, shared, warn
        self._silence = silence
        self.limits = ClusterLimits(shared.options, self.ask)
        self._usable: list[str] = []  # workers of this version, those that came first first
        self._threads: dict[str, int] = {}
        self._asking: dict[str, asyncio.Future[str]] = {}  # workers for their versions
        self._versions: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._seen = time.monotonic()  # when there was a usable worker
        self._attempts: dict[int, _Attempt] = {}
        self._numbers = 0
        self._is_stopped = False
        self._most_at: dict[str, int] = {}  # workers that may connect to a host, by `Limits.key`
        self.uploads: KeptUploads | None = None

    async def ask(self, operation: str, **values: Any) -> Any:
        """As `asking.Asks`."""
        asking = self._client.scheduler.crossdock(run=self.id, operation=operation, values=values)
        return await unreachable(asking)

    # -- workers -------------------------------------------------------------------------------------------

    async def check_scheduler(self) -> None:
        """Raise `InvalidOption` unless the scheduler has this version, as a part of the run is there."""
        try:
            version = await self._client.run_on_scheduler(_version)
        except Exception:  # it cannot even find the function
            version = "none"
        if version != __version__:
            raise InvalidOption(
                f"the crossdock of the scheduler at {self.address} is {version}, and this is {__version__}",
                advice=Advice("same-version", f"install crossdock {__version__} where the scheduler runs"),
            )

    async def check_workers(self) -> None:
        """Find workers of this version. Raises `InvalidOption` when there is none."""
        deadline = time.monotonic() + CONNECT_S
        while not self._usable:
            workers = await unreachable(self._client.run_on_scheduler(workers_of))
            self._look(workers)
            if workers and all(each in self._versions for each in workers) and not self._usable:
                raise InvalidOption(
                    f"no worker of the cluster has crossdock {__version__}",
                    advice=Advice("same-version", f"install crossdock {__version__} where the workers run"),
                )
            if time.monotonic() > deadline and not self._asking:
                raise InvalidOption(f"the cluster at {self.address} has no workers")
            await asyncio.sleep(LOOK_S)

    def _look(self, workers: Mapping[str, tuple[int, float]]) -> None:
        """Learn which workers there are, with their threads and seconds of silence."""
        self._threads = {address: threads for address, (threads, _) in workers.items()}
        for worker in workers:
            if worker not in self._versions and worker not in self._asking:
                self._asking[worker] = asyncio.ensure_future(self._version_of(worker))
        for worker, asking in list(self._asking.items()):
            if asking.done():
                del self._asking[worker]
                if asking.result():
                    self._note_version(worker, asking.result())
        self._usable = [
            each
            for each in dict.fromkeys((*self._usable, *workers))
            if each in workers and each not in self._given_up and self._versions.get(each) == __version__
        ]
        if self._usable:
            self._seen = time.monotonic()

    async def _version_of(self, worker: str) -> str:
        """The version of crossdock there; empty when it says nothing, and is to be asked again."""
        try:
            asking = self._client.run(_version, workers=[worker], on_error="return")
            answer = await asyncio.wait_for(asking, ANSWER_S)
        except Exception:
            return ""
        version = answer.get(worker)
        return version if isinstance(version, str) else "none"

    def _note_version(self, worker: str, version: str) -> None:
        self._versions[worker] = version
        if version != __version__:
            self._warn(f"worker {worker} gets no work: its crossdock is {version}, and this is {__version__}")

    async def _give_up_silent(self, workers: Mapping[str, tuple[int, float]]) -> None:
        for worker, (_, silent_s) in workers.items():
            if silent_s > self._silence and worker not in self._given_up:
                self._warn(f"worker {worker} is given up: it has said nothing for {self._silence:g} s")
                self._given_up.add(worker)
                await self.ask("forget", worker=worker)

    # -- jobs ----------------------------------------------------------------------------------------------

    def share(self) -> CopyOptions:
        """The options of a worker. All workers together may not have more connections to a host than one.

        Where there may be fewer connections than workers, only so many workers get jobs that need the host.
        """
        options, workers = self._shared.options, len(self._usable)
        hosts: dict[str, HostLimits] = {}
        for name, limits in options.limit_hosts.items():
            if limits.connections is not None:
                each = max(1, limits.connections // workers)
                self._most_at[self.limits.key(name)] = limits.connections // each
                limits = replace(limits, connections=each)
            hosts[name] = limits
        return replace(options, limit_hosts=hosts, state=None, spool=None)

    async def do(self, items: Iterable[Item], *, finds: bool = True) -> bool:
        """Do the items; False: one has ended the run. # network

        Cancelling ends it on all workers. `finds`: they find images that the run's totals do not know yet.
        Raises `ClusterLost`.
        """
        await self._shared.places.hang_up()  # for a while this process asks no registry
        slots = max(1, sum(self._threads[each] for each in self._usable))
        pending = deque((job, 0) for job in jobs_of(items, slots))
        try:
            while (pending or self._attempts) and not self._is_stopped:
                while (found := self._assignable(pending)) is not None:
                    worker, job, tries = found
                    if (unit := self._run.unit_of(job)) is not None:
                        self._begin(worker, job, tries, unit, finds)
                self._run.totals.told_total(
                    not pending and all(each.knows_total for each in self._attempts.values())
                )
                self._check_left()
                for attempt in self._attempts.values():
                    attempt.was_done = attempt.future.done()
                workers = await self._read()
                for attempt in list(self._attempts.values()):
                    if attempt.was_done or attempt.worker not in workers or attempt.worker in self._given_up:
                        self._lose(attempt, 0 if attempt.has_done else attempt.tries + 1, pending)
        finally:
            await ended(asyncio.ensure_future(self._end()))
        return not self._is_stopped

    def _assignable(self, pending: deque[tuple[Job, int]]) -> tuple[str, Job, int] | None:
        """The next job that a worker can take, and that worker."""
        busy: dict[str, int] = {}
        for each in self._attempts.values():
            busy[each.worker] = busy.get(each.worker, 0) + 1
        for rank, worker in enumerate(self._usable):
            if busy.get(worker, 0) >= self._threads[worker]:
                continue
            for index, (job, tries) in enumerate(pending):
                if all(rank < self._most_at.get(self.limits.key(each), rank + 1) for each in job.registries):
                    del pending[index]
                    return worker, job, tries
        return None

    def _begin(self, worker: str, job: Job, tries: int, unit: Unit, finds: bool) -> None:
        self._numbers += 1
        number = self._numbers
        future = self._client.submit(
            work,
            self.id,
            number,
            pickle.dumps(unit),
            key=f"crossdock-{self.id}-{number}",
            pure=False,
            retries=0,
            workers=[worker],
        )
        self._attempts[number] = _Attempt(number, job, tries, worker, future, self._run.totals, finds)

    def _check_left(self) -> None:
        if not self._usable and time.monotonic() - self._seen > self._silence:
            raise ClusterLost(
                f"the cluster at {self.address} has no workers left",
                advice=Advice("retry", "start workers, and run the same command again"),
            )

    async def _read(self, seconds: float = INBOX_S) -> Mapping[str, tuple[int, float]]:
        """Take what workers tell; returns the workers. Raises `ClusterLost`."""
        try:
            answer = await self.ask("inbox", seconds=seconds)
            workers: Mapping[str, tuple[int, float]] = answer["workers"]
            await self._give_up_silent(workers)
        except (OSError, KeyError) as error:
            raise ClusterLost(
                f"the scheduler at {self.address} was lost: {error}",
                advice=Advice("retry", "run the same command again"),
            ) from error
        if self.uploads is not None and answer["uploads"]:
            await asyncio.to_thread(self.uploads.write, answer["uploads"])
        for message in answer["messages"]:
            self._take(pickle.loads(message))
        self._look(workers)
        return workers

    def _take(self, told: Told) -> None:
        attempt = self._attempts.get(told.attempt)
        if attempt is None:
            return  # it was lost, and another worker does the job
        attempt.take(told.figures)
        if told.news is not None and not self._run.take(attempt.job, told.news):
            self._is_stopped = True
        if told.error is not None:
            self._run.fail(attempt.job, told.error)
        if told.is_last:
            del self._attempts[attempt.number]
            attempt.end()

    def _lose(self, attempt: _Attempt, tries: int, pending: deque[tuple[Job, int]]) -> None:
        del self._attempts[attempt.number]
        attempt.end(is_lost=True)
        cancelling = asyncio.ensure_future(self._client.cancel([attempt.future]))
        cancelling.add_done_callback(lambda done: done.cancelled() or done.exception())
        if tries < TRIES:
            pending.appendleft((attempt.job, tries))
        else:
            lost = WorkerLost(f"{count(tries, 'worker')} that had it died, one after the other")
            self._run.fail(attempt.job, lost)

    async def _end(self) -> None:
        """End the workers' tasks, and take their last reports."""
        await stop(*self._asking.values())
        until = time.monotonic() + END_S
        with suppress(OSError, CrossdockError):
            await self.ask("end")
            while self._attempts and (left := until - time.monotonic()) > 0:
                workers = await self._read(min(left, INBOX_S))
                for attempt in list(self._attempts.values()):
                    if attempt.worker not in workers:
                        self._attempts.pop(attempt.number).end(is_lost=True)
        for attempt in self._attempts.values():
            attempt.end(is_lost=True)
        self._attempts = {}


@asynccontextmanager
async def open_cluster(
    place: ClusterPlace,
    run: ClusterRun,
    shared: Shared,
    registries: Sequence[str],
    on_warning: Callable[[str], None],
) -> AsyncIterator[Cluster]:
    """The cluster, while it is used for the run, which writes to `registries`. # network

    The limits of the session become those of the cluster. Raises `InvalidOption` when there is no scheduler
    at the address, or no worker that can be used.
    """
    async with connected(place) as (client, address):
        cluster = Cluster(client, address, run, shared, place.silence, on_warning)
        await cluster.check_scheduler()
        await cluster.check_workers()
        options = shared.options
        uploads = KeptUploads(options.state, shared.resuming.journal) if place.is_private else None
        saved = await asyncio.to_thread(uploads.load, registries) if uploads is not None else {}
        settings = Settings(
            cluster.share(), keeps_uploads=options.state is not None, tells_uploads=uploads is not None
        )
        await client.run_on_scheduler(
            open_desk, run=cluster.id, client=client.id, settings=pickle.dumps(settings), uploads=saved
        )
        cluster.uploads = uploads
        shared.places.limits = cluster.limits
        following = asyncio.ensure_future(cluster.limits.follow())
        try:
            yield cluster
        finally:
            await stop(following)
            if uploads is not None:
                uploads.close(on_warning)
            with suppress(OSError):
                await cluster.ask("close")


def _version() -> str:
    return __version__
