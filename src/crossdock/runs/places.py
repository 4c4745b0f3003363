"""Shared by the copies of a session: a client for each registry, a store for each layout, the journal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Union, cast, overload

from msgspec import Struct

from crossdock import __version__
from crossdock.activity import CURRENT
from crossdock.errors import InvalidInput, InvalidOption, InvalidReference, Side
from crossdock.oci.digest import Digest
from crossdock.oci.platform import Platform
from crossdock.oci.reference import DEFAULT_TAG, Location, Reference, as_location, named, scheme_of
from crossdock.oci.registryname import registry_key
from crossdock.options import CopyOptions, Credentials, default_state_folder
from crossdock.steps import during
from crossdock.tally import log_retry
from crossdock.tasks import in_abandonable_thread
from crossdock.transfer.workshop import Resuming, Workshop

if TYPE_CHECKING:
    from crossdock.content import Source, Target
    from crossdock.limits import Limits
    from crossdock.registry.client import RegistryClient
    from crossdock.registry.context import Context
    from crossdock.registry.repository import RegistryRepository
    from crossdock.runs.facts import Facts

AnySource = Union[str, Location, "Source"]
AnyTarget = Union[str, Location, "Target"]

_ARCHIVES: ContextVar[dict[tuple[str, str], Any] | None] = ContextVar("crossdock_archives", default=None)
"""The archives that the present run writes, by `Location.place`."""

OnRetry = Callable[[Side, str, str], None]  # side, operation, reason
OnWarning = Callable[[str], None]


class ObjectReference(Struct, frozen=True, eq=False):
    """A tag or digest in a repository that is an object of the caller."""

    repository: Source | Target
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def of(cls, repository: Source | Target, name: str) -> ObjectReference:
        """`name` is a tag or a digest. Raises `InvalidDigest`."""
        is_digest = ":" in name
        return cls(repository, None if is_digest else name, Digest(name) if is_digest else None)

    @property
    def place(self) -> tuple[str, str]:
        """As `Location.place`."""
        return "object", str(id(self.repository))

    def __str__(self) -> str:
        return f"{self.repository.name}{f':{self.tag}' if self.tag else f'@{self.digest}'}"


Place = Location | ObjectReference
"""One end of a copy."""


def as_places(
    source: AnySource, target: AnyTarget, source_name: str | None = None, target_name: str | None = None
) -> tuple[Place, Place]:
    """Both ends of a copy. The name in an object is by default the other side's tag, or else ``latest``.

    Raises `InvalidInput`, naming the side, and TypeError for what is neither a location nor an object.
    """
    first: Place | None = _parsed(source, "source", source_name)
    second: Place | None = _parsed(target, "target", target_name)
    if first is None:
        name = source_name or (second.tag if second else target_name) or DEFAULT_TAG
        first = ObjectReference.of(cast("Source", source), name)
    if second is None:
        second = ObjectReference.of(cast("Target", target), target_name or first.tag or DEFAULT_TAG)
    return first, second


def _parsed(given: AnySource | AnyTarget, side: Side, name: str | None) -> Location | None:
    """The location; None for an object."""
    if not isinstance(given, str | Location):
        if not hasattr(given, "resolve" if side == "source" else "push_manifest"):
            wanted = f"a reference, a layout or a {side.title()}"
            raise TypeError(f"the {side} must be {wanted}, not {type(given).__name__}")
        return None
    if name is not None:
        message = f"{side}_name is for an object, and the {side} is a reference: {given}"
        raise InvalidOption(message, side=side)
    try:
        location = as_location(given)
    except InvalidInput as error:
        raise error.replace(f"{side}: {error}", side=side) from None
    scheme = None if isinstance(location, Reference) else scheme_of(str(location))
    if scheme is not None and side not in scheme.sides:
        message = f"{location} cannot be a {side}"
        raise InvalidReference(message, operation="parse", side=side, reference=str(location))
    return location


class Shared(Struct, frozen=True):
    """Shared by the copies of one session."""

    options: CopyOptions
    platforms: tuple[Platform, ...]
    places: Places
    workshop: Workshop
    resuming: Resuming

    @property
    def checks_blobs(self) -> bool:
        """A manifest at the target does not stand for its blobs: they are looked for."""
        return self.workshop.checks_blobs


class Places:
    """The registries and layouts that the copies of a session use, each opened once and closed at the end.

    Its copies share a registry's connections, tokens and back-off. Use it in an ``async with`` block.
    """

    def __init__(self, options: CopyOptions, *, writes: bool = True) -> None:
        """Without `writes` no push scope is requested, not even at targets."""
        self.options = options
        self.limits = _limits(options)
        self._writes = writes
        self._clients: dict[tuple[Side, str], RegistryClient] = {}
        self._stores: dict[tuple[Side, str, str], Any] = {}
        self._opening: dict[tuple[Side, str, str], asyncio.Lock] = {}
        self._warnings: dict[str, bool] = {}  # whether they were taken
        self._context: Context | None = None
        self._facts: Facts | None = None

    async def __aenter__(self) -> Places:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as stack:  # the next is closed even if one fails or is cancelled
            for store in self._stores.values():
                stack.callback(_close, store)
            if self._facts is not None:
                stack.push_async_callback(self._facts.settle)
            stack.push_async_callback(self.hang_up)

    async def hang_up(self) -> None:
        """Close the connections to registries of which this process does not need any now."""
        clients, self._clients = list(self._clients.values()), {}
        async with AsyncExitStack() as stack:
            for client in clients:
                stack.push_async_callback(client.close)

    def client(self, location: Reference, side: Side) -> RegistryClient:
        """The client of the reference's registry. No network.

        Raises `InvalidInput`, `InvalidOption`, and `CredentialsError` for a secret that cannot be read.
        """
        registries = self.options.registries
        if registries and (home := registries.home_of(location.registry)) != location.registry:
            location = Reference(home, location.repository)
        key = (side, registry_key(location.api_host))
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._new_client(location, side)
        return client

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """The block of a run. The archives that it writes are put in their places at its end.

        If it fails or is cancelled, they are dropped. Raises `CopyError` over `StoreError`.
        """
        archives: dict[tuple[str, str], Any] = {}
        token = _ARCHIVES.set(archives)
        try:
            yield
            for archive in archives.values():
                with during("write", "target", archive.name):
                    await archive.finish()
        finally:
            _ARCHIVES.reset(token)
            for archive in archives.values():
                archive.close()

    def take_warnings(self) -> list[str]:
        """Warnings about the registries, such as a login that cannot be read; each is returned once."""
        taken = [message for message, was_taken in self._warnings.items() if not was_taken]
        self._warnings |= dict.fromkeys(taken, True)
        return taken

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message, False)

    def prepare(self, location: Place, side: Side) -> None:
        """Make what needs no I/O, to find out what cannot work. Raises as `client` does."""
        if isinstance(location, Reference):
            self.client(location, side)

    @overload
    async def open(
        self, location: Reference, side: Side, on_retry: OnRetry | None = None
    ) -> RegistryRepository: ...
    @overload
    async def open(self, location: Place, side: Side, on_retry: OnRetry | None = None) -> Any: ...
    async def open(self, location: Place, side: Side, on_retry: OnRetry | None = None) -> Any:
        """The repository, store or object, for one copy, which counts its retries by `on_retry`.

        Without it the run does. Raises `CopyError` when there is no such store, and as `client` does.
        """
        if isinstance(location, ObjectReference):
            return location.repository
        if not isinstance(location, Reference):
            return await self._store(location, side)
        from crossdock.registry.repository import RegistryRepository

        return RegistryRepository(
            self.client(location, side),
            location,
            partial(on_retry, side) if on_retry is not None else None,
            writes=self._writes and side == "target",
        )

    async def repositories(
        self,
        registry: Reference,
        top: int | None = None,
        on_warning: OnWarning | None = None,
        *,
        prefix: str = "",
    ) -> list[str]:
        """The repositories that the source's registry lists, the first `top` of them. # network

        Only those below `prefix` are needed, and a registry may list no others. `on_warning` is called for
        entries that are left out. Raises `NotFound` where there is no catalog, and as `client` does.
        """
        from crossdock.registry.catalog import list_repositories  # not needed for copies

        return await list_repositories(self.client(registry, "source"), top, on_warning, prefix=prefix)

    async def log_in(self, registry: Reference) -> Credentials | None:
        """Let the source's registry check its credentials: the login that can be stored, if any. # network

        Raises `Unauthorized`, `Denied`, and as requests do.
        """
        return await self.client(registry, "source").log_in()

    def has_shown_credentials(self, location: Reference) -> bool:
        """Whether the source's registry has demanded credentials and got them."""
        return self.client(location, "source").auth.has_shown_credentials

    def has_referrers(self, location: Reference) -> bool | None:
        """Whether the source's registry has the referrers API; None if not yet known."""
        return self.client(location, "source").memory.has_referrers

    async def _store(self, location: Location, side: Side) -> Any:
        # Opened once, however many copies begin with it: stdin cannot be read twice.
        async with self._opening.setdefault((side, *location.place), asyncio.Lock()):
            return await self._opened(location, side)

    async def _opened(self, location: Location, side: Side) -> Any:
        key, archives = (side, *location.place), _ARCHIVES.get()
        if archives is not None and side == "target" and location.place in archives:
            return archives[location.place]
        if key not in self._stores:
            with during("open", side, str(location)):
                scheme = scheme_of(str(location))
                assert scheme is not None
                store = await in_abandonable_thread(
                    named(scheme.open), location, side, self.options, undo=_close
                )
            if archives is not None and hasattr(store, "finish"):
                archives[location.place] = store
                return store
            self._stores[key] = store
        return self._stores[key]

    def _new_client(self, location: Reference, side: Side) -> RegistryClient:
        from crossdock.registry.client import RegistryClient

        options, context = self.options, self._registry_context()
        own = options.source if side == "source" else options.target
        registries = options.registries
        known = registries and registries.options_for(
            location.registry, context.environ, with_credentials=not own.knows_who
        )
        return RegistryClient(location.api_host, side, own.over(known) if known else own, context)

    def _registry_context(self) -> Context:
        if self._context is None:
            from crossdock.registry.auth.credentials import user_environ
            from crossdock.registry.context import Context
            from crossdock.registry.kinds import Kinds

            options = self.options
            if options.state is not None:
                from crossdock.runs.facts import Facts

                self._facts = Facts(options.state)
            self._context = Context(
                network=options.network,
                environ=user_environ(os.environ) if options.environ is None else options.environ,
                served_at=options.registries.served_at if options.registries else None,
                guard=options.guard,
                user_agent=f"crossdock/{__version__}",
                on_retry=_retried,
                on_warning=self._warn,
                limits=self.limits,
                kinds=Kinds(
                    getattr(options.registries, "kinds", {}), getattr(options.registries, "place", "")
                ),
                facts=self._facts,
            )
        return self._context


