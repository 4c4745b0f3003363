"""The service's application over imports that are only written down."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from aiohttp.test_utils import TestClient, TestServer

from crossdock.acr.plan import ImportPlan
from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.rate import RateLimit
from crossdock.service.config import IdentitySettings, PrincipalSettings, Role, Sources, StaticToken
from crossdock.service.guard import SourceGuard
from crossdock.service.identity.rights import Rights
from crossdock.service.identity.tokens import Identity
from crossdock.service.operations.imports import Imports
from crossdock.service.values import Operation, Order
from crossdock.service.web.app import make_app
from crossdock.service.web.ends import Ends
from crossdock.service.web.metrics import Metrics
from crossdock.service.web.service import Service

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
BASE = f"/subscriptions/{SUBSCRIPTION}"
PROVIDER = "providers/Microsoft.ContainerRegistry"
REGISTRY = f"{BASE}/resourceGroups/Rg1/{PROVIDER}/registries/myregistry"
IMPORT = f"{REGISTRY}/importImage"
SOURCE_ID = f"/subscriptions/{OTHER}/resourceGroups/rg2/{PROVIDER}/registries/mysource"
BODY = {"source": {"registryUri": "docker.io", "sourceImage": "library/hello-world:latest"}}


def _entry(name: str, server: str, subscription: str, group: str) -> Entry:
    return Entry(name=name, login_server=server, subscription=subscription, resource_group=group)


INVENTORY = Inventory(
    registries=(
        Entry(
            name="myregistry", login_server="my.example.com", subscription=SUBSCRIPTION, resource_group="Rg1"
        ),
        Entry(
            name="second", login_server="second.example.com", subscription=SUBSCRIPTION, resource_group="Rg9"
        ),
        _entry("mysource", "source.example.com", OTHER, "rg2"),
    )
)
IDENTITIES = IdentitySettings(
    tokens=tuple(
        StaticToken(name=name, sha256=hashlib.sha256(f"{name}-token".encode()).hexdigest())
        for name in ("ci", "reader", "importer", "nobody")
    )
)
PRINCIPALS = (
    PrincipalSettings(id="ci", roles=(Role(actions=("importImage", "read", "pull"), registries=("*",)),)),
    PrincipalSettings(id="reader", roles=(Role(actions=("read",), registries=("*",)),)),
    PrincipalSettings(
        id="importer", roles=(Role(actions=("importImage", "read"), registries=("myregistry",)),)
    ),
)


class WrittenDown:
    """Imports that never run; tests set their progress."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}

    async def submit(self, order: Order, plan: ImportPlan) -> Operation:
        operation = Operation(id=str(uuid.uuid4()), order=order, created=time.time())
        self.operations[operation.id] = operation
        return operation

    def find(self, operation_id: str) -> Operation | None:
        return self.operations.get(operation_id)

    def all(self) -> list[Operation]:
        return sorted(self.operations.values(), key=lambda each: -each.created)

    def waits_for(self, operation: Operation) -> str:
        return ""

    async def check(self) -> None:
        """All is well."""

    async def cancel(self, operation_id: str) -> Operation | None:
        operation = self.find(operation_id)
        if operation is not None:
            operation.state = "Canceled"
        return operation


def make_service(*, identities: bool = False, inventory: Inventory = INVENTORY, **changes: Any) -> Service:
    """A service over `WrittenDown`; with `identities` those above, else everybody may everything."""
    settings: dict[str, Any] = {
        "inventory": inventory,
        "imports": cast(Imports, WrittenDown()),
        "identity": Identity(IDENTITIES if identities else None),
        "rights": Rights(PRINCIPALS if identities else ()),
        "guard": SourceGuard(Sources(allow=("docker.io",)), inventory),
        "metrics": Metrics(),
        "ends": Ends(inventory, ("docker.io",)),
        "rate": RateLimit(10_000),
    }
    return Service(**(settings | changes))


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of the service, served on loopback."""
    async with TestClient(TestServer(make_app(service))) as client:
        yield client


def bearer(name: str) -> dict[str, str]:
    """The header of one of `IDENTITIES`."""
    return {"Authorization": f"Bearer {name}-token"}


def order_of(request: Any, principal: Any, registry: str = "myregistry", group: str = "Rg1") -> Order:
    """An order for a registry of `INVENTORY`."""
    return Order(registry=ResourceId(SUBSCRIPTION, group, registry), request=request, principal=principal)
