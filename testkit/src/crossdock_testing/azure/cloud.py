"""The development cloud in one piece, for ``crossdock serve --dev``."""

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
from crossdock.service.values import Principal
from crossdock_testing.azure.authority import make_certificates
from crossdock_testing.azure.files import write_private
from crossdock_testing.azure.provider import Provider
from crossdock_testing.azure.routes import MSI_PATH, routes

_EVERYTHING = (Role(actions=("importImage", "read", "pull"), registries=("*",)),)


class DevCloud:
    """A certificate authority, the server's certificate and an identity provider, kept in a folder."""

    def __init__(self, folder: Path, host: str) -> None:
        """`host`: the address that the server listens on. Raises `StoreError`. Blocks."""
        self._host = "localhost" if host in ("", "0.0.0.0", "::") else host  # not addresses to connect to
        self.certificates = make_certificates(folder, [self._host])
        self._provider = Provider(folder)

    def added_to(self, settings: Settings) -> Settings:
        """The settings plus the identities of this cloud, who may do everything."""
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
        """The endpoints, to be added before a catch-all route."""
        return routes(self._provider)

    def open(self, port: int, identity: Identity) -> str:
        """Start to accept the cloud's own tokens, once the server has its port. Returns its URL."""
        literal = f"[{self._host}]" if ":" in self._host else self._host
        self._provider.base = f"https://{literal}:{port}"
        identity.believe(self._provider.issuer)
        return self._provider.base

    @property
    def principal(self) -> Principal:
        """The application. Its issuer is known once the cloud is open."""
        who, issuer = self._provider.who, self._provider.issuer.issuer
        return Principal(id=who.object_id, name="development cloud", tenant=who.tenant, issuer=issuer)

    def info(self, inventory: Inventory, page: str = "") -> Mapping[str, Any]:
        """Everything a script needs to log in and import. `inventory` has subscriptions and groups.

        `page` is the link that opens the status page.
        """
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
            "page": page,
        }

    def write_info(self, path: Path, inventory: Inventory, page: str = "") -> None:
        """Write `info` as JSON, mode 0600 and atomically. Raises `StoreError`. Blocks."""
        write_private(
            path, msgspec.json.format(msgspec.json.encode(self.info(inventory, page)), indent=2) + b"\n"
        )
