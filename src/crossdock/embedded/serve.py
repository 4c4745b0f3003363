"""Run the embedded registry until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import StoreError
from crossdock.listening import (
    ServerTls,
    allow_many_files,
    parse_listen,
    reload_on_hangup,
    serve_app,
    shown_address,
    stopped_by_signal,
)

if TYPE_CHECKING:
    import ssl

GRACE = 10.0  # seconds that requests under way may take to end after a stop signal
THREADS = 16


async def serve(
    root: Path,
    host: str,
    port: int,
    *,
    on_ready: Callable[[int], None],
    ssl_context: ssl.SSLContext | None = None,
    users: Path | None = None,
    reloads: tuple[Callable[[], None], ...] = (),
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the layouts under `root` until SIGINT or SIGTERM comes, or `stop` is set.

    At SIGHUP `reloads` are called and `users` is read anew.

    `on_ready` gets the port as soon as connections are accepted: with `port` 0 the one that was free.
    `users`: the file of those who may use it; without it all may. Requests under way get `GRACE` seconds to
    end. With `stop` no signal is listened for. Raises `StoreError` when `root` or `users` cannot be used or
    the address is taken, `InvalidOption` for what `users` says.
    """
    from crossdock.embedded.app import REGISTRY, make_app

    stopping = stop or stopped_by_signal()
    try:
        app = make_app(root, users)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot serve {root}: {error.strerror or error}") from error
    if stop is None:
        reload_on_hangup(stopping, *reloads, app[REGISTRY].reload)
    await serve_app(
        app, host, port, on_ready=on_ready, stopping=stopping, ssl_context=ssl_context, grace=GRACE
    )


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
    file) the server speaks HTTPS; SIGHUP reads them and `users` anew. Raises `InvalidOption`, `StoreError`.
    """
    import uvloop

    host, port = parse_listen(listen)
    tls = ServerTls(cert, key)
    allow_many_files()

    async def serve_here() -> None:
        # Threads wait for disks and locks here, so there may be more of them than processors.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        await serve(
            Path(root),
            host,
            port,
            on_ready=lambda port: ready(shown_address(host, port)),
            ssl_context=tls.context,
            users=users,
            reloads=(tls.reload,),
        )

    uvloop.run(serve_here())
