"""The OpenAPI document of the service, made from its routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from crossdock import __version__
from crossdock.service.values import State
from crossdock.service.web import openapischemas as schemas
from crossdock.service.web.paging import FILTERS
from crossdock.service.web.routing import ROUTES, Endpoint, Route

_PLACES = {
    "subscriptionId": "A subscription of the inventory, in any case.",
    "resourceGroupName": "A resource group, in any case.",
    "registryName": "A registry's name, in any case.",
    "location": "Any; the Location of an accepted import has one.",
    "operationId": "`registries-` and the import's id.",
    "importId": "The import's id.",
}
_SUMMARIES: dict[tuple[Endpoint, str], str] = {
    ("subscriptions", "get"): "List subscriptions",
    ("subscription", "get"): "Show a subscription",
    ("resources", "get"): "List registries as resources",
    ("provider", "get"): "Show the provider, which is registered",
    ("register", "post"): "Register the provider",
    ("registries", "get"): "List registries",
    ("registry", "get"): "Show a registry",
    ("importImage", "post"): "Start an import",
    ("operationResults", "get"): "Poll an import, as Azure's clients do",
    ("imports", "get"): "List imports, the newest first",
    ("import", "get"): "Show an import",
    ("import", "delete"): "Cancel an import",
    ("openapi", "get"): "This document",
    ("schema", "get"): "JSON schema of an import",
    ("health", "get"): "Whether the process answers",
    ("ready", "get"): "Whether imports are taken",
    ("metrics", "get"): "Metrics in Prometheus's text format",
    ("page", "get"): "The status page",
    ("page-style", "get"): "Its style sheet",
    ("page-script", "get"): "Its script",
}
_RESULTS: dict[Endpoint, str] = {
    "subscriptions": "SubscriptionList",
    "subscription": "Subscription",
    "resources": "ResourceList",
    "provider": "Provider",
    "register": "Provider",
    "registries": "RegistryList",
    "registry": "Registry",
    "operationResults": "OperationResult",
    "imports": "ImportList",
    "import": "Import",
    "health": "Status",
    "ready": "Status",
}
_TEXTS: dict[Endpoint, str] = {
    "metrics": "text/plain",
    "page": "text/html",
    "page-style": "text/css",
    "page-script": "text/javascript",
}
# Statuses besides those of `_errors_of`, and why.
_ERRORS: dict[Endpoint, dict[str, str]] = {
    "importImage": {
        "400": "The request is no import, or names or its source are not allowed.",
        "404": "There is no such subscription or registry.",
        "409": "A target tag exists.",
        "413": "The body is too large.",
        "503": "The service is stopping. Without Retry-After.",
    },
    "operationResults": {
        "400": "The import failed.",
        "404": "There is no such operation, or it is no longer kept.",
        "409": "The import ended in a conflict, or was cancelled.",
    },
    "imports": {"400": "A query parameter is out of its range."},
    "import": {"404": "There is no such import, or it is no longer kept."},
    "resources": {
        "400": "A query parameter or the filter is not understood.",
        "404": "No such subscription.",
    },
    "registries": {"400": "A query parameter is out of its range.", "404": "No such subscription."},
    "registry": {"404": "There is no such subscription or registry."},
    "subscription": {"404": "No such subscription."},
    "provider": {"404": "No such subscription."},
    "register": {"404": "No such subscription."},
    "ready": {"503": "The service is stopping, or cannot keep imports."},
}


def openapi_document(base: str) -> dict[str, Any]:
    """The document; `base` is the URL of the service."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths[route.template] = {
            method.lower(): _operation(route, method.lower()) for method in route.methods
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crossdock import service",
            "version": __version__,
            "summary": "Imports images into registries, as Azure's container registries do.",
            "description": "Paths match in any case; doubled and trailing slashes do no harm; any "
            "api-version is taken. No error carries Retry-After. HEAD is answered wherever GET is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "tags": [
            {"name": "arm", "description": "What Azure's clients ask for."},
            {"name": "imports", "description": "The service's own view of imports."},
            {"name": "service", "description": "The service itself."},
        ],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A JSON web token or a static token. A service on loopback without "
                    "identity settings asks for none.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "For browsers, at the status page alone: a token as password.",
                },
            },
            "schemas": schemas.SCHEMAS,
        },
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    endpoint = route.endpoint
    is_group = "resourceGroupName" in route.template and endpoint == "registries"
    found: dict[str, Any] = {
        "operationId": f"{endpoint}-by-group" if is_group else _id(endpoint, method),
        "summary": _SUMMARIES[endpoint, method],
        "tags": [_tag(route)],
        "parameters": _parameters(route, method),
        "responses": _responses(route),
    }
    if endpoint == "importImage":
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.ref("ImportImageParameters")}},
        }
    if route.guarded == "open":
        found["security"] = []
    if route.guarded == "page":
        found["security"] = [{"basic": []}, {"bearer": []}]
    return found


