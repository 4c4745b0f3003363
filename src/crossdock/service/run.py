"""Runs the service from its settings until a stop signal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from crossdock.errors import Advice, InvalidOption
from crossdock.inventory.values import Inventory
from crossdock.listening import (
    ServerTls,
    allow_many_files,
    parse_listen,
    reload_on_hangup,
    serve_app,
    shown_address,
    stopped_by_signal,
)
from crossdock.options import SIDE_VARIABLES, CopyOptions
from crossdock.protocol.redirect import is_loopback
from crossdock.rate import RateLimit
from crossdock.service.config import Settings
from crossdock.service.guard import SourceGuard
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity
from crossdock.service.operations.imports import Imports
from crossdock.service.reload import SettingsReload
from crossdock.service.web.app import make_app
from crossdock.service.web.ends import Ends
from crossdock.service.web.metrics import Metrics
from crossdock.service.web.pageaccess import LINK_KEY
from crossdock.service.web.service import PageLink, Service
from crossdock.tasks import stop

if TYPE_CHECKING:
    from crossdock_testing.azure.cloud import DevCloud

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds for open requests to end after a stop signal
CONNECTIONS = 2000
FIELD_SIZE = 16 * 1024  # bytes of a header; a token of Entra ID with 200 groups takes about 12 KiB
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "crossdock"

Ready = Callable[[str, str], None]
"""Called once connections are accepted, with the URL and the status page's link, empty without `is_dev`."""


class ServiceOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line."""

    inventory: Inventory
    listen: str
    cert: Path | None = None
    key: Path | None = None
    tls_ended_elsewhere: bool = False  # by a proxy in front; or `tls` of the settings
    state: Path
    settings: Settings = Settings()
    is_dev: bool = False  # with a generated certificate and identities besides those of the settings
    dev_info: Path | None = None  # file for the instructions to log in there


def run(options: ServiceOptions, environ: Mapping[str, str], ready: Ready) -> None:
    """Serve until SIGINT or SIGTERM. Blocks.

    Raises `InvalidOption`, `StoreError`.
    """
    import uvloop

    host, _ = parse_listen(options.listen)
    if _has_proxy(options) and (options.is_dev or options.cert is not None or options.key is not None):
        raise InvalidOption(
            "TLS is ended elsewhere, so this service can have no certificate of its own",
            advice=Advice("omit-certificate-or-proxy"),
        )
    cloud = _cloud(options, host)
    if cloud is not None:
        cert, key = cloud.certificates.cert, cloud.certificates.key
        options = replace(options, cert=cert, key=key, settings=cloud.added_to(options.settings))
    _check(options, host)
    allow_many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, cloud, environ, ready))


def _cloud(options: ServiceOptions, host: str) -> DevCloud | None:
    """The development cloud, if requested. Removes the file of an earlier one."""
    if not options.is_dev:
        if options.dev_info is not None:
            raise InvalidOption(
                "login data of the development cloud was requested without that cloud",
                advice=Advice("give-dev"),
            )
        return None
    if options.cert is not None or options.key is not None:
        raise InvalidOption(
            "the development cloud creates its own certificate", advice=Advice("omit-certificate")
        )
    try:
        from crossdock_testing.azure.cloud import DevCloud
    except ModuleNotFoundError:
        raise InvalidOption(
            "the development cloud needs the package crossdock-testing, which is not installed",
            advice=Advice(
                "install",
                "in a checkout run `make build`; elsewhere pip install ./testkit of the same version",
            ),
        ) from None
    if options.dev_info is not None:
        try:
            options.dev_info.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidOption(f"{options.dev_info} cannot be replaced: {error.strerror}") from None
    return DevCloud(options.state / "dev", host)


def _check(options: ServiceOptions, host: str) -> None:
    """Raise `InvalidOption` if unknown clients could use the service or read its traffic."""
    if is_loopback(host):
        if options.settings.identity is None:
            log.warning("no identity settings: anybody who can reach %s may import", options.listen)
        return
    if options.settings.identity is None:
        raise InvalidOption(
            "anybody could import: without identity settings the service may listen only on loopback",
            advice=Advice("give-identity"),
        )
    if _has_proxy(options):
        log.warning(
            "TLS is ended elsewhere: tokens reach %s in clear text, so only the proxy may reach it",
            options.listen,
        )
    elif options.cert is None:
        raise InvalidOption(
            f"tokens would be sent in clear text: HTTPS is required to listen on {host}",
            advice=Advice("give-certificate"),
        )


def _has_proxy(options: ServiceOptions) -> bool:
    """Whether a proxy in front ends TLS."""
    return options.tls_ended_elsewhere or options.settings.tls == "elsewhere"


async def _serve(
    options: ServiceOptions,
    cloud: DevCloud | None,
    environ: Mapping[str, str],
    ready: Ready,
) -> None:
    host, port = parse_listen(options.listen)
    tls = ServerTls(str(options.cert) if options.cert else None, str(options.key) if options.key else None)
    settings = options.settings
    inventory = complete(options.inventory)
    guard = SourceGuard(settings.sources, inventory)
    copying = CopyOptions(state=options.state, guard=guard, environ=_for_copies(environ))
    stopped, closing = stopped_by_signal(), asyncio.Event()
    scheme = "https" if tls.context else "http"
    async with Imports(inventory, copying, environ, settings) as imports:
        service = Service(
            inventory=inventory,
            imports=imports,
            identity=Identity(settings.identity),
            rights=Rights(settings.principals),
            guard=guard,
            rate=RateLimit(settings.limits.requests_per_minute),
            metrics=Metrics(),
            ends=Ends(inventory, settings.sources.allow),
            public_url=settings.public_url,
            scheme="https" if _has_proxy(options) else scheme,
            hosts=_hosts(host, settings),
        )
        app = make_app(service)
        reloads = tls.reloads
        if cloud is not None:  # it generates its identities
            app.add_routes(cloud.routes())
        elif settings.place:
            reloads["settings"] = SettingsReload(service, settings)
        reload_on_hangup(stopped, reloads)

        def on_ready(port: int) -> None:
            page = ""
            if cloud is not None:
                base = cloud.open(port, service.identity)
                service.link = PageLink.of(cloud.principal)
                page = f"{base}/?{urlencode({LINK_KEY: service.link.key})}"
                if options.dev_info is not None:
                    cloud.write_info(options.dev_info, inventory, page)
            ready(f"{scheme}://{shown_address(host, port)}", page)

        serving = asyncio.create_task(
            serve_app(
                app,
                host,
                port,
                on_ready=on_ready,
                stopping=closing,
                ssl_context=tls.context,
                grace=GRACE,
                connections=CONNECTIONS,
                field_size=FIELD_SIZE,
            )
        )
        try:
            await _first(stopped, serving)
            if stopped.is_set():
                log.info("stopping")
            service.is_stopping = True
            await imports.stop()  # running imports resume at the next start; polls are served meanwhile
            closing.set()
            await serving
        finally:
            await stop(serving)


async def _first(stopped: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Wait for the stop signal, or for the end of serving."""
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _for_copies(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment without credentials that name no registry, which callers could send to any host."""
    ignored = sorted(SIDE_VARIABLES & environ.keys())
    if ignored:
        log.warning("%s: ignored; credentials of registries belong in the inventory", ", ".join(ignored))
    files = [
        name for name in ("REGISTRY_AUTH_FILE", "DOCKER_AUTH_CONFIG", "DOCKER_CONFIG") if environ.get(name)
    ]
    if files:
        log.warning("%s: used only for registries of the inventory", ", ".join(files))
    return {name: value for name, value in environ.items() if name not in SIDE_VARIABLES}


def _hosts(host: str, settings: Settings) -> frozenset[str]:
    """The host names that an anonymous service accepts besides loopback names; with identities, any."""
    if settings.identity is not None:
        return frozenset()
    return frozenset({host.lower(), (urlsplit(settings.public_url).hostname or host).lower()})


def complete(inventory: Inventory) -> Inventory:
    """The inventory with a subscription and resource group for every registry, as ARM's paths require."""
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
