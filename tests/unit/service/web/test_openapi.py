"""The OpenAPI document and the schema of imports are valid and complete."""

from __future__ import annotations

import re

import jsonschema
import pytest
from openapi_spec_validator import validate

from crossdock.service.values import ANYBODY, Problem, State
from crossdock.service.web.importdocument import IMPORT_SCHEMA, import_document
from crossdock.service.web.openapi import openapi_document
from crossdock.service.web.paging import read_filter
from crossdock.service.web.routes import ROUTES
from unit.service.web.test_page import operation

DOCUMENT = openapi_document(ROUTES, "https://localhost:8443")


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


def test_every_route_and_method_is_in_it_and_nothing_else() -> None:
    said = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    assert said == {(each.template, each.method) for each in ROUTES}


def test_operation_ids_are_unique_and_errors_have_a_body() -> None:
    operations = [each for item in DOCUMENT["paths"].values() for each in item.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for each in operations:
        for status, answer in each["responses"].items():
            if status == "default" or status >= "400":
                assert "application/json" in answer["content"], (each["operationId"], status)


def test_the_filter_of_the_document_takes_what_is_read() -> None:
    parameters = DOCUMENT["paths"]["/subscriptions/{subscriptionId}/resources"]["get"]["parameters"]
    (pattern,) = (each["schema"]["pattern"] for each in parameters if each["name"] == "$filter")
    for text in ("", "name eq 'a'", "resourceType eq 'b/c' and name eq 'a'"):
        assert re.search(pattern, text)
        read_filter(text)
    assert not re.search(pattern, "name ne 'a'")


@pytest.mark.parametrize("state", ["Accepted", "Running", "Succeeded", "Failed", "Canceled"])
def test_an_import_of_any_state_fits_its_schema_and_has_no_secret(state: State) -> None:
    made = operation(
        1, state, problem=Problem(status=400, code="X", message="y") if state == "Failed" else None
    )  # type: ignore[arg-type]
    document = import_document(made, "https://localhost:8443")
    jsonschema.validate(document, IMPORT_SCHEMA, cls=jsonschema.Draft202012Validator)
    assert "hunter2" not in str(document)
    assert made.order.principal == ANYBODY
