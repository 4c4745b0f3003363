"""A fair queue with limits, without tasks and clocks.

Principals take turns: the one served last waits longest. Each principal's jobs start in order of arrival,
except that a job whose registry is at its limit is skipped until the registry has room. A running job that
waits for a slow registry is set aside: it then counts neither as running nor, for other principals, towards
its registries' limits.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from crossdock.errors import Advice, QueueFull

# each principal may always use one in this many places of the queue, even if others have filled it
OWN_SHARE = 10
MOST_ASIDE = 8  # jobs set aside per principal and running place; a principal with more starts no others


class Job(Struct, frozen=True):
    """One import in the queue. `registries` are the keys of source and target."""

    id: str
    principal: str
    registries: frozenset[str]


class FairQueue:
    """Waiting and running jobs, until they are removed."""

    def __init__(self, *, at_once: int, per_registry: int, length: int) -> None:
        """At most `at_once` jobs run, `per_registry` of them for each registry, and `length` wait."""
        self._at_once = at_once
        self._per_registry = per_registry
        self._length = length
        # principal → id → job; the principal whose turn is next comes first
        self._waiting: dict[str, dict[str, Job]] = {}
        self._running: dict[str, Job] = {}
        self._aside: dict[
            str, frozenset[str]
        ] = {}  # running jobs that are set aside → the registries they still count for

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def check_room(self, principal: str, coming: Counter[str]) -> None:
        """Raise `QueueFull` if the principal may not add a job; `coming` counts jobs that are about to be
        added.

        A job that can run at once needs no place in the queue. A principal with few waiting jobs may add one
        even if others have filled the queue.
        """
        at_work, waiting = self.running - len(self._aside), self.waiting + coming.total()
        own = len(self._waiting.get(principal, ())) + coming[principal]
        if waiting + at_work >= self._length + self._at_once and own >= self._length // OWN_SHARE:
            raise QueueFull(
                f"{waiting} imports are waiting, and the service accepts no more for now",
                advice=Advice("retry-later", "post it again when some of them have ended"),
            )

    def add(self, job: Job) -> None:
        """Append a job to those of its principal. Jobs accepted before a restart always have room."""
        self._waiting.setdefault(job.principal, {})[job.id] = job

    def start_next(self) -> Job | None:
        """The next job, now running; None when none may start."""
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
                    self._waiting[principal] = jobs  # behind all other principals
                self._running[job.id] = job
                return job
        return None

    def reasons(self, job_id: str) -> list[str]:
        """The reasons for which a job waits, as text; empty if it does not wait or is next."""
        job = next((jobs[job_id] for jobs in self._waiting.values() if job_id in jobs), None)
        if job is None:
            return []
        users = self._users()
        found = [
            f"{each}, where {_imports(len(users[each]))}"
            for each in sorted(job.registries)
            if not self._has_room(job, users.get(each, []))
        ]
        if len(self._running) - len(self._aside) >= self._at_once:
            found.append(f"one of {self._at_once} places for imports")
        aside = sum(self._running[each].principal == job.principal for each in self._aside)
        if aside >= MOST_ASIDE * self._at_once:
            found.append(f"slow imports of the same caller, of which {aside} run")
        return found

    def remove(self, job_id: str) -> None:
        """Remove a job that has ended, or will not run."""
        self._aside.pop(job_id, None)
        if self._running.pop(job_id, None) is not None:
            return
        for principal, jobs in self._waiting.items():
            if jobs.pop(job_id, None) is not None:
                if not jobs:
                    del self._waiting[principal]
                return

    def set_aside(self, job_id: str, slow: frozenset[str]) -> None:
        """Set the running job aside: it waits for the registries `slow` and counts only for these from now
        on."""
        job = self._running.get(job_id)
        if job is not None and job_id not in self._aside:
            self._aside[job_id] = job.registries & slow

    def take_back(self, job_id: str) -> None:
        """The job has recovered and counts as before, even if a limit is exceeded for a while."""
        self._aside.pop(job_id, None)

    def _users(self) -> dict[str, list[Job]]:
        """The running jobs that count for each registry."""
        users: dict[str, list[Job]] = {}
        for job in self._running.values():
            for registry in self._aside.get(job.id, job.registries):
                users.setdefault(registry, []).append(job)
        return users

    def _may_run(self, job: Job, users: dict[str, list[Job]]) -> bool:
        return all(self._has_room(job, users.get(registry, [])) for registry in job.registries)

    def _has_room(self, job: Job, users: list[Job]) -> bool:
        """Whether a registry has room: it is below its limit, or has only slow jobs of other principals."""
        if len(users) < self._per_registry:
            return True
        return all(each.id in self._aside and each.principal != job.principal for each in users)


def _imports(count: int) -> str:
    return "1 import runs" if count == 1 else f"{count} imports run"