def _id(endpoint: str, method: str) -> str:
    return "cancel-import" if method == "delete" else endpoint


def _tag(route: Route) -> str:
    if route.is_arm:
        return "arm"
    return "imports" if route.endpoint in ("imports", "import", "schema") else "service"


def _parameters(route: Route, method: str) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}
        for name, words in _PLACES.items()
        if f"{{{name}}}" in route.template
    ]
    if route.is_arm:
        found.append(_query("api-version", {"type": "string"}, "Any."))
        for name, words in (
            ("x-ms-client-request-id", "The same again is the same import."),
            ("x-ms-return-client-request-id", "`true`: the answer carries the former."),
            ("x-ms-correlation-request-id", "A GUID, which comes back."),
        ):
            found.append({"name": name, "in": "header", "description": words, "schema": {"type": "string"}})
    size = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    start = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
    if route.endpoint in ("resources", "registries"):
        found.append(_query("$top", size, "How many at most."))
        found.append(_query("$skiptoken", start, "As nextLink has it."))
    if route.endpoint == "resources":
        words = "resourceType, name, resourceGroup or location, compared by eq, joined by and."
        term = f"({'|'.join(FILTERS)}) eq '[^']*'"
        found.append(_query("$filter", {"type": "string", "pattern": f"^({term}( and {term})*)?$"}, words))
    if route.endpoint == "imports":
        found.append(_query("state", {"type": "string", "enum": list(get_args(State))}, "Of this state."))
        found.append(_query("top", size, "How many at most."))
        found.append(_query("skip", start, "As nextLink has it."))
    return found


def _query(name: str, schema: dict[str, Any], words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": words, "schema": schema}


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    endpoint = route.endpoint
    if endpoint == "importImage":
        found["202"] = {"description": "Accepted.", "headers": _accepted_headers()}
    else:
        found["200"] = {
            "description": "Done.",
            "content": _content(endpoint),
        }
    if endpoint == "operationResults":
        found["202"] = {
            "description": "Under way.",
            "headers": _accepted_headers(),
            "content": _content(endpoint),
        }
    errors = dict(_ERRORS.get(endpoint, {}))
    if route.guarded != "open":
        errors["401"] = "No token, or one that does not count."
    if route.guarded == "bearer":
        errors["403"] = "The caller lacks a right."
        errors["429"] = "Too many requests of this caller. Without Retry-After."
    errors["405"] = "Another method; Allow says which there are."
    for status, words in sorted(errors.items()):
        found[status] = _error(words, [status])
    found["default"] = _error("Any other error.", [])
    return found


def _error(words: str, statuses: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": words,
        "content": {"application/json": {"schema": schemas.ref("Error")}},
    }
    if "401" in statuses:
        found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    if "405" in statuses:
        found["headers"] = {"Allow": {"schema": {"type": "string"}, "required": True}}
    return found


def _accepted_headers() -> dict[str, Any]:
    return {
        "Location": {
            "description": "Where the result is.",
            "required": True,
            "schema": {"type": "string", "format": "uri"},
        },
        "Retry-After": {
            "description": "Seconds until it should be asked for.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        },
    }


def _content(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint in _TEXTS:
        return {_TEXTS[endpoint]: {"schema": {"type": "string"}}}
    name = _RESULTS.get(endpoint)
    schema = schemas.ref(name) if name else {"type": "object"}
    return {"application/json": {"schema": schema}}
