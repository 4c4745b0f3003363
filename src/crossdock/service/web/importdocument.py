"""The JSON of an import under ``/imports``, without secrets, and its schema."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any, get_args

from crossdock.service.values import Operation, State
from crossdock.service.web import arm
from crossdock.service.web.service import Call, Document, Service

SCHEMA_ID = "urn:crossdock:import:1"


async def schema(service: Service, call: Call) -> Document:
    """The JSON schema of `import_document`."""
    return IMPORT_SCHEMA


def import_document(operation: Operation, base: str, shown: int | None = None) -> dict[str, Any]:
    """The import of `operation`; `base` is the URL of the service. Sizes are bytes.

    It has the first `shown` targets and manifests, or all.
    """
    order, progress, result = operation.order, operation.progress, operation.result
    if result is not None and "targets" in result:
        result = {**result, "targets": result["targets"][:shown]}
    request = order.request
    # Only members of the schema, so no credentials.
    source = {"sourceImage": request.source.source_image}
    if request.source.resource_id is not None:
        source["resourceId"] = request.source.resource_id
    if request.source.registry_uri is not None:
        source["registryUri"] = request.source.registry_uri
    return {
        "id": operation.id,
        "url": f"{base}/imports/{operation.id}",
        "operationUrl": base + arm.result_path(operation, ""),
        "state": operation.state,
        "registry": str(order.registry),
        "source": source,
        "targetTags": list(request.target_tags[:shown]),
        "untaggedTargetRepositories": list(request.untagged_target_repositories[:shown]),
        "targetCount": len(request.target_tags) + len(request.untagged_target_repositories),
        "mode": request.mode,
        "principal": order.principal.name or order.principal.id,
        "requestId": order.request_id,
        "created": timestamp(operation.created),
        "started": timestamp(operation.started),
        "ended": timestamp(operation.ended),
        "seconds": seconds_of(operation),
        "progress": {
            "bytes": progress.bytes,
            "present": progress.present,
            "total": progress.total,
            "rate": progress.rate,
            "blob": progress.blob,
            "manifests": dict(islice(progress.manifests.items(), shown)),
        },
        "result": result,
        "error": operation.problem.as_dict()["error"] if operation.problem is not None else None,
    }


def seconds_of(operation: Operation) -> float:
    """Seconds that the import ran, or has been running."""
    if not operation.started:
        return 0.0
    return max((operation.ended or time.time()) - operation.started, 0.0)


def timestamp(seconds: float) -> str | None:
    """Seconds since the epoch as RFC 3339; None for 0."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}
_AMOUNT = {"type": "number", "minimum": 0}

ERROR_SCHEMA: dict[str, Any] = _object(
    {
        "code": {"type": "string", "minLength": 1},
        "message": {"type": "string", "minLength": 1},
        "target": _TEXT,
        "details": {
            "type": "array",
            "items": _object({"code": _TEXT, "message": _TEXT, "target": _TEXT}),
        },
        "additionalInfo": {"type": "array"},
    },
    "target",
)

IMPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": SCHEMA_ID,
    "title": "an import of crossdock's import service",
    "description": "Sizes are bytes. Times are RFC 3339, null for events that have not happened yet.",
    **_object(
        {
            "id": {"type": "string", "format": "uuid"},
            "url": {"type": "string", "format": "uri"},
            "operationUrl": {
                "description": "The URL that Azure's clients poll.",
                "type": "string",
                "format": "uri",
            },
            "state": {"type": "string", "enum": list(get_args(State))},
            "registry": {"description": "The target's Azure resource ID.", "type": "string"},
            "source": _object(
                {"sourceImage": _TEXT, "resourceId": _TEXT, "registryUri": _TEXT}, "resourceId", "registryUri"
            ),
            "targetTags": {"description": "In lists only the first ones.", **_TEXTS},
            "untaggedTargetRepositories": {"description": "In lists only the first ones.", **_TEXTS},
            "targetCount": {"description": "Number of both, as the request listed them.", **_COUNT},
            "mode": {"type": "string", "enum": ["NoForce", "Force"]},
            "principal": {"description": "The caller that started it.", "type": "string"},
            "requestId": {"description": "The x-ms-client-request-id of the POST.", "type": "string"},
            "created": _TIME,
            "started": _TIME,
            "ended": _TIME,
            "seconds": _AMOUNT,
            "progress": _object(
                {
                    "bytes": {"description": "Copied so far.", **_COUNT},
                    "present": {
                        "description": "At the target: copied, mounted or already present.",
                        **_COUNT,
                    },
                    "total": {"description": "Size of all blobs found so far.", **_COUNT},
                    "rate": _AMOUNT,
                    "blob": {"description": "Digest of the blob that is being copied.", "type": "string"},
                    "manifests": {
                        "description": "REPO:TAG or REPO@DIGEST to its state.",
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                }
            ),
            "result": {
                "description": "The JSON that crossdock acr import prints, once the import has succeeded.",
                "type": ["object", "null"],
            },
            "error": {"anyOf": [ERROR_SCHEMA, {"type": "null"}]},
        }
    ),
}
