"""Paths to endpoints: any case, doubled and trailing slashes (az-contract 3)."""

from __future__ import annotations

import pytest

from crossdock.service.web.routes import ROUTER, ROUTES
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
        (f"{BASE}/resourcegroups/rg/{PROVIDER}/registries/", "registries-by-group"),
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
    match = ROUTER.find(path)
    assert match is not None
    assert match.first.name == endpoint


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/imports/x/y",
        "/subscriptions/x/providers/Microsoft.Storage",
        f"{BASE}/%70roviders%2FMicrosoft.ContainerRegistry/registries",
    ],
)
def test_other_paths_are_no_endpoint(path: str) -> None:
    assert ROUTER.find(path) is None


def test_parts_are_decoded_after_the_path_was_cut() -> None:
    match = ROUTER.find("/imports/a%2Fb%20c")
    assert match is not None
    assert match.values == {"importId": "a/b c"}


def test_head_works_wherever_get_does() -> None:
    for each in ROUTES:
        match = ROUTER.find(each.template)
        assert match is not None
        assert ("HEAD" in match.routes) == ("GET" in match.routes)
