"""An error as the one line that a person reads, and as the object that a report holds."""

from __future__ import annotations

import errno
import re
from typing import Any

from crossdock.cli.exits import ExitCode, exit_code
from crossdock.errors import (
    ConnectFailed,
    ContentError,
    CopyError,
    CredentialsError,
    CrossdockError,
    Denied,
    LimitExceeded,
    NotFound,
    RateLimited,
    RedirectRefused,
    RegistryError,
    ServerBusy,
    TimedOut,
    TlsFailed,
    TransportError,
    Unauthorized,
    root_cause,
)
from crossdock.oci.text import with_more

# `re` compiles them when they are first used: most copies do not fail.
# user:password@ after a scheme; a tag before @sha256:… is no password.
_USERINFO = r"(?<=//)[^/\s@]*@(?!sha\d+:)"
# Controls, line ends, and what turns the direction of writing.
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_BREAKS = rf"[{_UNPRINTABLE}]+"
# Operations that move no content, among them those of commands that list or log in.
_READS = ("inspect", "list tags", "list repositories", "list manifests", "log in")
_QUERY = r"(://[^\s?'\"<>]*)\?[^\s'\"<>)]+"


def error_line(error: BaseException) -> str:
    """``crossdock: <operation> <side> <reference>: <cause>; <hint>``, always exactly one line.

    The side is left out where one registry alone takes part.
    An error that crossdock did not raise on purpose is named as internal.
    """
    cause, code = root_cause(error), exit_code(error)
    if code is ExitCode.INTERNAL and not isinstance(cause, CrossdockError):
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return "crossdock: this process may open no more files; allow more with ulimit -n"
        reason = fold(str(cause)) or "no message"
        text = f"internal error: {type(cause).__name__}: {reason}; run again with --debug and report it"
        return f"crossdock: {text}"
    text = fold(str(cause)) or ("cancelled" if code is ExitCode.CANCELLED else type(cause).__name__)
    if isinstance(error, CopyError):
        side = f" {error.side}" if error.names_side else ""
        text = f"{fold(error.operation)}{side} {fold(error.reference)}: {text}"
    resume = fold(getattr(error, "how_to_resume", ""))
    for more in (find_hint(error) or next_step(error), resume):
        if more and more not in text:
            text = with_more(text, more)
    return f"crossdock: {text}"


def error_document(error: BaseException) -> dict[str, Any]:
    """The ``error`` member of a report."""
    code = exit_code(error)
    cause = root_cause(error)
    edge = error if isinstance(error, CopyError) else None
    return {
        "class": code.label,
        "type": type(cause).__name__,
        "exit_code": code.value,
        "side": edge.side if edge else None,
        "operation": fold(edge.operation) if edge else None,
        "reference": fold(edge.reference) if edge else None,
        "message": error_line(error).removeprefix("crossdock: "),
    }


def find_hint(error: BaseException) -> str:
    """The first hint on the way from the error to its root, folded to one line."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CrossdockError) and seen.hint:
            return fold(seen.hint)
        seen = seen.__cause__
    return ""


def next_step(error: BaseException) -> str:
    """What to do about an error of this class, where the error itself does not say; empty when unknown."""
    flag = "dest" if isinstance(error, CopyError) and error.side == "target" else "src"
    match root_cause(error):
        case CredentialsError() if not isinstance(error, CopyError):
            return ""  # of `crossdock login` or `logout`, which this advice would send back to themselves
        case Unauthorized() | CredentialsError():
            return f"log in with crossdock login, or use --{flag}-creds-stdin"
        case Denied():
            return "ask for access, or use other credentials"
        case NotFound():
            return _what_to_look_for(error)
        case RateLimited():
            return "wait, or use credentials with a higher limit"
        case ContentError() as cause:
            again = "" if isinstance(cause, LimitExceeded) else "try again, and if it stays "
            return (
                f"{'' if _tags_nothing(error) else 'nothing was tagged; '}{again}tell who runs that registry"
            )
        case ConnectFailed():
            return "check host and port, and whether the registry runs"
        case TlsFailed():
            return f"give its CA with --{flag}-ca, or --{flag}-plain-http if it does not speak TLS"
        case RedirectRefused():
            return "tell who runs that registry: it sends clients where they must not go"
        case TimedOut():
            return "try again, or allow more with --timeout"
        case TransportError() | ServerBusy():
            return "try again" if _tags_nothing(error) else "try again: what has arrived is not moved twice"
        case RegistryError():
            return "ask who runs that registry: its log may tell why"
    return ""


def _tags_nothing(error: BaseException) -> bool:
    """Whether no content was to be moved, so that there is nothing to say of it."""
    return isinstance(error, CopyError) and (not error.names_side or error.operation.startswith(_READS))


def _what_to_look_for(error: BaseException) -> str:
    """What to do about what is not there, by what was asked for."""
    operation = error.operation if isinstance(error, CopyError) else ""
    if isinstance(error, CopyError) and error.reference.startswith("oci:"):
        return ""  # the message has said which tags the layout has
    if isinstance(error, CopyError) and error.side == "target":
        return "check the repository's name; some registries want it to be created before"
    if operation.startswith(("list tags", "list manifests", "delete repository")):
        return "check the repository's name"
    if operation.startswith("fetch"):
        return "the source lists it and does not have it: ask who runs it, or who pushed it, to push it again"
    return "check repository and tag; `crossdock tags` lists tags"


def traceback_text(error: BaseException) -> str:
    """The traceback, for ``--debug``: errors of libraries hold whole URLs, so no query of one is shown."""
    import traceback

    text = re.sub(_QUERY, r"\1?…", "".join(traceback.format_exception(error)))
    return "\n".join(fold(line, strip=False) for line in text.splitlines())


def fold(text: str, *, strip: bool = True) -> str:
    """`text` on one line, without terminal controls and without passwords inside URLs."""
    line = re.sub(_USERINFO, "", re.sub(_BREAKS, " ", text))
    return line.strip() if strip else line.rstrip()
