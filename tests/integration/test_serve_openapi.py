"""The service behaves as its OpenAPI document describes: requests generated from the document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from crossdock.service.web.routes import ROUTES
from support.service import GROUP, SUBSCRIPTION, Service, start_service

NAMES = {
    "subscriptionId": SUBSCRIPTION,
    "resourceGroupName": GROUP,
    "registryName": "myregistry",
}
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("service")
    (folder / "settings.yaml").write_text('{"limits": {"requests_per_minute": 100000}}')
    entry = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {"registries": [{"name": "myregistry", "login_server": "127.0.0.1:1", **entry}]}
    with ExitStack() as closing:
        started = start_service(folder, inventory, "--config", folder / "settings.yaml")
        closing.callback(started.process.stop)
        yield started


@pytest.fixture(scope="module")
def api(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json", verify=str(service.ca))


@pytest.mark.parametrize(("path", "method"), [(each.template, each.method) for each in ROUTES])
def test_answers_are_as_the_document_says(path: str, method: str, api: Any, service: Service) -> None:
    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        for name, value in NAMES.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value  # else every answer would be 404
        case.call_and_validate(checks=CHECKS, verify=str(service.ca))

    ask()


def test_the_log_has_no_fault(service: Service) -> None:
    assert '"level":"error"' not in service.log.read_text()
