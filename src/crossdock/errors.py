"""Every error crossdock raises, on one screen.

An error says what failed, where, and what to do next. Four attributes drive behaviour:

- ``retryable``: the same request may succeed when sent again (the server was busy, a connection broke).
  Only transport and registry code sets it; loops that try again read it and nothing else.
- ``hint``: what the person reading should do next, or an empty string.
- ``how_to_resume``: how to go on with what an interrupted copy left, or an empty string; set by the command.
- ``side``: only on `CopyError`, the edge where a lower error meets the copy that it ended.

Messages never hold a secret: URLs are redacted before they reach an error (`transport.redact`).
Errors pickle, so they cross process boundaries whole.
"""

from __future__ import annotations

from typing import Any, Literal

Side = Literal["source", "target"]


def _rebuilt(
    kind: type[CrossdockError], args: tuple[Any, ...], cause: CrossdockError | None
) -> CrossdockError:
    """An error from its pickle. OSError.__new__ leaves args empty under a class with its own __init__."""
    error = kind.__new__(kind)
    error.args = args
    error.__cause__ = cause
    return error


class CrossdockError(Exception):
    """Root of every error raised on purpose by crossdock."""

    retryable: bool = False
    hint: str = ""
    how_to_resume: str = ""

    def __init__(
        self, message: str, *, hint: str = "", retryable: bool | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        if hint:
            self.hint = hint
        if retryable is not None:
            self.retryable = retryable
        self.__dict__.update(details)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the class with args alone, which loses details; a cause outside of this
        # tree may not pickle and stays behind.
        cause = self.__cause__ if isinstance(self.__cause__, CrossdockError) else None
        return _rebuilt, (type(self), self.args, cause), self.__dict__


# -- the caller's input ------------------------------------------------------------------------------


class InvalidInput(CrossdockError, ValueError):
    """The caller's words cannot be acted on; nothing was sent."""


class InvalidReference(InvalidInput):
    """Not a reference; the message quotes it and says which part is wrong."""


class InvalidDigest(InvalidInput):
    """Not a digest of a known algorithm and length."""


class InvalidOption(InvalidInput):
    """An option's value is out of range or contradicts another."""


# -- content -----------------------------------------------------------------------------------------


class ContentError(CrossdockError):
    """Bytes are not what their descriptor promised. The side that served them is at fault."""


class InvalidManifest(ContentError, ValueError):
    """A document that is no manifest, is of an unknown or refused type, or breaks a limit of the parser."""


class ReferrersIncomplete(InvalidManifest):
    """A list of referrers has entries that are not understood.

    ``.referrers``: descriptors of the others; ``.tags``: as `content.Source.attached` returns them.
    """

    referrers: tuple[Any, ...] = ()
    tags: tuple[str, ...] = ()


class DigestMismatch(ContentError):
    """The bytes hash to another digest than promised. ``.expected``, ``.actual``: digest strings."""

    expected: str
    actual: str


class SizeMismatch(ContentError):
    """More or fewer bytes than promised. ``.expected``, ``.received``: bytes."""

    expected: int
    received: int


class LimitExceeded(ContentError):
    """A document, header or error body is over the limit named in the message."""


# -- no usable reply ---------------------------------------------------------------------------------


class TransportError(CrossdockError):
    """No usable reply came. ``.method`` and ``.url`` (redacted) when a request was under way."""

    retryable = True
    method: str = ""
    url: str = ""


class ConnectFailed(TransportError, ConnectionError):
    """Name look-up, TCP connect or proxy CONNECT failed.

    ``.is_closed`` is True when the port refused, and never took a connection of this process before: most
    likely the address is wrong, and waiting does not help (`options.NetworkOptions.retries_after`).
    ``.is_unknown_name``: the name service knows no such host.
    ``.lacks_descriptors``: this process has as many open files as it may have.
    """

    is_closed: bool = False
    is_unknown_name: bool = False
    lacks_descriptors: bool = False


class TlsFailed(TransportError, ConnectionError):
    """The TLS handshake failed: untrusted, expired or wrong certificate, or not a TLS server."""

    retryable = False


class ReadFailed(TransportError, ConnectionError):
    """The connection broke before the whole answer arrived."""


class WriteFailed(TransportError, ConnectionError):
    """The connection broke before the whole request was sent."""


class TimedOut(TransportError, TimeoutError):
    """A bounded wait ran out. ``.phase``: connect, first byte, low speed, write, commit or pool."""

    phase: str = ""


class ProtocolError(TransportError):
    """The peer broke HTTP or the distribution specification; the message quotes what was observed."""


class RedirectRefused(TransportError):
    """A redirect or Location that must not be followed (to plain HTTP, to a private address, too many)."""

    retryable = False


class AddressRefused(TransportError):
    """A host leads to an address that the caller's `options.AddressGuard` does not allow; it was not asked.

    ``.rule`` is the rule's name, which the message has as well.
    """

    retryable = False
    rule: str = ""


# -- answered and refused ----------------------------------------------------------------------------


class RegistryError(CrossdockError):
    """The registry answered and refused.

    ``.status`` the HTTP status, ``.codes`` the error codes of the distribution specification found in the
    body, ``.digests`` those that it names, ``.retry_after`` seconds (None when not given), ``.method`` and
    ``.url`` (redacted).
    """

    status: int = 0
    codes: tuple[str, ...] = ()
    digests: frozenset[str] = frozenset()
    retry_after: float | None = None
    method: str = ""
    url: str = ""


class Unauthorized(RegistryError):
    """401, or the token service refused: credentials are missing or wrong."""


class TokenExpired(Unauthorized):
    """A token that was given to us has run out, by its own words; only whoever gave it has a new one."""


class Denied(RegistryError):
    """403: the credentials are known and not enough."""


class WrongScope(Unauthorized, Denied):
    """A 401 to credentials that are good, but not for this repository or action."""


class NotFound(RegistryError, LookupError):
    """404: no such repository, tag, manifest or blob."""


class RateLimited(RegistryError):
    """429, after every permitted retry."""

    retryable = True


class ServerBusy(RegistryError):
    """500, 502, 503, 504 and 408: the server may answer when asked again."""

    retryable = True


class Unsupported(RegistryError):
    """The registry does not speak what is needed (405, 415, an unknown manifest type)."""


class UploadRejected(RegistryError):
    """An upload was refused for good; the message holds status and codes."""


class UploadInterrupted(CrossdockError):
    """An upload must be fed again from ``.offset``: the target holds exactly the bytes before it.

    Not a failure: the sender goes back and carries on. ``.announce`` is True when bytes that the target
    had acknowledged were lost (a new session), so the report can say so. ``.cause`` is the error behind it.
    """

    offset: int
    announce: bool = False
    cause: CrossdockError | None = None


# -- this machine, and the end of a copy -------------------------------------------------------------


class StoreError(CrossdockError, OSError):
    """A layout or file on this machine cannot be read or written (full disk, permissions, no layout)."""


class OutputFailed(StoreError):
    """The result cannot be written to stdout or to a report's file (full disk). What it describes is done."""


class JournalUnavailable(StoreError):
    """The journal of uploads cannot be used; a copy goes on without it.

    ``.busy`` is True when another process keeps it locked.
    """

    busy: bool = False


class SpoolUnavailable(StoreError):
    """The spool of source bytes cannot be used; a copy goes on without it."""


class CredentialsError(CrossdockError):
    """A credential file or helper could not be used. Never holds the credential."""


class CredentialsLost(CredentialsError):
    """What an import was given to log in with was not kept, or cannot be decrypted, after a restart."""


class PolicyRefused(CrossdockError):
    """A registry's own settings forbid what was asked; nothing was sent."""


class SourceNotAllowed(PolicyRefused):
    """The source is none of the registries that may be imported from. ``.rule`` as in `AddressRefused`."""

    rule: str = ""


class LoginNotDemanded(PolicyRefused):
    """Credentials stand in for a right on the source registry, and it did not ask for any."""


class TagExists(CrossdockError):
    """A target tag means something else already and must not be moved; nothing was copied.

    ``.references`` are those tags, as ``host[:port]/repository:tag``.
    """

    references: tuple[str, ...] = ()


class NothingMatched(CrossdockError):
    """There is nothing to copy: nothing is there, or the patterns match nothing. Nothing was copied."""


class Cancelled(CrossdockError):
    """The copy was cancelled by its caller; nothing was tagged."""


class QueueFull(CrossdockError):
    """The service has as many imports waiting as it may have; nothing was accepted."""


class Stopping(CrossdockError):
    """The service is being stopped and accepts nothing any more."""


class RetriesExhausted(CrossdockError):
    """``.attempts`` holds the errors in order; the last one is chained."""

    attempts: tuple[CrossdockError, ...] = ()


class CopyError(CrossdockError):
    """Where a copy ended: ``.operation``, ``.side``, ``.reference`` and the chained cause.

    ``str()`` is the one line a person needs: ``fetch of blob sha256:… from source host:port/repo: cause``.
    ``.names_side`` is False where one registry alone takes part: the line then leaves the side out.
    """

    operation: str
    side: Side
    reference: str
    cause: CrossdockError
    names_side: bool = True


class CopiesFailed(CrossdockError):
    """Some copies of a run of many failed, ``.errors`` in the order of their pairs; the others are done."""

    errors: tuple[Exception, ...] = ()


def was_refused(error: BaseException) -> bool:
    """Whether a registry answered and refused, for good as far as can be told.

    What only saves work, such as the look whether something is there already, is done without then: rights to
    push need not hold rights to read, and some servers know no HEAD. A rate limit and a server that is busy
    concern all requests.
    """
    cause = root_cause(error)
    if not isinstance(cause, RegistryError) or isinstance(cause, RateLimited):
        return False
    return cause.status == 500 or not cause.retryable


def root_cause(error: BaseException) -> BaseException:
    """The innermost crossdock error behind `error`: what decides the exit code."""
    while isinstance(error, CopyError | RetriesExhausted) and error.__cause__ is not None:
        error = error.__cause__
    return error
