"""Paths to endpoints: any case, doubled and trailing slashes (az-contract 3)."""

from __future__ import annotations

import pytest

from crossdock.service.web.app import HANDLERS
from crossdock.service.web.routing import ROUTES, allowed, find_route
from unit.service.web.doubles import BASE, IMPORT, PROVIDER, REGISTRY


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/", "page"),
        ("", "page"),
        ("/subscriptions", "subscriptions"),
        ("//Subscriptions//", "subscriptions"),
        (BASE, "subscription"),
        (f"{BASE}/resources", "resources"),
        (f"{BASE}/{PROVIDER}", "provider"),
        (f"{BASE}/{PROVIDER}/register", "register"),
        (f"{BASE}/{PROVIDER}/registries", "registries"),
        (f"{BASE}/resourcegroups/rg/{PROVIDER}/registries/", "registries"),
        (REGISTRY, "registry"),
        (REGISTRY.upper(), "registry"),
        (IMPORT, "importImage"),
        (f"/{IMPORT.lower()}//", "importImage"),
        (f"{BASE}/{PROVIDER}/locations/WESTUS/operationResults/registries-x", "operationResults"),
        ("/imports", "imports"),
        ("/imports/x", "import"),
        ("/openapi.json", "openapi"),
        ("/schemas/import.json", "schema"),
        ("/healthz", "health"),
        ("/readyz", "ready"),
        ("/metrics", "metrics"),
    ],
)
def test_a_path_finds_its_endpoint_however_it_is_written(path: str, endpoint: str) -> None:
    match = find_route(path)
    assert match is not None
    assert match.route.endpoint == endpoint


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/imports/x/y",
        "/subscriptions/x/providers/Microsoft.Storage",
        f"{BASE}/%70roviders%2FMicrosoft.ContainerRegistry/registries",
    ],
)
def test_what_is_no_endpoint_is_none(path: str) -> None:
    assert find_route(path) is None


def test_parts_are_decoded_after_the_path_was_cut() -> None:
    match = find_route("/imports/a%2Fb%20c")
    assert match is not None
    assert match.values == {"importId": "a/b c"}


def test_every_endpoint_has_a_handler_and_no_other_one() -> None:
    assert {each.endpoint for each in ROUTES} == set(HANDLERS)


def test_what_can_be_got_can_be_asked_for_by_head() -> None:
    for each in ROUTES:
        assert ("HEAD" in allowed(each)) == ("GET" in allowed(each))
