"""Who is next: a fair queue with limits, without tasks and clocks.

Principals take turns, whoever was served last waits longest. Each one's imports begin in the order in which
they came, but for those whose registry has as many as it may: they are passed over until it has fewer, and
keep nobody waiting. Nor does a job that runs and is set aside, because a registry does not answer it.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from crossdock.errors import QueueFull

MOST_ASIDE = 8  # for each that may run at once


class Job(Struct, frozen=True):
    """One import, as far as the queue is concerned. `registries`: the keys of source and target."""

    id: str
    principal: str
    registries: frozenset[str]


class FairQueue:
    """Jobs that wait and jobs that run, each in one of both until it is removed."""

    def __init__(self, *, at_once: int, per_registry: int, length: int) -> None:
        """At most `at_once` run, `per_registry` of them for each registry, and `length` wait."""
        self._at_once = at_once
        self._per_registry = per_registry
        self._length = length
        self._waiting: dict[str, dict[str, Job]] = {}  # principal → id → job; whose turn it is comes first
        self._running: dict[str, Job] = {}
        self._aside: dict[str, frozenset[str]] = {}  # of the running: the registries it still counts for
        self._busy: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def check_room(self, coming: int) -> None:
        """Raise `QueueFull` when no other job may be added, `coming` of which are on their way.

        One that could run at once needs no place to wait in.
        """
        at_work = self.running - len(self._aside)
        if self.waiting + at_work + coming >= self._length + self._at_once:
            raise QueueFull(
                f"{self.waiting + coming} imports are waiting, and the service takes no more for now",
                hint="post it again when some of them have ended",
            )

    def add(self, job: Job) -> None:
        """Let a job wait behind those of its principal. There is room for what was accepted before."""
        self._waiting.setdefault(job.principal, {})[job.id] = job

    def start_next(self) -> Job | None:
        """The job whose turn it is, which runs from now on; None when none may."""
        if len(self._running) - len(self._aside) >= self._at_once:
            return None
        for principal, jobs in self._waiting.items():
            job = next((each for each in jobs.values() if self._may_run(each)), None)
            if job is not None:
                del self._waiting[principal]
                del jobs[job.id]
                if jobs:
                    self._waiting[principal] = jobs  # behind all others
                self._running[job.id] = job
                self._busy.update(job.registries)
                return job
        return None

    def remove(self, job_id: str) -> None:
        """The job has ended, or is not to run."""
        job = self._running.pop(job_id, None)
        if job is not None:
            self._busy.subtract(self._aside.pop(job_id, job.registries))
            self._busy = +self._busy
            return
        for principal, jobs in self._waiting.items():
            if jobs.pop(job_id, None) is not None:
                if not jobs:
                    del self._waiting[principal]
                return

    def set_aside(self, job_id: str, silent: frozenset[str]) -> None:
        """The running job waits for one of `silent`, and counts for these alone from now on.

        Not when very many do already: what waits for registries has to have an end, too.
        """
        job = self._running.get(job_id)
        if job is None or job_id in self._aside or len(self._aside) >= MOST_ASIDE * self._at_once:
            return
        self._aside[job_id] = job.registries & silent
        self._busy.subtract(job.registries - silent)
        self._busy = +self._busy

    def take_back(self, job_id: str) -> None:
        """The job goes on and counts as before, though there may be one too many for a while."""
        silent = self._aside.pop(job_id, None)
        if silent is not None:
            self._busy.update(self._running[job_id].registries - silent)

    def _may_run(self, job: Job) -> bool:
        return all(self._busy[registry] < self._per_registry for registry in job.registries)
