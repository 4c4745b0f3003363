"""The workshop of a session: memory, source connections and the hashing thread that its copies share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from crossdock.options import CopyOptions
from crossdock.tasks import stop
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.supply import Supply
from crossdock.transfer.workshop import Workshop

if TYPE_CHECKING:
    from crossdock.limits import Limits


@asynccontextmanager
async def open_workshop(options: CopyOptions, limits: Limits | None = None) -> AsyncIterator[Workshop]:
    """A workshop for copies with these limits. At the end its thread is stopped and its memory given back."""
    supply = _supply(Budget(options.memory, debug=options.paranoid), options, limits)
    workshop = Workshop(
        supply=supply,
        hashing=HashingService(),
        verify=options.verify,
        paranoid=options.paranoid,
        check_blobs=options.check_blobs,
    )
    async with _watched(supply):
        try:
            yield workshop
        finally:
            workshop.hashing.close()  # its thread has views of the memory


@asynccontextmanager
async def open_share(
    workshop: Workshop, options: CopyOptions, name: str, limits: Limits | None = None
) -> AsyncIterator[Workshop]:
    """The part of `workshop` for one of several users who do not know each other; each has its own `name`.

    It has its own source connections, and shares of memory and places: a source that is slow, silent or
    refuses delays this user alone.
    """
    supply = _supply(workshop.supply.budget.share(), options, limits)
    async with _watched(supply):
        yield replace(workshop, supply=supply, share=name)


def _supply(budget: Budget, options: CopyOptions, limits: Limits | None) -> Supply:
    permits = Permits(budget, fixed=options.network.connections, part_size=options.chunk_size)
    return Supply(budget=budget, permits=permits, network=options.network, limits=limits)


@asynccontextmanager
async def _watched(supply: Supply) -> AsyncIterator[None]:
    watching = asyncio.ensure_future(supply.permits.watch())
    try:
        yield
    finally:
        try:
            await stop(watching)
        finally:
            supply.budget.close()