def _close(store: Any) -> None:
    """Close a store that is an open file, as archives are."""
    if hasattr(store, "close"):
        store.close()


def _limits(options: CopyOptions) -> Limits | None:
    if not (options.limit_rate or options.limit_requests or options.limit_hosts):
        return None
    from crossdock.limits import Limits  # few runs have any

    return Limits(options)


def _retried(side: Side, operation: str, reason: str) -> None:
    """A retry that serves all copies, such as a token's, counts for the one that waits for it."""
    activity = CURRENT.get()
    ((activity and activity.retried) or log_retry)(side, operation, reason)


@asynccontextmanager
async def open_resuming(options: CopyOptions) -> AsyncIterator[Resuming]:
    """The journal and the spool, which make large blobs resumable.

    The command's own journal is opened when there is something to keep. A folder that somebody chose is
    opened at once, so that trouble with it shows.
    """
    journal = spool = None
    try:
        if options.spool is not None:
            from crossdock.kept.spool import Spool

            spool = Spool(options.spool, options.spool_size)
            await asyncio.to_thread(spool.open)
        if options.state is not None:
            from crossdock.kept.journal import Journal

            journal = Journal.at(options.state)
            environ = os.environ if options.environ is None else options.environ
            if options.state != default_state_folder(environ):
                await asyncio.to_thread(journal.open)
        yield Resuming(options.resume_above, options.upload_chunk, journal=journal, spool=spool)
    finally:
        if journal is not None and journal.is_open:
            await asyncio.shield(asyncio.to_thread(journal.close))
