"""A plan: the work that an apply of a migration file would do now, its cost, and what cannot be done."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from crossdock.errors import CopiesFailed
from crossdock.migration.requests import HostRequests
from crossdock.mirroring.views import Problem, ProblemKind

MOST_DELETES = 100  # tags to delete that are named
MOST_PROBLEMS = 10_000  # that are kept of an entry

SUMS = (
    "repositories",
    "tags",
    "images",
    "tags_new",
    "tags_changed",
    "tags_unchanged",
    "tags_to_delete",
    "bytes_to_move",
    "bytes_present",
    "bytes_to_mount",
)
"""The figures of an entry that are added up, in the order of the document."""


class EntryPlan(Struct, kw_only=True):
    """One entry and one of its targets. `tags` counts manifests without a tag that are wanted as well.

    `deletes` names the first of `tags_to_delete`. `hindrances` counts problems that keep an apply from doing
    what the file says, `todo` what it would write or delete.
    """

    name: str
    source: str
    target: str
    repositories: int = 0
    tags: int = 0
    images: int = 0
    tags_new: int = 0
    tags_changed: int = 0
    tags_unchanged: int = 0
    tags_to_delete: int = 0
    bytes_to_move: int = 0
    bytes_present: int = 0
    bytes_to_mount: int = 0
    deletes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problems_left_out: int = 0
    hindrances: int = 0
    todo: int = 0

    def problem(self, kind: ProblemKind, reference: str, detail: str, *, hinders: bool = True) -> None:
        """Note something that cannot be done, or is left as it is."""
        self.hindrances += hinders
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(kind, reference, detail))
        else:
            self.problems_left_out += 1


class Plan(Struct, kw_only=True):
    """The plan of a file. `errors` are of repositories that could not be read: then it is not whole.

    `seconds` is None where no rate is known.
    """

    entries: list[EntryPlan]
    requests: dict[str, HostRequests]
    seconds: float | None = None
    errors: list[Exception] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """The sums over the entries."""
        return {name: sum(getattr(each, name) for each in self.entries) for name in SUMS}

    @property
    def is_hindered(self) -> bool:
        """Whether something that is asked for cannot be done."""
        return any(each.hindrances for each in self.entries)

    @property
    def has_work(self) -> bool:
        """Whether an apply would change anything."""
        return any(each.todo for each in self.entries)

    @property
    def failure(self) -> Exception | None:
        """The error to raise for a plan that is not whole."""
        if len(self.errors) < 2:
            return self.errors[0] if self.errors else None
        return CopiesFailed(
            f"{len(self.errors)} parts of the plan are missing: {self.errors[0]}", errors=tuple(self.errors)
        )

    def document(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "entries": [_entry_document(each) for each in self.entries],
            "totals": self.totals(),
            "requests": {host: each.document() for host, each in self.requests.items()},
            "seconds": self.seconds,
        }


def _entry_document(plan: EntryPlan) -> dict[str, Any]:
    names = ("name", "source", "target", *SUMS)
    problems = [
        {"kind": each.kind, "reference": each.reference, "detail": each.detail} for each in plan.problems
    ]
    return {**{name: getattr(plan, name) for name in names}, "deletes": plan.deletes, "problems": problems}
