"""From a method and a path to an endpoint. Pure: no server.

Azure's paths match in any case, and clients write them with doubled and trailing slashes (az-contract 3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

from msgspec import Struct

PROVIDER = "Microsoft.ContainerRegistry"

Endpoint = Literal[
    "subscriptions",
    "subscription",
    "resources",
    "provider",
    "register",
    "registries",
    "registry",
    "importImage",
    "operationResults",
    "imports",
    "import",
    "openapi",
    "schema",
    "health",
    "ready",
    "metrics",
    "page",
    "page-style",
    "page-script",
]
Guarded = Literal["bearer", "page", "open"]
"""Whom an endpoint answers: `bearer` those with a token, `page` also browsers, `open` everybody."""

_SUBSCRIPTION = "/subscriptions/{subscriptionId}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{resourceGroupName}}"
_REGISTRY = f"{_GROUP}/providers/{PROVIDER}/registries/{{registryName}}"


class Route(Struct, frozen=True):
    """An endpoint, its path as OpenAPI writes it, and the methods that it answers."""

    endpoint: Endpoint
    template: str
    methods: tuple[str, ...] = ("GET",)
    guarded: Guarded = "bearer"
    is_arm: bool = False  # its answers carry Azure's headers


ROUTES: tuple[Route, ...] = (
    Route("subscriptions", "/subscriptions", is_arm=True),
    Route("subscription", _SUBSCRIPTION, is_arm=True),
    Route("resources", f"{_SUBSCRIPTION}/resources", is_arm=True),
    Route("provider", f"{_SUBSCRIPTION}/providers/{PROVIDER}", is_arm=True),
    Route("register", f"{_SUBSCRIPTION}/providers/{PROVIDER}/register", ("POST",), is_arm=True),
    Route("registries", f"{_SUBSCRIPTION}/providers/{PROVIDER}/registries", is_arm=True),
    Route("registries", f"{_GROUP}/providers/{PROVIDER}/registries", is_arm=True),
    Route("registry", _REGISTRY, is_arm=True),
    Route("importImage", f"{_REGISTRY}/importImage", ("POST",), is_arm=True),
    Route(
        "operationResults",
        f"{_SUBSCRIPTION}/providers/{PROVIDER}/locations/{{location}}/operationResults/{{operationId}}",
        is_arm=True,
    ),
    Route("imports", "/imports"),
    Route("import", "/imports/{importId}", ("GET", "DELETE")),
    Route("openapi", "/openapi.json", guarded="open"),
    Route("schema", "/schemas/import.json", guarded="open"),
    Route("health", "/healthz", guarded="open"),
    Route("ready", "/readyz", guarded="open"),
    Route("metrics", "/metrics"),
    Route("page", "/", guarded="page"),
    Route("page-style", "/page.css", guarded="open"),
    Route("page-script", "/page.js", guarded="open"),
)


class Match(Struct, frozen=True):
    """A route and what stands in the places of its template, decoded."""

    route: Route
    values: Mapping[str, str]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


_TABLE: tuple[tuple[Route, tuple[str, ...]], ...] = tuple(
    (each, tuple(_parts(each.template))) for each in ROUTES
)
_PLACE = re.compile(r"\{([A-Za-z]+)\}")


def find_route(raw_path: str) -> Match | None:
    """The route of a path as it stood in the request line, without its query; None: there is none."""
    given = _parts(raw_path)
    for route, template in _TABLE:
        if len(template) != len(given):
            continue
        values: dict[str, str] = {}
        for wanted, part in zip(template, given, strict=True):
            decoded = unquote(part)
            if place := _PLACE.fullmatch(wanted):
                values[place[1]] = decoded
            elif wanted.lower() != decoded.lower():
                break
        else:
            return Match(route, values)
    return None


def allowed(route: Route) -> tuple[str, ...]:
    """Every method that the route answers: what can be got can be asked for by HEAD."""
    return (*route.methods, "HEAD") if "GET" in route.methods else route.methods
