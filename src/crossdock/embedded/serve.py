"""Run the embedded registry until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import InvalidOption, StoreError

if TYPE_CHECKING:
    import ssl

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 10.0  # seconds that requests under way may take to end after a stop signal
BACKLOG = 1024
THREADS = 16
OPEN_FILES = 65_536


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


async def serve(
    root: Path,
    host: str,
    port: int,
    *,
    on_ready: Callable[[int], None],
    ssl_context: ssl.SSLContext | None = None,
    users: Path | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the layouts under `root` until SIGINT or SIGTERM comes, or `stop` is set.

    `on_ready` gets the port as soon as connections are accepted: with `port` 0 the one that was free.
    `users`: the file of those who may use it; without it all may. Requests under way get `GRACE` seconds to
    end. With `stop` no signal is listened for. Raises `StoreError` when `root` or `users` cannot be used or
    the address is taken, `InvalidOption` for what `users` says.
    """
    from aiohttp import web

    from crossdock.embedded.app import make_app

    stopping = stop or _stopped_by_signal()
    try:
        app = make_app(root, users)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot serve {root}: {error.strerror or error}") from error
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=GRACE,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=ssl_context, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise StoreError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="give another address with --listen; port 0 takes a free one",
            ) from error
        on_ready(runner.addresses[0][1])
        await stopping.wait()
    finally:
        await runner.cleanup()


def run(
    root: str,
    listen: str,
    *,
    cert: str | None = None,
    key: str | None = None,
    users: Path | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGINT or SIGTERM; blocking, in an event loop of its own.

    `ready` gets ``host:port`` once connections are accepted. With `cert` (and `key`, if it is not in the same
    file) the server speaks HTTPS. Raises `InvalidOption`, `StoreError`.
    """
    import uvloop

    host, port = parse_listen(listen)
    context = _tls(cert, key)
    _allow_many_files()
    shown = f"[{host}]" if ":" in host else host

    async def serve_here() -> None:
        # Threads wait for disks and locks here, so there may be more of them than processors.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        await serve(
            Path(root),
            host,
            port,
            on_ready=lambda port: ready(f"{shown}:{port}"),
            ssl_context=context,
            users=users,
        )

    uvloop.run(serve_here())


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
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


def _stopped_by_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)  # a second one ends the process at once

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    return stopping


def _allow_many_files() -> None:
    """A connection, its upload and its blob take three open files; the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
