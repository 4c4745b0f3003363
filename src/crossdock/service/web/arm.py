"""Azure Resource Manager's paths and documents, without a server. Paths match in any case."""

from __future__ import annotations

import re
from typing import Any

from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.service.values import Operation, Problem

PROVIDER = "Microsoft.ContainerRegistry"
TYPE = f"{PROVIDER}/registries"
OPERATION_PREFIX = "registries-"

_RESULT_ID = re.compile(r"registries-([0-9a-fA-F-]{36})")


def registry_document(entry: Entry) -> dict[str, Any]:
    """An entry as ARM's ``Registry`` (contract, 3.2)."""
    return {
        "id": entry.resource_id,
        "name": entry.name,
        "type": TYPE,
        "location": entry.location or "local",
        "tags": {},
        "sku": {"name": "Premium", "tier": "Premium"},
        "properties": {
            "loginServer": entry.login_server,
            "creationDate": "2024-01-01T00:00:00Z",
            "provisioningState": "Succeeded",
            "adminUserEnabled": False,
            "publicNetworkAccess": entry.public_network_access,
            "networkRuleBypassOptions": entry.network_rule_bypass_options,
            "policies": {"exportPolicy": {"status": entry.export_policy}},
        },
    }


def registries_of(inventory: Inventory, subscription: str, group: str = "") -> list[Entry]:
    """The entries of a subscription, or of one of its resource groups."""
    return [
        each
        for each in inventory.registries
        if each.subscription.lower() == subscription.lower()
        and group.lower() in ("", each.resource_group.lower())
    ]


def find_registry(inventory: Inventory, wanted: ResourceId) -> Entry | None:
    """The entry with this resource ID."""
    return next(
        (
            each
            for each in registries_of(inventory, wanted.subscription, wanted.resource_group)
            if each.name.lower() == wanted.name.lower()
        ),
        None,
    )


def not_found(wanted: ResourceId) -> Problem:
    """ARM's words for a registry that does not exist."""
    return Problem(
        status=404,
        code="ResourceNotFound",
        message=f"The Resource '{TYPE}/{wanted.name}' under resource group '{wanted.resource_group}' was not "
        "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def result_path(operation: Operation, location: str) -> str:
    """The path of an operation's result."""
    subscription = operation.order.registry.subscription
    return (
        f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{location or 'local'}"
        f"/operationResults/{OPERATION_PREFIX}{operation.id}"
    )


def result_id(text: str) -> str:
    """The operation's id in the last part of `result_path`; empty when it is none."""
    match = _RESULT_ID.fullmatch(text)
    return match[1].lower() if match else ""


def result_document(operation: Operation) -> dict[str, Any]:
    """What a poll says: an entry for each manifest, then the status and our own fields."""
    progress = operation.progress
    status = "Succeeded" if operation.state == "Succeeded" else "Accepted"
    return {
        **progress.manifests,
        "status": status,
        "crossdock": {
            "state": operation.state,
            "bytes": progress.bytes,
            "total": progress.total,
            "rate": progress.rate,
            "blob": progress.blob,
        },
    }
