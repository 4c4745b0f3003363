"""Every endpoint of the service, one row each. The OpenAPI document is generated from these rows."""

from __future__ import annotations

from crossdock.service.web import health, importdocument, imports, page, registries
from crossdock.service.web.arm import PROVIDER
from crossdock.service.web.openapi import openapi_document
from crossdock.service.web.openapischemas import ARM_PAGE, FILTER, OWN_PAGE, STATE, json_of, text_of
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
# For az acr update --admin-enabled and the like.
_READ_ONLY = "Registries are defined in this service's inventory and not changed here. "


async def openapi(service: Service, call: Call) -> Document:
    """The OpenAPI document."""
    return openapi_document(ROUTES, call.base)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/subscriptions",
        registries.subscriptions,
        "subscriptions",
        "List subscriptions",
        json_of("SubscriptionList"),
        "arm",
    ),
    Route(
        "GET",
        _SUBSCRIPTION,
        registries.subscription,
        "subscription",
        "Show a subscription",
        json_of("Subscription"),
        "arm",
        errors=_NO_SUBSCRIPTION,
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/resources",
        registries.resources,
        "resources",
        "List registries as resources",
        json_of("ResourceList"),
        "arm",
        query=(*ARM_PAGE, FILTER),
        errors={400: "A query parameter or the filter is invalid.", **_NO_SUBSCRIPTION},
    ),
    Route(
        "GET",
        _PROVIDER,
        registries.provider,
        "provider",
        "Show the provider, which is registered",
        json_of("Provider"),
        "arm",
        errors=_NO_SUBSCRIPTION,
    ),
    Route(
        "POST",
        f"{_PROVIDER}/register",
        registries.provider,
        "register",
        "Register the provider",
        json_of("Provider"),
        "arm",
        errors=_NO_SUBSCRIPTION,
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/{_REGISTRIES}",
        registries.registries,
        "registries",
        "List registries",
        json_of("RegistryList"),
        "arm",
        query=ARM_PAGE,
        errors=_OUT_OF_RANGE | _NO_SUBSCRIPTION,
        note=_READ_ONLY,
    ),
    Route(
        "GET",
        f"{_GROUP}/{_REGISTRIES}",
        registries.registries,
        "registries-by-group",
        "List registries",
        json_of("RegistryList"),
        "arm",
        query=ARM_PAGE,
        errors=_OUT_OF_RANGE | _NO_SUBSCRIPTION,
        note=_READ_ONLY,
    ),
    Route(
        "GET",
        _REGISTRY,
        registries.registry,
        "registry",
        "Show a registry",
        json_of("Registry"),
        "arm",
        errors=_NO_REGISTRY,
        note=_READ_ONLY,
    ),
    Route(
        "POST",
        f"{_REGISTRY}/importImage",
        imports.import_image,
        "importImage",
        "Start an import",
        tag="arm",
        body=json_of("ImportImageParameters"),
        statuses=(202,),
        errors={
            400: "The body is not an import, or its names or source are not permitted.",
            **_NO_REGISTRY,
            409: "A target tag exists.",
            413: "The body is too large.",
            503: "The service is stopping. Without Retry-After.",
        },
        is_audited=True,
    ),
    Route(
        "GET",
        f"{_PROVIDER}/locations/{{location}}/operationResults/{{operationId}}",
        imports.operation_results,
        "operationResults",
        "Poll an import, as Azure's clients do",
        json_of("OperationResult"),
        "arm",
        statuses=(200, 202),
        errors={
            400: "The import failed.",
            404: "There is no such operation, or it is no longer kept.",
            409: "The import ended in a conflict, or was cancelled.",
        },
        is_poll=True,
    ),
    Route(
        "GET",
        "/imports",
        imports.list_imports,
        "imports",
        "List imports, the newest first",
        json_of("ImportList"),
        "imports",
        query=(STATE, *OWN_PAGE),
        errors=_OUT_OF_RANGE,
    ),
    Route(
        "GET",
        "/imports/{importId}",
        imports.one_import,
        "import",
        "Show an import",
        json_of("Import"),
        "imports",
        errors=_NO_IMPORT,
        is_poll=True,
    ),
    Route(
        "DELETE",
        "/imports/{importId}",
        imports.cancel_import,
        "cancel-import",
        "Cancel an import",
        json_of("Import"),
        "imports",
        errors=_NO_IMPORT,
    ),
    Route("GET", "/openapi.json", openapi, "openapi", "This document", json_of(), guard="open"),
    Route(
        "GET",
        "/schemas/import.json",
        importdocument.schema,
        "schema",
        "JSON schema of an import",
        json_of(),
        "imports",
        "open",
    ),
    Route(
        "GET",
        "/healthz",
        health.health,
        "health",
        "Whether the process responds",
        json_of("Status"),
        guard="open",
    ),
    Route(
        "GET",
        "/readyz",
        health.ready,
        "ready",
        "Whether imports are accepted",
        json_of("Status"),
        guard="open",
        errors={503: "The service is stopping, or cannot store imports."},
    ),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        "metrics",
        "Metrics in Prometheus's text format",
        text_of("text/plain"),
    ),
    Route("GET", "/", page.page, "page", "The status page", text_of("text/html"), guard="page", is_poll=True),
    Route("GET", "/page.css", page.style, "page-style", "Its style sheet", text_of("text/css"), guard="open"),
    Route(
        "GET", "/page.js", page.script, "page-script", "Its script", text_of("text/javascript"), guard="open"
    ),
)
ROUTER = Router(ROUTES)
