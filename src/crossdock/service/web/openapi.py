"""Generates the service's OpenAPI document from its routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crossdock import __version__
from crossdock.service.web import openapischemas as schemas
from crossdock.service.web.routing import Guard, Route

_PLACES = {
    "subscriptionId": "A subscription of the inventory, in any case.",
    "resourceGroupName": "A resource group, in any case.",
    "registryName": "A registry's name, in any case.",
    "location": "Any value; clients take it from the Location of an accepted import.",
    "operationId": "`registries-` and the import's id.",
    "importId": "The import's id.",
}
_HEADERS = {
    "x-ms-client-request-id": "Repeating an id returns the same import.",
    "x-ms-return-client-request-id": "`true`: the response repeats x-ms-client-request-id.",
    "x-ms-correlation-request-id": "A GUID, which the response repeats.",
}
_SECURITY: dict[Guard, list[dict[str, list[str]]]] = {"open": [], "page": [{"basic": []}, {"bearer": []}]}
_ERROR_HEADERS = {401: "WWW-Authenticate", 405: "Allow"}


def openapi_document(routes: Iterable[Route], base: str) -> dict[str, Any]:
    """The document; `base` is the URL of the service."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "crossdock import service",
            "version": __version__,
            "summary": "Imports images into registries, as Azure's container registries do.",
            "description": "Paths ignore case, and doubled or trailing slashes; any "
            "api-version is accepted. No error has Retry-After. HEAD is supported wherever GET is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": base}],
        "tags": [
            {"name": "arm", "description": "The API of Azure's clients."},
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
                    "identity settings requires none.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "For browsers, only on the status page: a token as password.",
                },
            },
            "schemas": schemas.SCHEMAS,
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.body:
        found["requestBody"] = {"required": True, "content": schemas.content(route.body)}
    if route.guard in _SECURITY:
        found["security"] = _SECURITY[route.guard]
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "description": words, "schema": text}
        for name, words in _PLACES.items()
        if f"{{{name}}}" in route.template
    ]
    if route.tag == "arm":
        found.append(schemas.query("api-version", text, "Any."))
        for name, words in _HEADERS.items():
            found.append({"name": name, "in": "header", "description": words, "schema": text})
    return [*found, *map(dict, route.query)]


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in route.statuses:
        response: dict[str, Any] = {"description": "Done."}
        if status == 202:
            response = {"description": "Accepted, or still running.", "headers": _accepted_headers()}
        if route.result:
            response["content"] = schemas.content(route.result)
        found[str(status)] = response
    for status, words in sorted(_errors(route).items()):
        found[str(status)] = _error(words, _ERROR_HEADERS.get(status, ""))
    found["default"] = _error("Any other error.")
    return found


def _errors(route: Route) -> dict[int, str]:
    """The route's own errors, and those that follow from its guard."""
    errors = {**route.errors, 405: "Another method; Allow lists the supported ones."}
    if route.guard != "open":
        errors[401] = "No token, or an invalid one."
    if route.guard == "bearer":
        errors[403] = "The caller does not have the right."
        errors[429] = "Too many requests from this caller. Has no Retry-After."
    return errors


def _error(words: str, header: str = "") -> dict[str, Any]:
    """An error's response, with the header that goes with it."""
    found: dict[str, Any] = {"description": words, "content": schemas.content("Error")}
    if header:
        found["headers"] = {header: {"schema": {"type": "string"}, "required": True}}
    return found


def _accepted_headers() -> dict[str, Any]:
    return {
        "Location": {
            "description": "The URL of the result.",
            "required": True,
            "schema": {"type": "string", "format": "uri"},
        },
        "Retry-After": {
            "description": "Seconds until it should be polled.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        },
    }
