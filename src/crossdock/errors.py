"""Every error crossdock raises, on one screen.

An error says what failed, where, and what to do next:

- ``side``, ``operation``, ``reference``: where; None where unknown. Errors that end a copy always know them.
- ``cause``: the error behind it, the same as ``__cause__``.
- ``advice``: what the person reading can do next (`Advice`), or None.
- ``retryable``: the same request may succeed when sent again (the server was busy, a connection broke).
  Only transport and registry code sets it; loops that retry read it and nothing else.
- ``resume``: how to resume what an interrupted copy left (`Resume`), or None; set by the command.

Messages never hold a secret: URLs are redacted before they reach an error (`redact`).
Errors pickle, so they cross process boundaries whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn, Self

Side = Literal["source", "target"]


class Advice:
    """Advice about an error, as a value: each face (library, command, service) words it for its users.

    ``kind`` is a short code, such as ``give-ca``, that programs may decide by, and the key of the faces'
    tables of wordings. ``str()`` is the library's wording. Neither a dataclass, a NamedTuple nor a
    `msgspec.Struct`: every start of the command loads this module, and would pay a millisecond for one.
    """

    __slots__ = (
        "entry",
        "file",
        "kind",
        "option",
        "platforms",
        "registry",
        "repository",
        "side",
        "text",
        "variable",
        "why",
    )
    kind: str
    text: str
    why: str
    side: Side | None
    registry: str
    repository: str
    option: str
    variable: str
    file: str
    entry: str
    platforms: tuple[str, ...]

    def __init__(
        self,
        kind: str,
        text: str = "",
        *,
        why: str = "",
        side: Side | None = None,
        registry: str = "",
        repository: str = "",
        option: str = "",
        variable: str = "",
        file: str = "",
        entry: str = "",
        platforms: tuple[str, ...] = (),
    ) -> None:
        """`text` is the wording where the kind alone is too general, the same for every face.

        `why` is the reason for the advice, put before it. `registry` is ``host[:port]``; `option` the field
        of the options that is meant, such as ``ca_file``; `variable` one of the environment; `file` is to be
        repaired or given, with `entry`, the name of a registry in it, it is the inventory.
        """
        given = locals()
        for name in self.__slots__:
            object.__setattr__(self, name, given[name])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("advice is a value: use replace()")

    def __reduce__(self) -> tuple[Any, ...]:
        return _advice, (self.fields(),)

    def fields(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def replace(self, **changes: Any) -> Advice:
        """The same advice with some fields changed."""
        return Advice(**{**self.fields(), **changes})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Advice) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash((self.kind, self.text, self.why))

    def __repr__(self) -> str:
        return f"Advice({', '.join(f'{name}={value!r}' for name, value in self.fields().items() if value)})"

    def __str__(self) -> str:
        return self.worded({})

    def worded(self, table: Mapping[str, str], **more: object) -> str:
        """The advice in the words of a face: its template for the kind, else the library's, else `text`.

        Templates are formatted with the fields and with `more`, the names that a face has for options. A
        template for ``kind/entry``, where `entry` is known, or for ``kind/source`` goes before that for
        ``kind``.
        """
        from crossdock.advice import LIBRARY

        words = self.text
        if not words:
            kinds = [f"{self.kind}/entry"] if self.entry else []
            kinds += [f"{self.kind}/{self.side}"] if self.side else []
            kinds.append(self.kind)
            templates = (each[kind] for kind in kinds for each in (table, LIBRARY) if kind in each)
            words = next(templates, "").format(**self.fields(), **more)
        return f"{self.why}: {words}" if self.why and words else self.why or words


def _advice(fields: dict[str, Any]) -> Advice:
    return Advice(**fields)


def _rebuilt(
    kind: type[CrossdockError], args: tuple[Any, ...], cause: CrossdockError | None
) -> CrossdockError:
    """An error from its pickle. OSError.__new__ leaves args empty under a class with its own __init__."""
    error = kind.__new__(kind)
    error.args = args
    error.__cause__ = cause
    return error


class Notice(str):
    """A warning with advice. The text has the library's wording; a face may put its own behind `said`."""

    __slots__ = ("advice", "said")
    said: str
    advice: Advice

    def __new__(cls, said: str, advice: Advice) -> Self:
        notice = super().__new__(cls, f"{said}; {advice}")
        notice.said, notice.advice = said, advice
        return notice

    def __reduce__(self) -> tuple[Any, ...]:
        return Notice, (self.said, self.advice)


