"""Scripted registries, and repositories that talk to them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from crossdock.errors import Side
from crossdock.options import Credentials, RegistryOptions
from crossdock.registry.client import RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.http.retry import Clock
from crossdock.registry.kinds import Kinds
from crossdock.registry.repository import RegistryRepository
from support.process import free_port
from unit.registry.http.scripted import MovedClock, ScriptedServer
from unit.registry.scripted_registry import Connect, PatientNetwork, ScriptedRegistry

NAMES = ("registry.test", "127.0.0.1", "localhost")


class Known:
    """The shared memory of a test's clients about their registry."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        """Of its kind."""


@pytest.fixture
def known() -> Known:
    return Known()


class HastyClock(Clock):
    """Real time, but without sleeping."""

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
def connect(server: ScriptedRegistry, opened: AsyncExitStack, known: Known) -> Connect:
    """Opens repository ``x`` of `server`. `posts`: whether it is known to take whole blobs in one POST."""

    def open_repository(
        side: Side = "target",
        repository: str = "x",
        posts: bool | None = False,
        credentials: Credentials | None = None,
        **network: float,
    ) -> RegistryRepository:
        context = Context(
            network=PatientNetwork(**{"retries": 2, "timeout": 10.0, **network}),  # type: ignore[arg-type]
            environ={},
            clock=HastyClock(),
            kinds=Kinds({"own": {"upload.is_limit": False, **known.values}}),
        )
        options = RegistryOptions(plain_http=True, credentials=credentials, kind="own")
        client = RegistryClient(server.host, side, options, context)
        client.memory.posted_whole(posts)
        opened.push_async_callback(client.close)
        return RegistryRepository(client, f"{server.host}/{repository}")

    return open_repository


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate as a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's TLS context with a certificate of the private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    return context


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedServer]:
    """A plain server that responds 200 to everything unless scripted otherwise."""
    async with ScriptedServer(lambda request: web.Response(text="{}")) as server:
        yield server


@pytest.fixture
async def tls_registry(server_tls: ssl.SSLContext) -> AsyncIterator[ScriptedServer]:
    """The same over TLS, by the private authority."""
    async with ScriptedServer(lambda request: web.Response(text="{}"), server_tls) as server:
        yield server


@pytest.fixture
def clock() -> MovedClock:
    """A clock that only moves when slept on."""
    return MovedClock()


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    return free_port()
