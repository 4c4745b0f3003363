"""Azure Resource Manager's paths and documents, without a server. Paths match in any case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from crossdock.acr.documents import LOCATION, TYPE
from crossdock.inventory.values import Entry, Inventory, ResourceId
from crossdock.service.values import Operation, Principal, Problem
from crossdock.service.web.routing import PROVIDER
from crossdock.service.web.versions import VERSIONS

OPERATION_PREFIX = "registries-"
TENANT = "00000000-0000-0000-0000-000000000000"

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


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


def result_path(operation: Operation, location: str, version: str = "") -> str:
    """The path of an operation's result, and its query for the api-version that the client speaks."""
    subscription = quote(operation.order.registry.subscription, safe="")
    query = f"?{urlencode({'api-version': version})}" if version else ""
    return (
        f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{quote(location or LOCATION, safe='')}"
        f"/operationResults/{OPERATION_PREFIX}{operation.id}{query}"
    )


def result_id(text: str) -> str:
    """The operation's id in the last part of `result_path`; empty when it is none."""
    prefix, rest = text[: len(OPERATION_PREFIX)], text[len(OPERATION_PREFIX) :]
    return import_id(rest) if prefix.lower() == OPERATION_PREFIX else ""


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
            "present": progress.present,
            "total": progress.total,
            "rate": progress.rate,
            "blob": progress.blob,
        },
    }


def import_id(text: str) -> str:
    """The id of an import as our own paths have it; empty when it is none."""
    return text.lower() if _ID.fullmatch(text) else ""


def operation_identifier(operation: Operation, entry: Entry | None) -> str:
    """``x-ms-operation-identifier``: whose operation it is."""
    who = operation.order.principal
    location = (entry.location if entry else "") or LOCATION
    return f"tenantId={_plain(who.tenant)},objectId={_plain(who.id)}/{_plain(location)}/{operation.id}"


def _plain(text: str) -> str:
    """`text` as it may stand in a header."""
    return re.sub(r"[^A-Za-z0-9@._:-]", "_", text)[:128]


def subscription_document(subscription: str, tenant: str) -> dict[str, Any]:
    """A subscription, for a caller of `tenant` (az-contract 3.1)."""
    return {
        "id": f"/subscriptions/{subscription}",
        "subscriptionId": subscription,
        "tenantId": tenant or TENANT,
        "displayName": subscription,
        "state": "Enabled",
    }


def provider_document(subscription: str, locations: list[str]) -> dict[str, Any]:
    """The provider of registries, registered."""
    return {
        "id": f"/subscriptions/{subscription}/providers/{PROVIDER}",
        "namespace": PROVIDER,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": [
            {
                "resourceType": "registries",
                "locations": locations,
                "apiVersions": VERSIONS.split(", "),
                "capabilities": "None",
            },
        ],
    }


def fits(document: dict[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a registry's document is one that `paging.read_filter` left."""
    parsed = ResourceId.parse(document["id"])
    values = {
        "resourceType": document["type"],
        "name": document["name"],
        "location": document["location"],
        "resourceGroup": parsed.resource_group if parsed else "",
    }
    return all(values[field].lower() == value for field, value in wanted.items())


def metrics_forbidden(principal: Principal) -> Problem:
    """For callers who may read no registry."""
    return Problem(
        status=403,
        code="AuthorizationFailed",
        message=f"The client '{principal.name or principal.id}' may read no registry, and so no metrics.",
    )
