"""Scripted registries, and repositories that talk to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from crossdock.errors import Side
from crossdock.options import Credentials, RegistryOptions
from crossdock.registry.client import RegistryClient
from crossdock.registry.repository import RegistryRepository
from crossdock.registry.retry import Clock
from unit.registry.scripted_registry import Connect, PatientNetwork, ScriptedRegistry


class HastyClock(Clock):
    """Real time, but nobody sleeps."""

    async def sleep(self, seconds: float) -> None:
        return


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def server(opened: AsyncExitStack) -> AsyncIterator[ScriptedRegistry]:
    """The registry that the repository belongs to."""
    registry = ScriptedRegistry()
    await registry.start()
    opened.push_async_callback(registry.stop)
    yield registry
    registry.check()


@pytest.fixture
async def storage(opened: AsyncExitStack) -> AsyncIterator[ScriptedRegistry]:
    """Another origin, where the registry redirects to."""
    registry = ScriptedRegistry()
    await registry.start()
    opened.push_async_callback(registry.stop)
    yield registry
    registry.check()


@pytest.fixture
def connect(server: ScriptedRegistry, opened: AsyncExitStack) -> Connect:
    """Opens repository ``x`` of `server`. `posts`: whether it is known to take whole blobs in one POST."""

    def open_repository(
        side: Side = "target",
        repository: str = "x",
        posts: bool | None = False,
        credentials: Credentials | None = None,
        **network: float,
    ) -> RegistryRepository:
        client = RegistryClient(
            server.host,
            side=side,
            options=RegistryOptions(plain_http=True, credentials=credentials),
            network=PatientNetwork(**{"retries": 2, "timeout": 10.0, **network}),  # type: ignore[arg-type]
            environ={},
            clock=HastyClock(),
        )
        client.memory.posted_whole(posts)
        opened.push_async_callback(client.close)
        return RegistryRepository(client, f"{server.host}/{repository}")

    return open_repository
