"""The service from its settings until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import InvalidOption
from crossdock.inventory.values import Inventory
from crossdock.listening import (
    allow_many_files,
    is_loopback,
    parse_listen,
    serve_app,
    server_tls,
    shown_address,
    stopped_by_signal,
)
from crossdock.options import CopyOptions
from crossdock.service.operations.imports import Imports
from crossdock.service.web.app import Service, make_app

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds that requests under way may take to end after a stop signal
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "crossdock"


class ServiceOptions(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    inventory: Inventory
    listen: str
    cert: Path | None = None
    key: Path | None = None
    state: Path


def run(options: ServiceOptions, environ: Mapping[str, str], ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` gets the URL once connections are accepted. Blocks.

    Raises `InvalidOption`, `StoreError`.
    """
    import uvloop

    host, port = parse_listen(options.listen)
    if not is_loopback(host):
        raise InvalidOption("anybody could import: without identity settings the service is for loopback")
    log.warning("no identity settings: whoever reaches %s may import", options.listen)
    context = server_tls(
        str(options.cert) if options.cert else None, str(options.key) if options.key else None
    )
    allow_many_files()
    inventory = complete(options.inventory)

    async def serve_here() -> None:
        copying = CopyOptions(state=options.state)
        async with Imports(inventory, copying, environ) as imports:
            scheme = "https" if context else "http"
            await serve_app(
                make_app(Service(inventory, imports)),
                host,
                port,
                on_ready=lambda port: ready(f"{scheme}://{shown_address(host, port)}"),
                stopping=stopped_by_signal(),
                ssl_context=context,
                grace=GRACE,
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_here())


def complete(inventory: Inventory) -> Inventory:
    """The inventory with a subscription and group for every registry, as ARM's paths need."""
    subscription = next((each.subscription for each in inventory.registries if each.subscription), "")
    return replace(
        inventory,
        registries=tuple(
            replace(
                each,
                subscription=each.subscription or subscription or SUBSCRIPTION,
                resource_group=each.resource_group or GROUP,
            )
            for each in inventory.registries
        ),
    )
