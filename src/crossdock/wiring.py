"""Who serves a copy: a client for each registry, a store for each layout, and the workshop of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from crossdock import __version__
from crossdock.errors import Side
from crossdock.oci.reference import LayoutReference, Location, Reference
from crossdock.oci.registryname import registry_key
from crossdock.options import CopyOptions, default_state_folder
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.ranges import Supply
from crossdock.transfer.resume import Resuming
from crossdock.transfer.steps import during
from crossdock.transfer.tasks import stop
from crossdock.transfer.workshop import Workshop

if TYPE_CHECKING:
    from crossdock.registry.client import RegistryClient
    from crossdock.registry.repository import RegistryRepository
    from crossdock.store.layout import LayoutStore

OnRetry = Callable[[Side, str, str], None]  # side, operation, reason


class Places:
    """The registries and layouts that the copies of one run use, each opened once and closed at the end.

    Copies of one run share a registry's connections, tokens and back-off. `on_retry` is told of the retries
    that serve no copy in particular (a token's). Use it in an ``async with`` block.
    """

    def __init__(self, options: CopyOptions, on_retry: OnRetry | None = None) -> None:
        self.options = options
        self._on_retry = on_retry
        self._clients: dict[tuple[Side, str], RegistryClient] = {}
        self._stores: dict[tuple[Side, str], LayoutStore] = {}
        self._warnings: dict[str, bool] = {}  # whether they were taken
        self._unnamed: dict[Side, set[str]] = {"source": set(), "target": set()}  # nobody said who asks there

    async def __aenter__(self) -> Places:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as stack:  # goes on to the next when one fails or is cancelled
            for client in self._clients.values():
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

    def take_warnings(self) -> list[str]:
        """What the person should know of the registries, such as a login that cannot be read; each once."""
        taken = [message for message, was_taken in self._warnings.items() if not was_taken]
        self._warnings |= dict.fromkeys(taken, True)
        return taken

    def _warn(self, message: str) -> None:
        self._warnings.setdefault(message, False)

    def prepare(self, location: Location, side: Side) -> None:
        """Make what needs no I/O, to find out what cannot work. Raises as `client` does."""
        if isinstance(location, Reference):
            self.client(location, side)

    async def open(
        self, location: Location, side: Side, on_retry: OnRetry
    ) -> RegistryRepository | LayoutStore:
        """The repository or layout, for one copy, whose retries are told to `on_retry`.

        Raises `CopyError` when there is no such layout, and as `client` does.
        """
        if isinstance(location, LayoutReference):
            return await self._store(location, side)
        from crossdock.registry.repository import RegistryRepository

        client = self.client(location, side)
        return RegistryRepository(
            client.for_copy(lambda operation, reason: on_retry(side, operation, reason)), location
        )

    async def _store(self, location: LayoutReference, side: Side) -> LayoutStore:
        # Imported where it is used: a copy between registries does not pay for it, nor one between layouts
        # for an HTTP client.
        from crossdock.store.layout import LayoutStore

        key = (side, location.path)
        if key not in self._stores:
            with during("open", side, str(location)):
                joins = side == "source" and bool(self.options.platforms)
                store = await asyncio.to_thread(
                    LayoutStore, location.path, create=side == "target", joins_platforms=joins
                )
            self._stores.setdefault(key, store)
        return self._stores[key]

    def _new_client(self, location: Reference, side: Side) -> RegistryClient:
        from crossdock.registry.auth.credentials import user_environ
        from crossdock.registry.client import RegistryClient

        options, told = self.options, self._on_retry
        environ = user_environ(os.environ) if options.environ is None else options.environ
        own = options.source if side == "source" else options.target
        registries = options.registries
        known = registries and registries.options_for(
            location.registry, environ, with_credentials=not own.knows_who
        )
        own = own.over(known) if known else own
        unnamed = self._unnamed[side]
        if not own.knows_who:
            unnamed.add(registry_key(location.registry))
        return RegistryClient(
            location.api_host,
            side=side,
            options=own,
            network=options.network,
            environ=environ,
            served_at=registries.served_at if registries else None,
            on_retry=(lambda operation, reason: told(side, operation, reason)) if told else None,
            guard=options.guard,
            on_warning=self._warn,
            is_sole=lambda: len(unnamed) <= 1,
            user_agent=f"crossdock/{__version__}",
        )


class _Shop:
    """A workshop and how many copies use it."""

    def __init__(self, options: CopyOptions) -> None:
        budget = Budget(options.memory, debug=options.paranoid)
        permits = Permits(budget, fixed=options.network.connections, part_size=options.chunk_size)
        supply = Supply(budget=budget, permits=permits, network=options.network)
        self.workshop = Workshop(
            supply=supply,
            hashing=HashingService(),
            verify=options.verify,
            paranoid=options.paranoid,
            check_blobs=options.check_blobs,
        )
        self.users = 0
        self._watching = asyncio.ensure_future(permits.watch())

    async def close(self) -> None:
        """Stop its thread and give its memory back."""
        try:
            await stop(self._watching)
        finally:
            self.workshop.hashing.close()
            self.workshop.supply.budget.close()


@asynccontextmanager
async def open_resuming(options: CopyOptions) -> AsyncIterator[Resuming]:
    """What makes large blobs resumable in one run of copies.

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

            journal = Journal(options.state)
            environ = os.environ if options.environ is None else options.environ
            if options.state != default_state_folder(environ):
                await asyncio.to_thread(journal.open)
        yield Resuming(options.resume_above, options.upload_chunk, journal=journal, spool=spool)
    finally:
        if journal is not None and journal.is_open:
            await asyncio.shield(asyncio.to_thread(journal.close))


@asynccontextmanager
async def open_share(workshop: Workshop, options: CopyOptions, name: str) -> AsyncIterator[Workshop]:
    """The part of `workshop` for one of several users that do not know of each other.

    It has source connections of its own, and shares of memory and places: a source that is slow, silent or
    refuses keeps nobody but this user waiting. `name` is different for each of them.
    """
    budget = workshop.supply.budget.share()
    permits = Permits(budget, fixed=options.network.connections, part_size=options.chunk_size)
    supply = Supply(budget=budget, permits=permits, network=options.network)
    watching = asyncio.ensure_future(permits.watch())
    try:
        yield replace(workshop, supply=supply, share=name)
    finally:
        try:
            await stop(watching)
        finally:
            budget.close()


_shops: dict[tuple[object, ...], _Shop] = {}


@asynccontextmanager
async def open_workshop(options: CopyOptions) -> AsyncIterator[Workshop]:
    """The workshop for a copy. Copies with equal limits that run at once on one loop share one: the memory
    that an option allows is allowed once, however many copies are under way.
    """
    loop = asyncio.get_running_loop()
    limits = (options.memory, options.network, options.chunk_size)
    key = (loop, limits, options.verify, options.paranoid, options.check_blobs)
    shop = _shops.get(key)
    if shop is None:
        shop = _shops[key] = _Shop(options)
    shop.users += 1
    try:
        yield shop.workshop
    finally:
        shop.users -= 1
        if not shop.users:
            del _shops[key]
            await shop.close()
