"""Audit lines: complete, bounded, one line each, and without secrets."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.acr.request import ImportRequest, ImportSource, SourceCredentials
from crossdock.inventory.values import ResourceId
from crossdock.service.audit import LONGEST, MOST_TARGETS, accepted, ended, refused
from crossdock.service.logs import JsonLines
from crossdock.service.values import Operation, Order, Principal, Problem

ANN = Principal(id="0000-ann", name="Ann", tenant="t1")
REGISTRY = ResourceId("s1", "rg", "myregistry")
SECRET = "s3cr3t-p4ss"
FORGERY = 'x"}\r\n{"time":"now","audit":"importImage","result":"succeeded"}\x00\x1b[2J\x7f\u2028\u202e\ud800'


def order(**source: Any) -> Order:
    credentials = SourceCredentials(SECRET, "bob")
    where = ImportSource(
        **{"source_image": "app:v1", "registry_uri": "quay.io", "credentials": credentials} | source
    )
    request = ImportRequest(
        source=where, target_tags=("app:v1", "app:v2"), untagged_target_repositories=("b",)
    )
    return Order(registry=REGISTRY, request=request, principal=ANN, request_id="r1", client="192.0.2.7")


def read(fields: dict[str, Any]) -> dict[str, Any]:
    """The members of the log line that are specific to it."""
    record = logging.LogRecord("crossdock.audit", logging.INFO, "", 0, "importImage", (), None)
    record.fields = fields
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    document: dict[str, Any] = json.loads(line)
    assert document["message"] == "importImage"
    return {name: document[name] for name in document if name not in ("time", "level", "logger", "message")}


def test_who_what_from_to_and_result() -> None:
    assert read(accepted(order(), "op1")) == {
        "result": "accepted",
        "who": "0000-ann",
        "name": "Ann",
        "tenant": "t1",
        "client": "192.0.2.7",
        "operation": "op1",
        "request_id": "r1",
        "registry": str(REGISTRY),
        "from": "quay.io app:v1",
        "to": ["app:v1", "app:v2", "b (untagged)"],
        "mode": "NoForce",
        "with_credentials": True,
    }


def test_an_import_that_succeeded_says_what_it_moved() -> None:
    done = {"digest": "sha256:1", "bytes_moved": 5, "seconds": 1.5, "warnings": ["x"]}
    line = read(ended(Operation(id="op1", order=order(), state="Succeeded", result=done)))
    assert (line["result"], line["digest"], line["bytes_moved"], line["seconds"]) == (
        "succeeded",
        "sha256:1",
        5,
        1.5,
    )
    assert "warnings" not in line


@pytest.mark.parametrize(("state", "result"), [("Failed", "failed"), ("Canceled", "canceled")])
def test_an_import_that_failed_says_why(state: Any, result: str) -> None:
    problem = Problem(status=400, code="ManifestUnknown", message="no such tag")
    line = read(ended(Operation(id="op1", order=order(), state=state, problem=problem)))
    assert (line["result"], line["status"], line["code"], line["error"]) == (
        result,
        400,
        "ManifestUnknown",
        "no such tag",
    )


def test_a_refusal_says_what_is_known() -> None:
    problem = Problem(status=401, code="InvalidAuthenticationToken", message="expired")
    line = read(refused(problem, client="192.0.2.7", registry="/subscriptions/x"))
    assert set(line) == {"result", "client", "registry", "status", "code", "error"}


def test_no_secret_is_in_a_line() -> None:
    problem = Problem(status=400, code="X", message=f"the server said {SECRET}")
    for registry, image in (
        ("quay.io", f"app:{SECRET}"),
        (f"https://bob:{SECRET}@quay.io", "app"),
        ("bob:other-p4ss@quay.io", "bob:other-p4ss@host/app@sha256:12"),
    ):
        fields = refused(
            problem, principal=ANN, request=order(registry_uri=registry, source_image=image).request
        )
        line = read(fields)
        assert "p4ss" not in str(line)
        assert "quay.io" in line["from"]
    assert line["from"] == "quay.io host/app@sha256:12"


def test_nobody_forges_a_line() -> None:
    forged = order(source_image=FORGERY, registry_uri=FORGERY)
    problem = Problem(status=400, code=FORGERY, message=FORGERY)
    principal = Principal(id=FORGERY, name=FORGERY, tenant=FORGERY)
    line = read(
        refused(
            problem,
            principal=principal,
            client=FORGERY,
            registry=FORGERY,
            request=forged.request,
            request_id=FORGERY,
        )
    )
    assert line["result"] == "refused"
    assert line["who"] == FORGERY


def test_a_line_is_bounded() -> None:
    request = ImportRequest(
        source=ImportSource(source_image="x" * 100_000, registry_uri="y" * 100_000),
        target_tags=tuple("z" * 10_000 for _ in range(1000)),
    )
    problem = Problem(status=400, code="X", message="m" * 100_000)
    fields = refused(problem, principal=ANN, client="c" * 10_000, request=request)
    assert len(str(fields)) < 2 * LONGEST * (MOST_TARGETS + 10)
    line = read(fields)
    assert line["to_in_all"] == 1000
    assert len(line["to"]) == MOST_TARGETS


@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_any_text_makes_one_line_of_ascii(one: str, two: str, three: str) -> None:
    principal = Principal(id=one)
    read(accepted(order(source_image=two, registry_uri=three), one))
    read(refused(Problem(status=400, code="X", message=two), principal=principal, client=three))
