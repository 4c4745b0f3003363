"""Servers of this folder's tests, which run on both event loops: subprocesses, pipes and TLS differ."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import trustme
import uvloop
from aiohttp import web

from support.process import free_port
from unit.registry_auth.scripted import MovedClock, ScriptedServer

NAMES = ("registry.test", "127.0.0.1", "localhost")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on uvloop, the command's loop, and on asyncio's own."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


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
    """A plain server that answers 200 to everything until told otherwise."""
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
