"""Every test here runs on both event loops; servers are plain sockets that send exactly the test's bytes."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
import trustme
import uvloop

from crossdock.options import NetworkOptions
from crossdock.transport.client import HttpClient
from unit.transport.engines import ENGINES, use_engine
from unit.transport.wire import Handler, Server


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The private CA of all TLS servers here."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["http", *(f"https by {name}" for name in ENGINES)])
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    scheme, _, engine = str(request.param).partition(" by ")
    if engine:
        use_engine(engine, monkeypatch)
    return scheme


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Closes clients and servers in the order of need, then shows that no task and no socket is left."""
    sockets = open_sockets()
    async with AsyncExitStack() as stack:
        yield stack
    for _ in range(200):  # turns of the loop, for handles that close in the next one
        if not leftovers(sockets):
            break
        await asyncio.sleep(0)
    assert not leftovers(sockets)


def open_sockets() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return found


def leftovers(sockets: int) -> list[Any]:
    """New open files; only their number, since a loop has new sockets in every run."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return [*tasks, *["socket"] * (open_sockets() - sockets)]


@pytest.fixture
def serve(stack: AsyncExitStack, scheme: str, server_tls: ssl.SSLContext) -> Callable[[Handler], Any]:
    """Starts a server for a handler, with or without TLS by the test's `scheme`."""

    async def start(handler: Handler) -> Server:
        server = Server(handler, server_tls if scheme == "https" else None)
        return await stack.enter_async_context(server)

    return start


@pytest.fixture
def new_client(stack: AsyncExitStack, client_tls: ssl.SSLContext) -> Callable[..., HttpClient]:
    """Makes clients; keyword arguments are network options."""

    def make(**options: Any) -> HttpClient:
        network = NetworkOptions(**{"connect_timeout": 10.0, "timeout": 20.0, **options})
        client = HttpClient(network, lambda host, port: client_tls, lambda scheme, host, port: None)
        stack.push_async_callback(client.close)
        return client

    return make
