"""Run the embedded registry until a stop signal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from crossdock.errors import (
    Advice,
    InvalidOption,
    StoreError,
)
from crossdock.listening import (
    ServerTls,
    allow_many_files,
    parse_listen,
    reload_on_hangup,
    serve_app,
    shown_address,
    stopped_by_signal,
)
from crossdock.protocol.redirect import is_loopback

if TYPE_CHECKING:
    import ssl

    from crossdock.embedded.app import Anonymous

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds that running requests may take to end after a stop signal
THREADS = 16


async def serve(
    root: Path,
    host: str,
    port: int,
    *,
    on_ready: Callable[[int], None],
    ssl_context: ssl.SSLContext | None = None,
    users: Path | None = None,
    anonymous: Anonymous | None = None,
    reloads: Mapping[str, Callable[[], None]] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the layouts under `root` until SIGINT or SIGTERM, or until `stop` is set.

    `on_ready` receives the port once connections are accepted; `port` 0 picks a free one. `users` and
    `anonymous` are as for `app.make_app`. SIGHUP calls `reloads` (`reload_on_hangup`) and reloads `users`.
    Running requests get `GRACE` seconds to end. With `stop` no signal handler is installed.

    Raises `StoreError` if `root` or `users` cannot be used or the address is in use, `InvalidOption` for
    mistakes in `users`.
    """
    from crossdock.embedded.app import REGISTRY, make_app

    stopping = stop or stopped_by_signal()
    try:
        app = make_app(root, users, anonymous)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot serve {root}: {error.strerror or error}") from error
    if stop is None:
        own = {} if users is None else {"users": app[REGISTRY].reload}
        reload_on_hangup(stopping, {**(reloads or {}), **own})
    await serve_app(
        app, host, port, on_ready=on_ready, stopping=stopping, ssl_context=ssl_context, grace=GRACE
    )


def _check(host: str, listen: str, cert: str | None, users: Path | None, anonymous: Anonymous | None) -> None:
    """Raise `InvalidOption` if unknown clients could use the registry and no option permits it."""
    if users is not None and anonymous is not None:
        raise InvalidOption(
            "anonymous rights are for a registry without a users file",
            advice=Advice("correct-file", "give 'anonymous' rights in the users file"),
        )
    if is_loopback(host):
        return
    if users is None and anonymous is None:
        raise InvalidOption(
            f"everyone who reaches {listen} could read, push and delete: without users, listen on loopback",
            advice=Advice("give-users"),
        )
    if users is not None and cert is None:
        log.warning(
            "passwords are sent in clear text to %s: give a certificate, or put a TLS proxy in front of it",
            listen,
        )


def run(
    root: str,
    listen: str,
    *,
    cert: str | None = None,
    key: str | None = None,
    users: Path | None = None,
    anonymous: Anonymous | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGINT or SIGTERM; blocking, in a new event loop.

    `ready` gets ``host:port`` once connections are accepted. With `cert` (and `key`, if it is not in the same
    file) the server uses HTTPS; SIGHUP reloads them and `users`. Raises `InvalidOption`, `StoreError`.
    """
    import uvloop

    host, port = parse_listen(listen)
    _check(host, listen, cert, users, anonymous)
    tls = ServerTls(cert, key)
    allow_many_files()

    async def serve_here() -> None:
        # These threads wait for disks and locks, so there are more threads than processors.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        await serve(
            Path(root),
            host,
            port,
            on_ready=lambda port: ready(shown_address(host, port)),
            ssl_context=tls.context,
            users=users,
            anonymous=anonymous,
            reloads=tls.reloads,
        )

    uvloop.run(serve_here())
