"""Azure Resource Manager's names, and the paths and documents of its operations. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

from crossdock.acr.documents import LOCATION
from crossdock.inventory.values import Entry
from crossdock.service.values import Operation

PROVIDER = "Microsoft.ContainerRegistry"
VERSIONS = (
    "2017-10-01, 2019-05-01, 2021-09-01, 2022-12-01, 2023-07-01, 2025-04-01, 2025-11-01, 2019-12-01-preview, "
    "2020-11-01-preview, 2021-06-01-preview, 2021-08-01-preview, 2021-12-01-preview, 2022-02-01-preview, "
    "2023-01-01-preview, 2023-06-01-preview, 2023-08-01-preview, 2023-11-01-preview, 2024-11-01-preview, "
    "2024-01-01-preview, 2025-03-01-preview, 2025-05-01-preview, 2025-06-01-preview, 2025-09-01-preview, "
    "2025-12-01-preview, 2026-01-01-preview, 2026-03-01-preview"
)
"""The API versions that Azure's registries advertise (az-contract 2.1). Others are accepted as well."""

OPERATION_PREFIX = "registries-"

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def result_path(operation: Operation, location: str, version: str = "") -> str:
    """The path of an operation's result, with the client's api-version as query."""
    subscription = quote(operation.order.registry.subscription, safe="")
    query = f"?{urlencode({'api-version': version})}" if version else ""
    return (
        f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{quote(location or LOCATION, safe='')}"
        f"/operationResults/{OPERATION_PREFIX}{operation.id}{query}"
    )


def result_id(text: str) -> str:
    """The operation's id in the last part of `result_path`; empty for anything else."""
    prefix, rest = text[: len(OPERATION_PREFIX)], text[len(OPERATION_PREFIX) :]
    return import_id(rest) if prefix.lower() == OPERATION_PREFIX else ""


def result_document(operation: Operation) -> dict[str, Any]:
    """The body of a poll: a member for each manifest, then the status and crossdock's own fields."""
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
    """The id of an import as crossdock's own paths have it; empty for anything else."""
    return text.lower() if _ID.fullmatch(text) else ""


def operation_identifier(operation: Operation, entry: Entry | None) -> str:
    """``x-ms-operation-identifier``: the caller, the registry's location and the operation's id."""
    who = operation.order.principal
    location = (entry.location if entry else "") or LOCATION
    return f"tenantId={_plain(who.tenant)},objectId={_plain(who.id)}/{_plain(location)}/{operation.id}"


def _plain(text: str) -> str:
    """`text` without characters that a header cannot hold."""
    return re.sub(r"[^A-Za-z0-9@._:-]", "_", text)[:128]
