"""The bodies and query parameters of the API, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, get_args

from crossdock.service.values import State
from crossdock.service.web.importdocument import ERROR_SCHEMA, IMPORT_SCHEMA
from crossdock.service.web.paging import FILTERS

_TEXT = {"type": "string"}
_LINK = {"description": "The next page; absent on the last one.", "type": "string", "format": "uri"}


def ref(name: str) -> dict[str, str]:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(name: str) -> dict[str, Any]:
    """OpenAPI's `content` for a schema's name, for "object", or for the media type of a text."""
    if "/" in name:
        return {name: {"schema": _TEXT}}
    return {"application/json": {"schema": {"type": "object"} if name == "object" else ref(name)}}


def query(name: str, schema: dict[str, Any], words: str) -> dict[str, Any]:
    """A query parameter."""
    return {"name": name, "in": "query", "description": words, "schema": schema}


_SIZE = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
_START = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_TERM = f"({'|'.join(FILTERS)}) eq '[^']*'"
ARM_PAGE = (
    query("$top", _SIZE, "The largest size of a page."),
    query("$skiptoken", _START, "From nextLink."),
)
OWN_PAGE = (query("top", _SIZE, "The largest size of a page."), query("skip", _START, "From nextLink."))
FILTER = query(
    "$filter",
    {"type": "string", "pattern": f"^({_TERM}( and {_TERM})*)?$"},
    "Terms on resourceType, name, resourceGroup or location, compared by eq and joined by and.",
)
STATE = query("state", {"type": "string", "enum": list(get_args(State))}, "Only imports in this state.")


def _list_of(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["value"],
        "properties": {"value": {"type": "array", "items": ref(name)}, "nextLink": _LINK},
    }


_RESOURCE: dict[str, Any] = {
    "id": _TEXT,
    "name": _TEXT,
    "type": {"type": "string", "const": "Microsoft.ContainerRegistry/registries"},
    "location": _TEXT,
    "tags": {"type": "object", "additionalProperties": _TEXT},
    "sku": {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "tier": _TEXT}},
}

SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": ERROR_SCHEMA},
        "additionalProperties": False,
    },
    "Subscription": {
        "type": "object",
        "required": ["id", "subscriptionId", "displayName", "state"],
        "properties": {
            "id": _TEXT,
            "subscriptionId": _TEXT,
            "tenantId": _TEXT,
            "displayName": _TEXT,
            "state": _TEXT,
        },
    },
    "SubscriptionList": _list_of("Subscription"),
    "Resource": {"type": "object", "required": ["id", "name", "type", "location"], "properties": _RESOURCE},
    "ResourceList": _list_of("Resource"),
    "Registry": {
        "type": "object",
        "required": ["id", "name", "type", "location", "sku", "properties"],
        "properties": {
            **_RESOURCE,
            "properties": {
                "type": "object",
                "required": ["loginServer", "provisioningState"],
                "properties": {
                    "loginServer": _TEXT,
                    "creationDate": {"type": "string", "format": "date-time"},
                    "provisioningState": _TEXT,
                    "adminUserEnabled": {"type": "boolean"},
                    "publicNetworkAccess": {"enum": ["Enabled", "Disabled"]},
                    "networkRuleBypassOptions": {"enum": ["AzureServices", "None"]},
                    "policies": {"type": "object"},
                },
            },
        },
    },
    "RegistryList": _list_of("Registry"),
    "Provider": {
        "type": "object",
        "required": ["id", "namespace", "registrationState", "resourceTypes"],
        "properties": {
            "id": _TEXT,
            "namespace": _TEXT,
            "registrationState": _TEXT,
            "registrationPolicy": _TEXT,
            "resourceTypes": {"type": "array", "items": {"type": "object"}},
        },
    },
    "ImportImageParameters": {
        "description": "Azure's body of importImage. Other members are rejected.",
        "type": "object",
        "required": ["source"],
        "additionalProperties": False,
        "properties": {
            "source": {
                "type": "object",
                "required": ["sourceImage"],
                "additionalProperties": False,
                "oneOf": [{"required": ["resourceId"]}, {"required": ["registryUri"]}],
                "properties": {
                    "resourceId": {"description": "A registry of the inventory.", **_TEXT},
                    "registryUri": {"description": "HOST[:PORT]", **_TEXT},
                    "sourceImage": {"description": "REPO, REPO:TAG or REPO@DIGEST", **_TEXT},
                    "credentials": {
                        "description": "Only with registryUri. A password without username is a token.",
                        "type": "object",
                        "required": ["password"],
                        "additionalProperties": False,
                        "properties": {"username": _TEXT, "password": _TEXT},
                    },
                },
            },
            "targetTags": {
                "description": "REPO[:TAG]. Without both lists the target gets the name of the source.",
                "type": ["array", "null"],
                "items": _TEXT,
            },
            "untaggedTargetRepositories": {"type": ["array", "null"], "items": _TEXT},
            "mode": {
                "type": ["string", "null"],
                "enum": ["NoForce", "Force", None],
                "default": "NoForce",
            },
        },
    },
    "OperationResult": {
        "description": "Besides these two, a member for each manifest, named REPO:TAG or REPO@DIGEST.",
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["Accepted", "Succeeded"]},
            "crossdock": {
                "type": "object",
                "properties": {
                    "state": _TEXT,
                    "bytes": {"type": "integer"},
                    "present": {"type": "integer"},
                    "total": {"type": "integer"},
                    "rate": {"type": "number"},
                    "blob": _TEXT,
                },
            },
        },
        "additionalProperties": {"type": "string"},
    },
    "Import": {key: value for key, value in IMPORT_SCHEMA.items() if key not in ("$schema", "$id")},
    "ImportList": _list_of("Import"),
    "Status": {"type": "object", "required": ["status"], "properties": {"status": _TEXT}},
}
