"""Hashing off the event loop: one thread for all blobs of a process, several of them hashed at once.

Rules:

1. A blob has at most one job here: its buffers are hashed in order, and the queue is bounded by the blobs in
   flight.
2. The thread takes the jobs that are ready, at most as many as the kernel hashes in turn. It never waits.
3. `HashingService.update` returns or raises only when the buffers are no longer read. A cancelled one that
   has not been begun is taken out of the queue; one that has been is waited for, a few milliseconds. So the
   caller may release the slots in any case.

One thread, not one for each core: with 8 layers on 2 cores a second one took up to 8 % more CPU in three
races and was no faster. Jobs that wait while the thread is busy fill the lanes: there, seven of ten calls
took four.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

from crossdock._kernels import SHA256_LANES
from crossdock.verify import BlobVerifier, update_many

HASH_INLINE = 64 * 1024  # 45 µs of hashing; a hand-over to the thread costs 25


class _Job:
    """Buffers of one blob on their way through the thread."""

    __slots__ = ("buffers", "error", "is_over", "verifier", "waiter")

    def __init__(self, verifier: BlobVerifier, buffers: Sequence[memoryview]) -> None:
        self.verifier = verifier
        self.buffers = buffers
        self.error: BaseException | None = None
        self.is_over = False  # the buffers are no longer read; set by the loop's thread only
        self.waiter: asyncio.Future[None] | None = None


class HashingService:
    """Updates verifiers in a separate thread, started with the first large buffer. Serves one event loop."""

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()  # appended by the loop, taken by the thread; both are atomic
        self._busy: set[BlobVerifier] = set()
        self._wake = threading.Lock()  # held: the thread has seen every job, and waits to acquire it
        self._wake.acquire()
        self._is_closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def update(self, verifier: BlobVerifier, *buffers: memoryview) -> None:
        """`verifier.update` of each, off the event loop unless they are small. Raises as that does.

        When it returns or raises, cancelled or not, the buffers are no longer read. Raises ValueError
        when others of the same verifier are here.
        """
        if verifier in self._busy:
            raise ValueError("a verifier is updated by one caller at a time")
        if sum(map(len, buffers)) <= HASH_INLINE:
            for data in buffers:
                verifier.update(data)
            return
        self._busy.add(verifier)
        try:
            await self._hash_in_thread(_Job(verifier, buffers))
        finally:
            self._busy.discard(verifier)

    def close(self) -> None:
        """End the thread, if there is one. Every update must have ended; a later one starts a new thread."""
        if self._thread is not None:
            self._is_closing = True
            self._notify()
            self._thread.join()
            self._thread = None
            self._is_closing = False

    # -- the loop's side -----------------------------------------------------------------------------------

    async def _hash_in_thread(self, job: _Job) -> None:
        self._hand_over(job)
        cancelled: asyncio.CancelledError | None = None
        while not job.is_over:
            job.waiter = asyncio.get_running_loop().create_future()
            try:
                await job.waiter  # the thread, bounded by the buffers it has
            except asyncio.CancelledError as error:
                cancelled = error
                self._withdraw(job)
        if cancelled is not None:
            raise cancelled
        if job.error is not None:
            raise job.error

    def _hand_over(self, job: _Job) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="crossdock-hash", daemon=True)
            self._thread.start()
        self._jobs.append(job)
        self._notify()

    def _notify(self) -> None:
        # Released already: the thread is about to look for jobs anyway. It is released only here.
        if self._wake.locked():
            self._wake.release()

    def _withdraw(self, job: _Job) -> None:
        try:
            self._jobs.remove(job)
        except ValueError:  # the thread has it
            return
        job.is_over = True

    @staticmethod
    def _settle(jobs: Sequence[_Job], errors: Sequence[BaseException | None]) -> None:
        for job, error in zip(jobs, errors, strict=True):
            job.error = error
            job.is_over = True
            if job.waiter is not None and not job.waiter.done():
                job.waiter.set_result(None)

    # -- the thread's side ---------------------------------------------------------------------------------

    def _work(self) -> None:
        assert self._loop is not None
        while True:
            self._wake.acquire()
            if self._is_closing:
                return
            while jobs := self._take():
                self._loop.call_soon_threadsafe(self._settle, jobs, _update(jobs))

    def _take(self) -> list[_Job]:
        """The jobs that are ready, as many as are hashed in turn."""
        jobs: list[_Job] = []
        try:
            while len(jobs) < SHA256_LANES:
                jobs.append(self._jobs.popleft())
        except IndexError:
            pass
        return jobs


def _update(jobs: Sequence[_Job]) -> Sequence[BaseException | None]:
    """The error of each job. Nothing ends the thread: a job without an outcome would be awaited for ever."""
    outcomes: list[BaseException | None] = [None] * len(jobs)
    try:
        for turn in range(max(len(job.buffers) for job in jobs)):
            places = [
                place for place, job in enumerate(jobs) if turn < len(job.buffers) and outcomes[place] is None
            ]
            updates = [(jobs[place].verifier, jobs[place].buffers[turn]) for place in places]
            for place, outcome in zip(places, update_many(updates), strict=True):
                outcomes[place] = outcome
    except BaseException as error:
        return [error] * len(jobs)
    return outcomes
