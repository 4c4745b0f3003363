"""How the copies of a run ended, and the sums of their figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from crossdock.errors import (
    Advice,
    ConnectFailed,
    CopiesFailed,
    InvalidReference,
    NotFound,
    RetriesExhausted,
    TagExists,
    root_cause,
)
from crossdock.frozen import Frozen
from crossdock.options import Existing
from crossdock.runs.one import CopyResult

Status = Literal[
    "copied", "unchanged", "left_behind", "left out", "reported", "failed", "cancelled", "not begun"
]

FIGURES = (
    "manifests",
    "blobs_moved",
    "blobs_skipped",
    "blobs_mounted",
    "bytes_moved",
    "bytes_skipped",
    "bytes_mounted",
    "bytes_requested",
    "bytes_resumed",
    "bytes_spooled",
    "uploads_resumed",
    "retries",
    "referrers",
    "referrers_copied",
)
"""The fields of a `CopyResult` that add up."""


def sums(results: Iterable[CopyResult]) -> dict[str, int]:
    """The figures of all results, added up."""
    found = list(results)
    return {name: sum(getattr(each, name) for each in found) for name in FIGURES}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class PairResult(Frozen):
    """How one pair ended: with a result, with an error, or with neither when the run ended before it.

    ``reported``: the target has something else under the tag, which stays (`CopyOptions.existing`); its error
    says so. ``unchanged``: the target had everything. Only `mirror` tells ``left out``, a signature or the
    like that could not be copied, which has an error too, from ``failed``. ``left_behind`` is as of a
    `TargetResult`.
    ``error`` holds no traceback: the one in the event `CopyFailed` does.
    """

    source: str
    target: str
    status: Status
    result: CopyResult | None = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class TargetResult(CopyResult):
    """How the copy to one of several targets ended: the fields of its result so far, and how it ended.

    ``left_behind``: the target has everything, and was so slow that it ended with reads of the source of its
    own. ``error`` holds no traceback.
    """

    status: Status
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the error."""
        return {**CopyResult.as_dict(self), "status": self.status}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class TargetsResult(Frozen):
    """How a copy to several targets ended: one entry for each, in the order given.

    ``digest`` is what the targets have, empty while none has it. ``source_bytes`` are the bytes of blobs that
    were read from the source, with those that were read again.
    """

    source: str
    digest: str
    source_bytes: int
    targets: tuple[TargetResult, ...]
    seconds: float

    def count(self, status: Status) -> int:
        """How many targets ended so."""
        return sum(each.status == status for each in self.targets)

    @property
    def failure(self) -> CopiesFailed | None:
        """The error to raise for the targets that failed; None when none did."""
        return failure_of(self.targets, "copy the same targets again")

    def totals(self) -> dict[str, int]:
        """The sums over all targets; sizes in bytes."""
        return sums(self.targets)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class ManyResult(Frozen):
    """How a run of copies ended: one entry for each pair, in the order given.

    ``lines`` are the results of lists' lines with several targets, by the index of their first pair.
    """

    copies: tuple[PairResult, ...]
    seconds: float
    lines: Mapping[int, TargetsResult] = field(default_factory=dict)

    def count(self, status: Status) -> int:
        """How many pairs ended so."""
        return sum(each.status == status for each in self.copies)

    @property
    def done(self) -> int:
        """How many targets have the content now."""
        return sum(each.result is not None for each in self.copies)

    @property
    def failure(self) -> CopiesFailed | None:
        """The error to raise for the copies that failed; None when none did."""
        return failure_of(self.copies, "copy the same list again")

    def totals(self) -> dict[str, int]:
        """The sums over all results; sizes in bytes. A blob counts once for each copy that names it."""
        return sums(each.result for each in self.copies if each.result is not None)


class _Ended(Protocol):
    @property
    def status(self) -> Status: ...
    @property
    def error(self) -> Exception | None: ...


def failure_of(copies: Sequence[_Ended], how: str) -> CopiesFailed | None:
    """The error to raise for those of `copies` that failed; None: none did. `how` they are made again."""
    errors = tuple(each.error for each in copies if each.status == "failed" and each.error is not None)
    if not errors:
        return None
    return CopiesFailed(
        f"{len(errors)} of {len(copies)} copies failed",
        advice=advice_to_repeat(how, errors),
        errors=errors,
    )


def unended(source: object, target: object, *, begun: bool) -> PairResult:
    """The result of a copy that had not ended when the run did; `begun`: it was under way."""
    return PairResult(source=str(source), target=str(target), status="cancelled" if begun else "not begun")


def status_of_error(error: Exception, existing: Existing) -> Status:
    """Whether the copy has failed, or its target's tag was left as it is, as `existing` wants it."""
    is_reported = existing == "report" and isinstance(root_cause(error), TagExists)
    return "reported" if is_reported else "failed"


def advice_to_repeat(how: str, errors: Iterable[Exception]) -> Advice | None:
    """The advice to run it again; None when all failures are names that would not be found then either."""
    if all(map(_is_wrong_name, map(root_cause, errors))):
        return None
    return Advice("retry", f"{how}: blobs that have arrived are not copied again")


def _is_wrong_name(cause: BaseException) -> bool:
    """Whether a repository, tag or host is not there, or can be none."""
    is_unknown_host = isinstance(cause, ConnectFailed) and cause.is_unknown_name
    return is_unknown_host or isinstance(cause, NotFound | InvalidReference)


def without_traceback(error: Exception) -> Exception:
    """`error` without its tracebacks and those of chained errors, which would keep whole stacks alive."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        found += [each.__cause__, each.__context__]
        if isinstance(each, RetriesExhausted):
            found += each.attempts
    return error
