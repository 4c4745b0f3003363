"""Every endpoint of the service, one row each. The OpenAPI document is generated from these rows."""

from __future__ import annotations

from functools import partial
from typing import Any

from crossdock.service.web import health, importdocument, imports, page, registries
from crossdock.service.web.arm import PROVIDER
from crossdock.service.web.openapi import openapi_document
from crossdock.service.web.openapischemas import ARM_PAGE, FILTER, OWN_PAGE, STATE
from crossdock.service.web.routing import Route, Router
from crossdock.service.web.service import Call, Document, Service

_SUBSCRIPTION = "/subscriptions/{subscriptionId}"
_PROVIDER = f"{_SUBSCRIPTION}/providers/{PROVIDER}"
_REGISTRIES = f"providers/{PROVIDER}/registries"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{resourceGroupName}}"
_REGISTRY = f"{_GROUP}/{_REGISTRIES}/{{registryName}}"

_NO_SUBSCRIPTION = {404: "No such subscription."}
_NO_REGISTRY = {404: "There is no such subscription or registry."}
_NO_IMPORT = {404: "There is no such import, or it is no longer kept."}
_OUT_OF_RANGE = {400: "A query parameter is out of its range."}
_REFUSED = {
    400: "The body is not an import, or a name or the source is not permitted.",
    **_NO_REGISTRY,
    409: "A target tag exists.",
    413: "The body is too large.",
    503: "The service is stopping. Has no Retry-After.",
}
_FAILED = {
    400: "The import failed.",
    404: "There is no such operation, or it is no longer kept.",
    409: "The import ended in a conflict, or was cancelled.",
}
# For az acr update --admin-enabled and the like.
_READ_ONLY = "Registries are defined in this service's inventory and cannot be changed here. "
_LIST: dict[str, Any] = {"query": ARM_PAGE, "errors": _OUT_OF_RANGE | _NO_SUBSCRIPTION, "note": _READ_ONLY}


async def openapi(service: Service, call: Call) -> Document:
    """The OpenAPI document."""
    return openapi_document(ROUTES, call.base)


_arm = partial(Route, tag="arm")
_own = partial(Route, tag="imports")
_open = partial(Route, guard="open")
# method, template, handler, operationId, summary, result
ROUTES: tuple[Route, ...] = (
    _arm(
        "GET",
        "/subscriptions",
        registries.subscriptions,
        "subscriptions",
        "List subscriptions",
        "SubscriptionList",
    ),
    _arm(
        "GET",
        _SUBSCRIPTION,
        registries.subscription,
        "subscription",
        "Show a subscription",
        "Subscription",
        errors=_NO_SUBSCRIPTION,
    ),
    _arm(
        "GET",
        f"{_SUBSCRIPTION}/resources",
        registries.resources,
        "resources",
        "List registries as resources",
        "ResourceList",
        query=(*ARM_PAGE, FILTER),
        errors={400: "A query parameter or the filter is invalid.", **_NO_SUBSCRIPTION},
    ),
    _arm(
        "GET",
        _PROVIDER,
        registries.provider,
        "provider",
        "Show the provider, which is registered",
        "Provider",
        errors=_NO_SUBSCRIPTION,
    ),
    _arm(
        "POST",
        f"{_PROVIDER}/register",
        registries.provider,
        "register",
        "Register the provider",
        "Provider",
        errors=_NO_SUBSCRIPTION,
    ),
    _arm(
        "GET",
        f"{_SUBSCRIPTION}/{_REGISTRIES}",
        registries.registries,
        "registries",
        "List registries",
        "RegistryList",
        **_LIST,
    ),
    _arm(
        "GET",
        f"{_GROUP}/{_REGISTRIES}",
        registries.registries,
        "registries-by-group",
        "List registries",
        "RegistryList",
        **_LIST,
    ),
    _arm(
        "GET",
        _REGISTRY,
        registries.registry,
        "registry",
        "Show a registry",
        "Registry",
        errors=_NO_REGISTRY,
        note=_READ_ONLY,
    ),
    _arm(
        "POST",
        f"{_REGISTRY}/importImage",
        imports.import_image,
        "importImage",
        "Start an import",
        body="ImportImageParameters",
        statuses=(202,),
        errors=_REFUSED,
        is_audited=True,
    ),
    _arm(
        "GET",
        f"{_PROVIDER}/locations/{{location}}/operationResults/{{operationId}}",
        imports.operation_results,
        "operationResults",
        "Poll an import, as Azure's clients do",
        "OperationResult",
        statuses=(200, 202),
        errors=_FAILED,
        is_poll=True,
    ),
    _own(
        "GET",
        "/imports",
        imports.list_imports,
        "imports",
        "List imports, the newest first",
        "ImportList",
        query=(STATE, *OWN_PAGE),
        errors=_OUT_OF_RANGE,
    ),
    _own(
        "GET",
        "/imports/{importId}",
        imports.one_import,
        "import",
        "Show an import",
        "Import",
        errors=_NO_IMPORT,
        is_poll=True,
    ),
    _own(
        "DELETE",
        "/imports/{importId}",
        imports.cancel_import,
        "cancel-import",
        "Cancel an import",
        "Import",
        errors=_NO_IMPORT,
    ),
    _open(
        "GET",
        "/schemas/import.json",
        importdocument.schema,
        "schema",
        "JSON schema of an import",
        "object",
        tag="imports",
    ),
    _open("GET", "/openapi.json", openapi, "openapi", "This document", "object"),
    _open("GET", "/healthz", health.health, "health", "Whether the process responds", "Status"),
    _open(
        "GET",
        "/readyz",
        health.ready,
        "ready",
        "Whether imports are accepted",
        "Status",
        errors={503: "The service is stopping, or cannot store imports."},
    ),
    Route("GET", "/metrics", health.metrics, "metrics", "Metrics in Prometheus's text format", "text/plain"),
    Route("GET", "/", page.page, "page", "The status page", "text/html", guard="page", is_poll=True),
    Route(
        "POST",
        "/imports/{importId}/cancel",
        page.cancel_by_button,
        "cancel-by-button",
        "Cancel an import by the status page's button",
        guard="page",
        statuses=(303,),
        errors=_NO_IMPORT
        | {403: "The button belongs to an older page, or the caller may not cancel the import."},
    ),
    _open("GET", "/page.css", page.style, "page-style", "Its style sheet", "text/css"),
    _open("GET", "/page.js", page.script, "page-script", "Its script", "text/javascript"),
)
ROUTER = Router(ROUTES)
