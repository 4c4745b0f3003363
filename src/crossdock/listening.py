"""What servers share: their address, TLS, stop signals, and an application run until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from crossdock.errors import InvalidOption, StoreError
from crossdock.stopping import catch_stop_signals

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

BACKLOG = 1024
OPEN_FILES = 65_536
IDLE = 3630.0  # seconds; aiohttp's own, longer than proxies keep connections
CONNECTIONS = 16_384  # each may take three of OPEN_FILES
FIELD_SIZE = 8190  # bytes, aiohttp's own
HANDSHAKE = 10.0  # seconds for TLS


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_listen(listen: str) -> tuple[str, int]:
    """``HOST:PORT`` as host and port; ``[::1]:5000`` for IPv6. Raises `InvalidOption`."""
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise InvalidOption(
            f"{listen!r} is not an address to listen on", hint="give HOST:PORT, for example 127.0.0.1:5000"
        )
    if int(port) > 65_535:
        raise InvalidOption(f"{port} is not a port", hint="ports go from 0 (any free one) to 65535")
    return bare, int(port)


async def serve_app(
    app: web.Application,
    host: str,
    port: int,
    *,
    on_ready: Callable[[int], None],
    stopping: asyncio.Event,
    ssl_context: ssl.SSLContext | None = None,
    grace: float,
    idle: float = IDLE,
    connections: int = CONNECTIONS,
    field_size: int = FIELD_SIZE,
) -> None:
    """Serve `app` until `stopping` is set; requests under way then get `grace` seconds to end.

    `on_ready` gets the port as soon as connections are accepted: with `port` 0 the one that was free. A
    connection is closed on which no whole head of a request has come for `idle` seconds; while there are
    `connections`, new ones are closed at once. A header field may have `field_size` bytes. Raises
    `StoreError` when the address is taken.
    """
    from aiohttp import web

    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=grace,
        keepalive_timeout=idle,
        max_field_size=field_size,
    )
    await runner.setup()
    server = None
    try:
        door = runner.server
        assert door is not None, "it is made by setup()"
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: door() if len(door.connections) < connections else _Closed(),
                host,
                port,
                ssl=ssl_context,
                ssl_handshake_timeout=HANDSHAKE if ssl_context else None,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise StoreError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="give another address with --listen; port 0 takes a free one",
            ) from error
        on_ready(server.sockets[0].getsockname()[1])
        await stopping.wait()
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()


class _Closed(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def shown_address(host: str, port: int) -> str:
    """``host:port`` as it stands in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The context of a server with this certificate; None without one. Raises `InvalidOption`."""
    if cert is None:
        if key is not None:
            raise InvalidOption("a key was given without its certificate", hint="add --cert FILE")
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError too
        raise InvalidOption(
            f"cannot use the certificate {cert}: {error.strerror or error}",
            hint="give PEM files: the certificate chain and its unencrypted key",
        ) from error
    return context


def stopped_by_signal() -> asyncio.Event:
    """Set by SIGINT or SIGTERM; one that comes a second later ends the process at once."""
    stopping = asyncio.Event()

    def abort(number: signal.Signals) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    catch_stop_signals(stopping.set, abort, (signal.SIGINT, signal.SIGTERM))
    return stopping


def allow_many_files() -> None:
    """A connection, its upload and its blob take three open files; the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
