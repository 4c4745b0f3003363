"""Errors in ARM's form: one table of codes and statuses for every failure of an import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from crossdock.errors import (
    AddressRefused,
    Cancelled,
    ContentError,
    CopyError,
    CredentialsError,
    CredentialsLost,
    CrossdockError,
    Denied,
    InvalidInput,
    LimitExceeded,
    LoginNotDemanded,
    NotFound,
    PolicyRefused,
    QueueFull,
    RateLimited,
    RegistryError,
    RetriesExhausted,
    SourceNotAllowed,
    Stopping,
    StoreError,
    TagExists,
    TransportError,
    Unauthorized,
    root_cause,
)
from crossdock.oci.text import with_more
from crossdock.service.advice import SERVICE
from crossdock.service.values import Detail, Problem


class Refused(Exception):
    """Ends a request with the error ``.problem``; ``.headers`` are those of its response.

    Never with Retry-After, since clients repeat any request that gets it.
    """

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.headers = headers or {}


def refuse(status: int, code: str, message: str, *, target: str = "") -> NoReturn:
    """Raise `Refused` with this problem."""
    raise Refused(Problem(status=status, code=code, message=message, target=target))


# The first matching class decides. 429 and 503 are only for requests: `problem_of` replaces them for imports.
_TABLE: tuple[tuple[type[BaseException], int, str], ...] = (
    (Cancelled, 409, "OperationCanceled"),
    (TagExists, 409, "TagAlreadyExists"),
    (SourceNotAllowed, 403, "SourceNotAllowed"),
    (LoginNotDemanded, 403, "LinkedAuthorizationFailed"),
    (PolicyRefused, 403, "RegistryPolicyForbids"),
    (LimitExceeded, 400, "LimitExceeded"),
    (InvalidInput, 400, "InvalidParameters"),
    (Unauthorized, 400, "RegistryUnauthorized"),
    (Denied, 400, "RegistryDenied"),
    (CredentialsLost, 400, "CredentialsLost"),
    (CredentialsError, 400, "RegistryCredentials"),
    (NotFound, 400, "ManifestUnknown"),
    (RateLimited, 400, "TooManyRequests"),
    (ContentError, 400, "ContentInvalid"),
    (AddressRefused, 400, "AddressNotAllowed"),
    (TransportError, 400, "RegistryUnreachable"),
    (RegistryError, 400, "RegistryError"),
    (QueueFull, 429, "TooManyImports"),
    (Stopping, 503, "ServiceStopping"),
    (StoreError, 503, "StorageUnavailable"),
    (CrossdockError, 400, "ImportFailed"),
)
_REPEATED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that make clients repeat a poll; no import ends with one of them (az-contract 2.4)."""
_ATTEMPTS_SHOWN = 3


def problem_of(error: BaseException, *, registry: str = "", operation: str = "") -> Problem:
    """The error that ended or prevented an import, in ARM's form.

    `registry` is the target's resource ID and `operation` the import's id, ``registries-GUID``. Without an id
    the request was refused, and its status may be one that makes clients retry. The message is complete; the
    details repeat phase, registry, URL and status as fields. Unexpected exceptions are not shown.
    """
    cause = root_cause(error)
    status, code = next(
        ((status, code) for kind, status, code in _TABLE if isinstance(cause, kind)), (400, "InternalError")
    )
    if operation and status in _REPEATED:
        status = 400
    words = str(error) if isinstance(error, CrossdockError) else "internal error"
    advice = error.advice if isinstance(error, CrossdockError) else None
    if advice is not None and (text := advice.worded(SERVICE)):
        words = with_more(words, text)
    message = f"Operation {operation} failed. Resource {registry} {words}" if operation else words
    target, details = "request", []
    if isinstance(error, CopyError):
        target = error.reference
        details.append(_detail(code, error, cause))
        details += [
            Detail(code=code, message=str(each), target=error.reference)
            for each in _attempts(error)[-_ATTEMPTS_SHOWN:]
        ]
    elif isinstance(error, TagExists) and error.references:
        target = error.references[0]
        details += [_conflict(code, each) for each in error.references]
    return Problem(status=status, code=code, message=message, target=target, details=tuple(details))


def _conflict(code: str, reference: str) -> Detail:
    """The detail for a tag that already exists, in the form of `_detail`."""
    registry = reference.partition("/")[0]
    said = f"phase: resolve, side: target, registry: {registry}, reference: {reference}"
    return Detail(code=code, message=said, target=reference)


def _detail(code: str, error: CopyError, cause: BaseException) -> Detail:
    """Where it failed: ``phase: …, side: …, registry: …, reference: …, url: …, status: …``."""
    facts = {
        "phase": error.operation,
        "side": error.side,
        "registry": error.reference.partition("/")[0],
        "reference": error.reference,
        "url": getattr(cause, "url", ""),
        "status": getattr(cause, "status", 0),
        "rule": getattr(cause, "rule", ""),
    }
    said = ", ".join(f"{name}: {value}" for name, value in facts.items() if value)
    return Detail(code=code, message=said, target=error.reference)


def _attempts(error: BaseException) -> tuple[CrossdockError, ...]:
    """The errors of all attempts; empty when there was no retry."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RetriesExhausted):
            return found.attempts
        found = found.__cause__
    return ()
