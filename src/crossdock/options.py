"""Options of a caller, as frozen values checked when made. One object travels down; nothing is global.

Sizes are bytes, times seconds. Every default names its reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

from crossdock.errors import CrossdockError, InvalidOption, RetriesExhausted
from crossdock.frozen import Frozen

MiB = 1 << 20
GiB = 1 << 30

Verify = Literal["stream", "target", "reread"]
"""How the target's blobs are verified.

``stream``: they are hashed here before their last bytes go out. ``target``: a registry's own comparison with
the digest of the closing PUT is trusted; only what lands in a layout, or has another digest than sha256, is
hashed here. ``reread``: as ``stream``, and each blob and manifest of the copy, whether it was pushed or found
at the target, is read back and compared before the tag is written. What is missing or wrong is pushed.
"""

ForeignLayers = Literal["keep", "copy"]
"""Treatment of layers that a registry need not have, because their descriptor lists URLs.

``keep``: the URLs stay in the manifest and no byte is copied. ``copy``: the bytes are fetched from the source
or from those URLs, without credentials, and pushed as well; the manifest is the same, URLs included.
"""

Existing = Literal["overwrite", "report", "refuse"]
"""Treatment of a target's tag that means something else than the source's.

``overwrite``: it is moved. ``report``: it stays as it is, which is reported and is not a failure. ``refuse``:
it stays as it is, and the copy fails. Content that the target attached to an image under a tag made of a
digest is never replaced.
"""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Credentials(Frozen):
    """Proof of identity at one registry. Never printed: ``repr`` shows the user name alone.

    ``identity_token`` is an OAuth2 refresh token (docker's ``identitytoken``); with it ``username`` may be
    empty. ``registry_token`` is a ready bearer token (docker's ``registrytoken``), sent as it is.
    ``access_token`` is one of Entra ID, which Azure registries exchange for their own."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)


AzLogin = Literal["", "last", "before files"]
"""When az is asked for its own login: never; where nothing else is known, or what a file says is refused; or
before the files of docker and podman, which may hold what an earlier login left."""

SIDE_VARIABLES = frozenset(
    f"CROSSDOCK_{side}_{word}"
    for side in ("SOURCE", "TARGET")
    for word in ("USERNAME", "PASSWORD", "IDENTITY_TOKEN", "ACCESS_TOKEN", "CREDENTIAL_HELPER", "REGISTRY")
)
"""Variables of the environment that hold credentials for one side of a run (`registry.auth.variables`)."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ChunkLimits(Frozen):
    """Bytes of one request of a chunked upload, but for the last one, which may have fewer."""

    least: int = 0
    most: int | None = None  # None: not known; also the limit for a blob in one request, where none is known
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.least < 0:
            raise InvalidOption("limits on chunks must be positive")
        if self.most is not None and self.fitting(self.most) > self.most:
            raise InvalidOption("no chunk is within its minimum, maximum and multiple")

    def fitting(self, size: int) -> int:
        """The size within the limits that is nearest to `size`, and not over it if that is possible."""
        most = size if self.most is None else min(size, self.most)
        fitting = max(most, self.least) // self.multiple * self.multiple
        return fitting if fitting >= max(self.least, 1) else fitting + self.multiple


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class CreateOptions(Frozen):
    """How repositories that are missing at a target are created (`registry.creation`)."""

    immutable: bool = False  # a tag cannot be moved once it is pushed
    scan: bool = False  # what is pushed is scanned for vulnerabilities


class InventoryEntry(NamedTuple):
    """The entry of an inventory that options are from, for advice."""

    file: str
    entry: str  # the registry's name there


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class RegistryOptions(Frozen):
    """The options for the registries of one side."""

    credentials: Credentials | None = None  # None: environment, then docker and podman files, then anonymous
    ca_file: Path | None = None  # added to the system's roots; given means HTTPS, never plain
    cert_file: Path | None = None  # client certificate, sent to the registry itself, never across a redirect
    key_file: Path | None = None  # its key; None: in cert_file
    plain_http: bool | None = None  # None: only on loopback, when the port does not speak TLS
    authfile: Path | None = None  # a file of podman's or docker's form, read instead of all others
    helper: str = ""
    """NAME of docker-credential-NAME, asked instead of the files when `credentials` is None.

    ``azure-identity`` asks that package for an access token, of a managed identity or a service principal of
    the environment, and ``azure-cli`` az's own login (`registry.auth.azure`).
    """
    az_login: AzLogin = ""
    """Use az's own login at Azure registries, even without a `helper` that names it."""
    own_only: bool = False
    """Without `credentials` and `helper` stay anonymous: the environment and files belong to someone else."""
    kind: str = (
        ""  # of registry, by its name in `registry/kinds.json`; empty: by the host and what it answers
    )
    values: tuple[tuple[str, Any], ...] = ()  # in place of the kind's: ``("upload.chunk", "10MiB")``
    create: CreateOptions | None = None  # missing repositories of a target; None: they are not created
    login_entry: InventoryEntry | None = field(default=None, compare=False)  # gave `credentials` or `helper`
    tls_entry: InventoryEntry | None = field(default=None, compare=False)  # gave `ca_file` or `plain_http`

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise InvalidOption("a client key was given without its certificate")
        if self.plain_http and self.ca_file is not None:
            raise InvalidOption("plain HTTP and a CA file contradict each other")

    @property
    def knows_who(self) -> bool:
        """Whether they hold a login, or name the helper that does."""
        return self.credentials is not None or bool(self.helper)

    def over(self, other: RegistryOptions) -> RegistryOptions:
        """These options, and those of `other` where these say nothing."""
        knows_tls = self.ca_file is not None or self.plain_http is not None
        knows_who = self.knows_who
        return RegistryOptions(
            credentials=self.credentials if knows_who else other.credentials,
            helper=self.helper if knows_who else other.helper,
            authfile=self.authfile or other.authfile,
            ca_file=self.ca_file if knows_tls else other.ca_file,
            plain_http=self.plain_http if knows_tls else other.plain_http,
            cert_file=self.cert_file or other.cert_file,
            key_file=self.key_file if self.cert_file else other.key_file,
            az_login=self.az_login or other.az_login,
            own_only=self.own_only or other.own_only,
            kind=self.kind or other.kind,
            values=self.values or other.values,
            create=self.create or other.create,
            login_entry=self.login_entry if knows_who else other.login_entry,
            tls_entry=self.tls_entry if knows_tls else other.tls_entry,
        )


class Registries(Protocol):
    """Options of single registries; `crossdock.inventory` reads them from a file."""

    def options_for(
        self, registry: str, environ: Mapping[str, str], *, with_credentials: bool = True
    ) -> RegistryOptions | None:
        """The options for the registry at ``host[:port]`` of a reference; None: it has no entry.

        Without credentials where the caller has others: a secret that is not needed need not be there.
        """

    def home_of(self, registry: str) -> str:
        """The ``host[:port]`` to ask for that of a reference: itself, unless it is another name for it."""

    def served_at(self, host: str, port: int) -> tuple[str, int] | None:
        """The address to connect to for a URL's host and port, as curl's ``--connect-to``; None: the same."""


class AddressGuard(Protocol):
    """Says which addresses may be connected to, where strangers name hosts (`crossdock.service.guard`)."""

    def check(self, host: str, port: int, addresses: Sequence[str] | None, *, registry: str) -> None:
        """Raise `AddressRefused` when there must be no connection to `host` and `port` of a URL.

        `addresses` are all that the host leads to, one of which is connected to without another look-up.
        None: it will be looked up, if that is allowed. Empty: a proxy will look it up. `registry` is the
        ``host[:port]`` on whose behalf it is asked: for its own address, or for one that it named in a
        redirect, a Location, a challenge, a link or a layer's URL.
        """


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class NetworkOptions(Frozen):
    """Bounds on every wait and on the number of sockets."""

    connect_timeout: float = 10.0  # name look-up, TCP and TLS handshake together
    timeout: float = 30.0  # nothing moved on a connection, or the first byte did not come
    commit_timeout: float = 600.0  # the answer to a closing PUT: minutes on large blobs (U13)
    low_speed: int = 64  # bytes a second over `timeout` under which a body counts as stalled
    retries: int = 5  # tries after the first, per request, without progress between them
    retries_closed: int = 1  # of them, for a port that refuses and never took a connection of this process
    connections: int | None = None  # source connections; None: 1 to 32, as many as throughput asks for
    connections_per_host: int = 96  # bound of the pool; azcopy uses up to 300

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "timeout", "commit_timeout"):
            if not getattr(self, name) > 0:
                raise InvalidOption(f"{name} must be more than 0 seconds")
        if self.low_speed < 0:
            raise InvalidOption("low_speed must be 0 or more bytes a second")
        if self.retries < 0:
            raise InvalidOption("retries must be 0 or more")
        if self.retries_closed < 0:
            raise InvalidOption("retries_closed must be 0 or more")
        if self.connections is not None and not 1 <= self.connections <= 256:
            raise InvalidOption("connections must be between 1 and 256")

    def retries_after(self, error: CrossdockError) -> int:
        """How often a request that failed by `error` is repeated, if it is worth that at all."""
        return min(self.retries, self.retries_closed) if getattr(error, "is_closed", False) else self.retries

    @property
    def least_progress(self) -> int:
        """Bytes that a broken try must have brought to be no failure in a row: fewer are those of a stall.

        Without it a source that gives a byte and breaks would be asked for ever, a byte at a time.
        """
        return max(1, round(self.low_speed * self.timeout))

    def backoff_s(self, failures: int, chance: float | None = None) -> float:
        """Seconds to wait after `failures` failures in a row: exponential, at most 30 s, with full jitter.

        `chance` is a number in 0..1, by default a random one: requests that failed together do not come back
        together. Precedent: AWS, "exponential backoff and jitter".
        """
        if chance is None:
            from random import random  # loads SHA-512; a copy that goes well draws no number

            chance = random()
        return min(30.0, 0.5 * 2.0 ** min(failures - 1, 32)) * chance

    def delay_after(self, failures: Sequence[CrossdockError], chance: float | None = None) -> float:
        """Seconds to wait before the next try, after `failures` in a row, the last of which came just now.

        `chance` as in `backoff_s`. Raises the last one when it is not retryable, or when it is the only one
        and no retry is allowed; `RetriesExhausted` when it was the last that `retries_after` allows.
        """
        error, tries = failures[-1], len(failures)
        if not error.retryable:
            raise error
        if tries <= self.retries_after(error):
            return self.backoff_s(tries, chance)
        if tries == 1:
            raise error
        raise RetriesExhausted(
            f"{error} (gave up after {tries} tries)", advice=error.advice, attempts=tuple(failures)
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class HostLimits(Frozen):
    """Limits for one registry, as source and target together; None: none.

    Requests to its token service and its storage count as well. There are at most `connections` to each host,
    on each side.
    """

    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    connections: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_second", "bytes_per_second", "connections"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and (name != "connections" or value >= 1)):
                raise InvalidOption(f"{name} must be more than 0")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class CopyOptions(Frozen):
    """All options of a copy. The defaults are those of the command, except for `state`.

    `referrers` None copies the referrers of a single reference, with a warning if they cannot be listed, and
    not those of a list of copies, where finding them would double the requests for images that the target
    has. With True they are copied, or the copy fails.

    With `state` None nothing is written on this machine, and a copy that was killed restarts its open
    uploads. The command uses `default_state_folder`.
    """

    source: RegistryOptions = RegistryOptions()
    target: RegistryOptions = RegistryOptions()
    network: NetworkOptions = NetworkOptions()
    platforms: tuple[str, ...] = ()  # os/arch[/variant]; none: everything, bytes unchanged
    referrers: bool | None = None  # copy the referrers of the manifests: see above
    foreign_layers: ForeignLayers = "keep"  # licences may forbid distributing them (image-spec layer.md)
    existing: Existing = "overwrite"  # target tags that mean something else
    chunk_size: int | None = None  # bytes of one ranged GET; None: latency × rate, from 4 MiB up
    memory: int = 256 * MiB  # all content buffers of the session together
    verify: Verify = "stream"
    check_blobs: bool = False  # look for every blob of present manifests, and copy missing ones
    state: Path | None = None  # folder of the journal of uploads; None: no journal
    resume_above: int = 256 * MiB  # larger blobs are uploaded so that another process can resume
    upload_chunk: int = 64 * MiB  # bytes of one such request; a kill loses one, and each costs a round trip
    spool: Path | None = None  # folder for source bytes of blobs over `resume_above`; None: no spool
    spool_size: int = 16 * GiB  # at most so many bytes in it; the largest layers seen in use have some 10 GiB
    paranoid: bool = False  # mark every filled slot with XXH3 and check the mark before it is sent
    limit_rate: float | None = None  # bytes of blobs a second, of all copies of the session together
    limit_requests: float | None = None  # requests a second, to all hosts together
    limit_hosts: Mapping[str, HostLimits] = field(default_factory=dict)  # by the host[:port] of a reference
    registries: Registries | None = (
        None  # options of single registries; those in `source` and `target` take precedence
    )
    guard: AddressGuard | None = None  # None: connections to every address are allowed
    environ: Mapping[str, str] | None = field(default=None, repr=False)  # None: the process's environment

    def __post_init__(self) -> None:
        if self.chunk_size is not None and self.chunk_size < 64 * 1024:
            raise InvalidOption("chunk size must be at least 64KiB")
        if self.verify not in get_args(Verify):
            raise InvalidOption(f"verify must be one of {', '.join(get_args(Verify))}")
        if self.foreign_layers not in get_args(ForeignLayers):
            raise InvalidOption(f"foreign_layers must be one of {', '.join(get_args(ForeignLayers))}")
        if self.existing not in get_args(Existing):
            raise InvalidOption(f"existing must be one of {', '.join(get_args(Existing))}")
        for value, what in ((self.limit_rate, "bytes"), (self.limit_requests, "requests")):
            if value is not None and not value > 0:
                raise InvalidOption(f"the limit of {what} per second must be more than 0")
        if self.memory < 4 * MiB:
            raise InvalidOption("memory must be at least 4MiB")
        if self.resume_above < 0:
            raise InvalidOption("resume_above must be 0 or more bytes")
        if self.upload_chunk < 64 * 1024:
            raise InvalidOption("upload chunk must be at least 64KiB")
        if self.spool_size < 4 * MiB:
            raise InvalidOption("spool size must be at least 4MiB")


def default_state_folder(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/crossdock``; a relative value is ignored (XDG base directory specification)."""
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home_folder(environ), ".local", "state")
    return Path(base) / "crossdock"


def home_folder(environ: Mapping[str, str]) -> str:
    """``$HOME`` when it is absolute, else the home of the user database, else ``/``.

    Container platforms run processes under user ids that no database has; runtimes set ``HOME=/`` for them.
    """
    home = environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = ""
    return home if os.path.isabs(home) else "/"


def expand_home(path: str, environ: Mapping[str, str]) -> str:
    """`path` with a leading ``~/`` as the home: CI files, quotes and ``=`` pass it on unexpanded."""
    if path != "~" and not path.startswith("~/"):
        return path
    return os.path.join(home_folder(environ), path[2:])
