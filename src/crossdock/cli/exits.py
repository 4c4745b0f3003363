"""Exit codes: one table, which ``crossdock help exit-codes`` prints."""

from __future__ import annotations

from enum import IntEnum

from crossdock.errors import (
    Cancelled,
    ChangedSincePlan,
    ContentError,
    CopiesFailed,
    CopyError,
    CredentialsError,
    Denied,
    InvalidInput,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    NothingMatched,
    OutputFailed,
    PolicyRefused,
    RateLimited,
    TagExists,
    Unauthorized,
    root_cause,
)


class UsageError(InvalidInput):
    """The command line is wrong. ``.command`` is the command whose help explains it."""

    command: str = "crossdock"


class ExitCode(IntEnum):
    """How the command ended. Scripts rely on the numbers."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    SOURCE = 5
    TARGET = 6
    VERIFICATION = 7
    RATE_LIMIT = 8
    DIFFERENT = 9
    POLICY = 10
    CONFLICT = 11
    NOTHING_MATCHED = 12
    HINDERED = 13
    CANCELLED = 130

    @property
    def label(self) -> str:
        """The name as reports print it: ``not found``."""
        return self.name.lower().replace("_", " ")


MEANING: dict[ExitCode, str] = {
    ExitCode.DONE: "done",
    ExitCode.INTERNAL: "unexpected internal error",
    ExitCode.USAGE: "usage: a wrong flag, a malformed reference, an unknown scheme",
    ExitCode.AUTH: "credentials are missing, wrong or insufficient",
    ExitCode.NOT_FOUND: "no such repository, tag, manifest or blob",
    ExitCode.SOURCE: "the source failed or cannot be reached",
    ExitCode.TARGET: "the target failed or cannot be reached, or the result cannot be written",
    ExitCode.VERIFICATION: "content does not match its digest or size",
    ExitCode.RATE_LIMIT: "a registry's rate limit outlasted all retries",
    ExitCode.DIFFERENT: "copies of a list failed with different codes (if all codes are equal, that code)",
    ExitCode.POLICY: "a registry's policy forbids the import",
    ExitCode.CONFLICT: "a target tag has other content and may not be moved, or a plan is out of date",
    ExitCode.NOTHING_MATCHED: "a mirror found nothing to copy; of plan --exit-code: there is something to do",
    ExitCode.HINDERED: "of plan --exit-code: something of the plan cannot be done",
    ExitCode.CANCELLED: "cancelled",
}


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of an error: by its class, or if that does not decide, by its side."""
    cause = root_cause(error)
    if isinstance(error, CopiesFailed):
        codes = {exit_code(each) for each in error.errors}
        return codes.pop() if len(codes) == 1 else ExitCode.DIFFERENT
    match cause:
        case Cancelled() | KeyboardInterrupt():
            return ExitCode.CANCELLED
        case InvalidInput():
            return ExitCode.USAGE
        case Unauthorized() | Denied() | CredentialsError():
            return ExitCode.AUTH
        case NotFound():
            return ExitCode.NOT_FOUND
        case NothingMatched():
            return ExitCode.NOTHING_MATCHED
        case PolicyRefused():
            return ExitCode.POLICY
        case TagExists() | ChangedSincePlan():
            return ExitCode.CONFLICT
        case RateLimited():
            return ExitCode.RATE_LIMIT
        case OutputFailed():
            return ExitCode.TARGET
        case ContentError() if not isinstance(cause, InvalidManifest | LimitExceeded):
            return ExitCode.VERIFICATION
    if isinstance(error, CopyError):
        return ExitCode.SOURCE if error.side == "source" else ExitCode.TARGET
    return ExitCode.INTERNAL


def table() -> str:
    """The codes and their meanings, one per line."""
    lines = (f"  {code.value:>3}  {meaning}" for code, meaning in MEANING.items())
    return "exit codes:\n" + "\n".join(lines)
