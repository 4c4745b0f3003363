"""Who is next: a fair queue with limits, without tasks and clocks.

Principals take turns, whoever was served last waits longest. Each one's imports begin in the order in which
they came, but for those whose registry has as many as it may: they are passed over until it has fewer, and
keep nobody waiting. Nor does a job that runs and is set aside, because a registry holds it up: neither its
place nor, for other principals, those of its registries.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from crossdock.errors import QueueFull

OWN_SHARE = 10  # of so many places in the queue, one is for each principal whoever has the others
MOST_ASIDE = 8  # of one principal, for each that may run at once, after which it starts no others


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

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def check_room(self, principal: str, coming: Counter[str]) -> None:
        """Raise `QueueFull` when the principal may add no other job; of each, `coming` are on their way.

        One that could run at once needs no place to wait in. A principal of which few wait may add one,
        though others have filled the queue.
        """
        at_work, waiting = self.running - len(self._aside), self.waiting + coming.total()
        own = len(self._waiting.get(principal, ())) + coming[principal]
        if waiting + at_work >= self._length + self._at_once and own >= self._length // OWN_SHARE:
            raise QueueFull(
                f"{waiting} imports are waiting, and the service takes no more for now",
                hint="post it again when some of them have ended",
            )

    def add(self, job: Job) -> None:
        """Let a job wait behind those of its principal. There is room for what was accepted before."""
        self._waiting.setdefault(job.principal, {})[job.id] = job

    def start_next(self) -> Job | None:
        """The job whose turn it is, which runs from now on; None when none may."""
        if len(self._running) - len(self._aside) >= self._at_once:
            return None
        aside = Counter(self._running[job_id].principal for job_id in self._aside)
        users = self._users()
        for principal, jobs in self._waiting.items():
            if aside[principal] >= MOST_ASIDE * self._at_once:
                continue
            job = next((each for each in jobs.values() if self._may_run(each, users)), None)
            if job is not None:
                del self._waiting[principal]
                del jobs[job.id]
                if jobs:
                    self._waiting[principal] = jobs  # behind all others
                self._running[job.id] = job
                return job
        return None

    def remove(self, job_id: str) -> None:
        """The job has ended, or is not to run."""
        self._aside.pop(job_id, None)
        if self._running.pop(job_id, None) is not None:
            return
        for principal, jobs in self._waiting.items():
            if jobs.pop(job_id, None) is not None:
                if not jobs:
                    del self._waiting[principal]
                return

    def set_aside(self, job_id: str, slow: frozenset[str]) -> None:
        """The running job is held up by one of `slow`, and counts for these alone from now on."""
        job = self._running.get(job_id)
        if job is not None and job_id not in self._aside:
            self._aside[job_id] = job.registries & slow

    def take_back(self, job_id: str) -> None:
        """The job goes on and counts as before, though there may be one too many for a while."""
        self._aside.pop(job_id, None)

    def _users(self) -> dict[str, list[Job]]:
        """Of each registry, the running jobs that count for it."""
        users: dict[str, list[Job]] = {}
        for job in self._running.values():
            for registry in self._aside.get(job.id, job.registries):
                users.setdefault(registry, []).append(job)
        return users

    def _may_run(self, job: Job, users: dict[str, list[Job]]) -> bool:
        return all(self._has_room(job, users.get(registry, [])) for registry in job.registries)

    def _has_room(self, job: Job, users: list[Job]) -> bool:
        """Whether a registry with these users takes one more: it is not full, or by slow jobs of others."""
        if len(users) < self._per_registry:
            return True
        return all(each.id in self._aside and each.principal != job.principal for each in users)
