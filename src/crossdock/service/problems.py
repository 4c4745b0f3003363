"""Errors as ARM's: one table of codes and statuses for everything that can end an import."""

from __future__ import annotations

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
    NotFound,
    PolicyRefused,
    QueueFull,
    RateLimited,
    RegistryError,
    SourceNotAllowed,
    Stopping,
    StoreError,
    TagExists,
    TransportError,
    Unauthorized,
    root_cause,
)
from crossdock.service.values import Detail, Problem

# The first class that fits decides. No status here is one on which clients repeat polls.
_TABLE: tuple[tuple[type[BaseException], int, str], ...] = (
    (Cancelled, 409, "OperationCanceled"),
    (TagExists, 409, "TagAlreadyExists"),
    (SourceNotAllowed, 403, "SourceNotAllowed"),
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
    (StoreError, 503, "ServiceStorage"),
    (CrossdockError, 400, "ImportFailed"),
)


def problem_of(error: BaseException, *, registry: str = "", operation: str = "") -> Problem:
    """What ended an import, for ARM. `registry` is the target's resource ID, `operation` the import's own.

    The message is the whole story; the detail names phase and side apart, for programs.
    """
    cause = root_cause(error)
    status, code = next(
        ((status, code) for kind, status, code in _TABLE if isinstance(cause, kind)), (400, "InternalError")
    )
    words = str(error) if isinstance(error, CrossdockError) else "internal error"
    if isinstance(cause, CrossdockError) and cause.hint:
        words = f"{words}; {cause.hint}"
    message = f"Operation {operation} failed. Resource {registry} {words}" if operation else words
    details: tuple[Detail, ...] = ()
    if isinstance(error, CopyError):
        url = getattr(cause, "url", "")
        answered = getattr(cause, "status", 0)
        said = ", ".join(
            part
            for part in (
                f"phase: {error.operation}",
                f"side: {error.side}",
                f"reference: {error.reference}",
                f"url: {url}" if url else "",
                f"status: {answered}" if answered else "",
            )
            if part
        )
        details = (Detail(code=code, message=said, target=error.side),)
    return Problem(status=status, code=code, message=message, target="request", details=details)
