"""Exit codes: every class of error, and the tables that people read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from crossdock import errors
from crossdock.cli.exits import MEANING, ExitCode, exit_code, table
from crossdock.errors import CopiesFailed, CopyError, CrossdockError, RetriesExhausted, Side

PAGE = Path(__file__).parents[3] / "docs" / "exit-codes.md"


def at_edge(cause: CrossdockError, side: Side) -> CopyError:
    error = CopyError("x", operation="fetch of blob from", side=side, reference="h/r:1", cause=cause)
    error.__cause__ = cause
    return error


BY_CLASS: dict[type[CrossdockError], ExitCode] = {
    errors.InvalidInput: ExitCode.USAGE,
    errors.InvalidReference: ExitCode.USAGE,
    errors.InvalidDigest: ExitCode.USAGE,
    errors.InvalidOption: ExitCode.USAGE,
    errors.Unauthorized: ExitCode.AUTH,
    errors.TokenExpired: ExitCode.AUTH,
    errors.WrongScope: ExitCode.AUTH,
    errors.Denied: ExitCode.AUTH,
    errors.CredentialsError: ExitCode.AUTH,
    errors.CredentialsLost: ExitCode.AUTH,
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.PolicyRefused: ExitCode.POLICY,
    errors.LoginNotDemanded: ExitCode.POLICY,
    errors.SourceNotAllowed: ExitCode.POLICY,
    errors.TagExists: ExitCode.CONFLICT,
    errors.ChangedSincePlan: ExitCode.CONFLICT,
    errors.NothingMatched: ExitCode.NOTHING_MATCHED,
    errors.RateLimited: ExitCode.RATE_LIMIT,
    errors.OutputFailed: ExitCode.TARGET,
    errors.ContentError: ExitCode.VERIFICATION,
    errors.DigestMismatch: ExitCode.VERIFICATION,
    errors.SizeMismatch: ExitCode.VERIFICATION,
    errors.Cancelled: ExitCode.CANCELLED,
}
EDGES = {CopyError, CopiesFailed, RetriesExhausted, CrossdockError}


def classes() -> list[type[CrossdockError]]:
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CrossdockError)
    ]
    return [each for each in found if each not in EDGES]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("side", "by_side"), [("source", ExitCode.SOURCE), ("target", ExitCode.TARGET)])
def test_every_error_class_has_its_code_where_the_class_does_not_decide_the_side_does(
    kind: type[CrossdockError], side: Side, by_side: ExitCode
) -> None:
    details: dict[str, Any] = {"expected": "", "actual": "", "received": 0, "offset": 0}
    assert exit_code(at_edge(kind("x", **details), side)) == BY_CLASS.get(kind, by_side)


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ([at_edge(errors.NotFound("x"), "source")] * 2, ExitCode.NOT_FOUND),
        ([at_edge(errors.TimedOut("x"), "target")], ExitCode.TARGET),
        (
            [at_edge(errors.TimedOut("x"), "target"), at_edge(errors.TimedOut("x"), "source")],
            ExitCode.DIFFERENT,
        ),
        ([at_edge(errors.NotFound("x"), "source"), RuntimeError("x")], ExitCode.DIFFERENT),
    ],
)
def test_copies_that_failed_alike_have_their_code_others_one_of_their_own(
    failures: list[Exception], code: ExitCode
) -> None:
    assert exit_code(CopiesFailed("x", errors=tuple(failures))) is code


def test_the_cause_behind_exhausted_retries_decides() -> None:
    exhausted = RetriesExhausted("gave up")
    exhausted.__cause__ = errors.RateLimited("429")
    assert exit_code(at_edge(exhausted, "source")) == ExitCode.RATE_LIMIT


def test_unexpected_exceptions_are_internal_errors() -> None:
    assert exit_code(RuntimeError("x")) == ExitCode.INTERNAL
    assert exit_code(KeyboardInterrupt()) == ExitCode.CANCELLED


def test_the_numbers_are_an_interface() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "INTERNAL": 1,
        "USAGE": 2,
        "AUTH": 3,
        "NOT_FOUND": 4,
        "SOURCE": 5,
        "TARGET": 6,
        "VERIFICATION": 7,
        "RATE_LIMIT": 8,
        "DIFFERENT": 9,
        "POLICY": 10,
        "CONFLICT": 11,
        "NOTHING_MATCHED": 12,
        "HINDERED": 13,
        "CANCELLED": 130,
    }


def test_help_and_readme_hold_the_same_table() -> None:
    assert set(MEANING) == set(ExitCode)
    for code, meaning in MEANING.items():
        assert f"{code.value}  {meaning}" in table()
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows == {str(code.value): meaning for code, meaning in MEANING.items()}