class Resume:
    """The way to resume an interrupted copy."""

    __slots__ = ("command", "text")

    def __init__(self, command: str, text: str) -> None:
        """`command` can be pasted into a shell; `text` is the sentence around it."""
        self.command = command
        self.text = text


class CrossdockError(Exception):
    """Root of every error raised on purpose by crossdock."""

    side: Side | None = None
    operation: str | None = None
    reference: str | None = None
    advice: Advice | None = None
    retryable: bool = False
    resume: Resume | None = None
    usual: str = ""
    """The kind of advice for a copy that ended so, where nothing better is known."""

    def __init__(
        self,
        message: str,
        *,
        advice: Advice | None = None,
        cause: BaseException | None = None,
        retryable: bool | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        if advice is not None:
            self.advice = advice
        if cause is not None:
            self.__cause__ = cause
        if retryable is not None:
            self.retryable = retryable
        self.__dict__.update(details)

    def replace(self, message: str = "", **details: Any) -> Self:
        """The same error with another message or other details, for a level that knows more."""
        twin = type(self)(message or str(self), **{**self.__dict__, **details})
        twin.__cause__ = self.__cause__
        return twin

    @property
    def cause(self) -> BaseException | None:
        """The error behind this one, None when there is none."""
        return self.__cause__

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

    usual = "retry-or-report"


class InvalidManifest(ContentError, ValueError):
    """A document that is not a manifest, has an unknown or refused type, or exceeds a limit of the parser."""


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

    usual = "report"


# -- no usable reply ---------------------------------------------------------------------------------


class TransportError(CrossdockError):
    """No usable reply came. ``.method`` and ``.url`` (redacted) when a request was under way."""

    retryable = True
    usual = "retry"
    method: str = ""
    url: str = ""


class ConnectFailed(TransportError, ConnectionError):
    """Name look-up, TCP connect or proxy CONNECT failed.

    ``.is_closed`` is True when the port refused, and never took a connection of this process before: most
    likely the address is wrong, and waiting does not help (`options.NetworkOptions.retries_after`).
    ``.is_unknown_name``: the name service knows no such host.
    ``.lacks_descriptors``: this process has as many open files as it may have.
    """

    usual = "check-address"
    is_closed: bool = False
    is_unknown_name: bool = False
    lacks_descriptors: bool = False


class TlsFailed(TransportError, ConnectionError):
    """The TLS handshake failed: untrusted, expired or wrong certificate, or not a TLS server."""

    retryable = False
    usual = "check-trust"


class ReadFailed(TransportError, ConnectionError):
    """The connection broke before the whole answer arrived."""


class WriteFailed(TransportError, ConnectionError):
    """The connection broke before the whole request was sent."""


class TimedOut(TransportError, TimeoutError):
    """A bounded wait ran out. ``.phase``: connect, first byte, low speed, write, commit or pool."""

    usual = "allow-more-time"
    phase: str = ""


class ProtocolError(TransportError):
    """The peer broke HTTP or the distribution specification; the message quotes what was observed."""


class RedirectRefused(TransportError):
    """A redirect or Location that must not be followed (to plain HTTP, to a private address, too many)."""

    retryable = False
    usual = "report-redirect"


class AddressRefused(TransportError):
    """A host resolves to an address that the caller's `options.AddressGuard` refuses; nothing was sent to it.

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

    usual = "ask-operator"
    status: int = 0
    codes: tuple[str, ...] = ()
    digests: frozenset[str] = frozenset()
    retry_after: float | None = None
    method: str = ""
    url: str = ""


class Unauthorized(RegistryError):
    """401, or the token service refused: credentials are missing or wrong."""

    usual = "log-in"


class TokenExpired(Unauthorized):
    """A token that the caller gave has expired, by its own expiry time: only the caller can get a new one."""


class Denied(RegistryError):
    """403: the credentials are known and not enough."""

    usual = "ask-access"


class WrongScope(Unauthorized, Denied):
    """A 401 to credentials that are good, but not for this repository or action."""


class NotFound(RegistryError, LookupError):
    """404: no such repository, tag, manifest or blob."""

    usual = "check-name"


class RateLimited(RegistryError):
    """429, after every permitted retry."""

    retryable = True
    usual = "wait"


class ServerBusy(RegistryError):
    """500, 502, 503, 504 and 408: a retry may succeed."""

    retryable = True
    usual = "retry"


class Unsupported(RegistryError):
    """The registry does not speak what is needed (405, 415, an unknown manifest type)."""


class UploadRejected(RegistryError):
    """An upload was refused for good; the message holds status and codes."""


class UploadInterrupted(CrossdockError):
    """An upload must be fed again from ``.offset``: the target holds exactly the bytes before it.

    Not a failure: the sender goes back and carries on. ``.announce`` is True when bytes that the target
    had acknowledged were lost (a new session), so the report can say so.
    """

    offset: int
    announce: bool = False


# -- this machine, and the end of a copy -------------------------------------------------------------


class StoreError(CrossdockError, OSError):
    """A layout or file on this machine cannot be read or written (full disk, permissions, no layout)."""


class OutputFailed(StoreError):
    """The result cannot be written to stdout or to a report's file (full disk). What it describes is done."""


class JournalUnavailable(StoreError):
    """The journal of uploads cannot be used; a copy continues without it.

    ``.busy`` is True when another process keeps it locked.
    """

    busy: bool = False


class SpoolUnavailable(StoreError):
    """The spool of source bytes cannot be used; a copy continues without it."""


class CredentialsError(CrossdockError):
    """A credential file or helper could not be used. Never holds the credential."""

    usual = "log-in"


class CredentialsLost(CredentialsError):
    """The credentials of an import were not kept over a restart, or cannot be decrypted."""


class PolicyRefused(CrossdockError):
    """A registry's own settings forbid the operation; nothing was sent."""


class SourceNotAllowed(PolicyRefused):
    """The source is not a registry that may be imported from. ``.rule`` as in `AddressRefused`."""

    rule: str = ""


class LoginNotDemanded(PolicyRefused):
    """Credentials stand in for a right on the source registry, and it did not ask for any."""


class TagExists(CrossdockError):
    """A target tag means something else already and must not be moved; nothing was copied.

    ``.references`` are those tags, as ``host[:port]/repository:tag``.
    """

    references: tuple[str, ...] = ()


class ChangedSincePlan(CrossdockError):
    """The source or the target has changed since the plan was reviewed; this part of it was not done."""


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
    """Where a copy ended: ``.operation``, ``.side``, ``.reference`` and ``.cause``.

    ``str()`` is the one line a person needs: ``fetch blob sha256:… from source host:port/repo: cause``.
    ``.names_side`` is False where one registry alone takes part: the line then leaves the side out.
    ``.advice`` is that of the errors behind it, else the usual one; it has the side and the registry.
    """

    operation: str
    side: Side
    reference: str
    names_side: bool = True

    def __init__(
        self,
        message: str,
        *,
        advice: Advice | None = None,
        cause: BaseException | None = None,
        side: Side = "source",
        operation: str = "",
        reference: str = "",
        **details: Any,
    ) -> None:
        details.update(side=side, operation=operation, reference=reference)
        super().__init__(message, cause=cause, **details)
        advice = advice or self.advice or self._advice_behind()
        if advice is not None:
            from crossdock.advice import registry_in

            registry = advice.registry or registry_in(reference)
            self.advice = advice.replace(side=advice.side or side, registry=registry)

    def _advice_behind(self) -> Advice | None:
        behind = self.__cause__
        while behind is not None:
            if isinstance(behind, CrossdockError) and behind.advice is not None:
                return behind.advice
            behind = behind.__cause__
        from crossdock.advice import usual_kind

        usual = getattr(root_cause(self), "usual", "")
        kind = usual_kind(usual, self.operation, self.side, self.reference, names_side=self.names_side)
        return Advice(kind) if kind else None


class CopiesFailed(CrossdockError):
    """Some copies of a run of many failed, ``.errors`` in the order of their pairs; the others are done."""

    errors: tuple[Exception, ...] = ()


CONTENT_MISSED = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID"})
"""Codes of a registry that lacks something that a manifest lists; the last one is zot's."""


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


def is_final(error: CopyError) -> bool:
    """Whether content or a response is at fault, and not a connection, a rate limit or this machine."""
    cause = root_cause(error)
    if isinstance(cause, DigestMismatch | SizeMismatch):
        return error.side == "source"  # at the target it damages what it is sent
    return was_refused(error) or isinstance(cause, ContentError | ProtocolError | RedirectRefused)


def root_cause(error: BaseException) -> BaseException:
    """The innermost crossdock error behind `error`: what decides the exit code."""
    while isinstance(error, CopyError | RetriesExhausted) and error.__cause__ is not None:
        error = error.__cause__
    return error
