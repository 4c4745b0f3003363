"""The development cloud in one piece: what ``crossdock serve --dev`` uses of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from crossdock.inventory.values import Inventory
from crossdock.service.config import IdentitySettings, PrincipalSettings, Role, Settings
from crossdock.service.identity.tokens import Identity
from crossdock_testing.azure.authority import make_certificates
from crossdock_testing.azure.files import write_private
from crossdock_testing.azure.provider import Provider
from crossdock_testing.azure.routes import MSI_PATH, routes

_EVERYTHING = (Role(actions=("importImage", "read", "pull"), registries=("*",)),)


class DevCloud:
    """A certificate authority, the server's certificate and an identity provider, kept in a folder."""

    def __init__(self, folder: Path, host: str) -> None:
        """`host`: what the server listens on. Raises `StoreError`. Blocks."""
        self._host = "localhost" if host in ("", "0.0.0.0", "::") else host  # nobody connects to these
        self.certificates = make_certificates(folder, [self._host])
        self._provider = Provider(folder)

    def added_to(self, settings: Settings) -> Settings:
        """The settings with the identities of this cloud, who may do everything, besides their own."""
        return replace(
            settings,
            identity=settings.identity or IdentitySettings(),
            principals=(*settings.principals, *self.principals()),
        )

    def principals(self) -> tuple[PrincipalSettings, ...]:
        """The application and the managed identity, who may do everything."""
        who = self._provider.who
        return tuple(
            PrincipalSettings(id=each, roles=_EVERYTHING) for each in (who.object_id, who.managed_object_id)
        )

    def routes(self) -> list[web.RouteDef]:
        """The endpoints, to be added before a route that takes every path."""
        return routes(self._provider)

    def open(self, port: int, identity: Identity) -> str:
        """The server has its port: from now on its own tokens count. Returns its URL."""
        literal = f"[{self._host}]" if ":" in self._host else self._host
        self._provider.base = f"https://{literal}:{port}"
        identity.believe(self._provider.issuer)
        return self._provider.base

    def info(self, inventory: Inventory) -> Mapping[str, Any]:
        """What a script needs to log in here and import. `inventory`: with subscriptions and groups."""
        who, base = self._provider.who, self._provider.base
        first = inventory.registries[0] if inventory.registries else None
        return {
            "arm": base,
            "ca": str(self.certificates.ca.absolute()),
            "tenant": who.tenant,
            "client_id": who.client_id,
            "client_secret": who.client_secret,
            "subscription": first.subscription if first else "",
            "resource_group": first.resource_group if first else "",
            "registries": {each.name: each.login_server for each in inventory.registries},
            "authority": f"{base}/{who.tenant}",
            "object_id": who.object_id,
            "identity_endpoint": f"{base}{MSI_PATH}",
            "identity_header": who.identity_header,
            "managed_identity": who.managed_object_id,
        }

    def write_info(self, path: Path, inventory: Inventory) -> None:
        """Write `info` as JSON, mode 0600 and all at once. Raises `StoreError`. Blocks."""
        write_private(path, msgspec.json.format(msgspec.json.encode(self.info(inventory)), indent=2) + b"\n")
