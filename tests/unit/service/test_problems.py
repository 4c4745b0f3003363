"""Errors of imports in ARM's form: a code and a status for every class, without the command's flags."""

from __future__ import annotations

import inspect

import pytest

from crossdock import errors
from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    NotFound,
    QueueFull,
    RateLimited,
    RetriesExhausted,
    ServerBusy,
    Side,
    StoreError,
    TagExists,
)
from crossdock.service.problems import problem_of

CLASSES = sorted(
    {
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, CrossdockError) and each.__module__ == errors.__name__
    },
    key=lambda each: each.__name__,
)
REGISTRY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/R"
OPERATION = "registries-6f6c1f4e-0000-4000-8000-000000000000"
REPEATED = {408, 429, 500, 502, 503, 504}

CODES = {
    "AddressRefused": (400, "AddressNotAllowed"),
    "Cancelled": (409, "OperationCanceled"),
    "ConnectFailed": (400, "RegistryUnreachable"),
    "ChangedSincePlan": (400, "ImportFailed"),
    "ContentError": (400, "ContentInvalid"),
    "CopiesFailed": (400, "ImportFailed"),
    "CopyError": (400, "ImportFailed"),
    "CredentialsError": (400, "RegistryCredentials"),
    "CredentialsLost": (400, "CredentialsLost"),
    "CrossdockError": (400, "ImportFailed"),
    "Denied": (400, "RegistryDenied"),
    "DigestMismatch": (400, "ContentInvalid"),
    "InvalidDigest": (400, "InvalidParameters"),
    "InvalidInput": (400, "InvalidParameters"),
    "InvalidManifest": (400, "ContentInvalid"),
    "InvalidOption": (400, "InvalidParameters"),
    "InvalidReference": (400, "InvalidParameters"),
    "JournalUnavailable": (400, "StorageUnavailable"),
    "LimitExceeded": (400, "LimitExceeded"),
    "NotFound": (400, "ManifestUnknown"),
    "NothingMatched": (400, "ImportFailed"),
    "LoginNotDemanded": (403, "LinkedAuthorizationFailed"),
    "PolicyRefused": (403, "RegistryPolicyForbids"),
    "ProtocolError": (400, "RegistryUnreachable"),
    "QueueFull": (400, "TooManyImports"),
    "RateLimited": (400, "TooManyRequests"),
    "ReadFailed": (400, "RegistryUnreachable"),
    "RedirectRefused": (400, "RegistryUnreachable"),
    "ReferrersIncomplete": (400, "ContentInvalid"),
    "RegistryError": (400, "RegistryError"),
    "RetriesExhausted": (400, "ImportFailed"),
    "ServerBusy": (400, "RegistryError"),
    "SizeMismatch": (400, "ContentInvalid"),
    "SourceNotAllowed": (403, "SourceNotAllowed"),
    "SpoolUnavailable": (400, "StorageUnavailable"),
    "Stopping": (400, "ServiceStopping"),
    "StoreError": (400, "StorageUnavailable"),
    "OutputFailed": (400, "StorageUnavailable"),
    "TagExists": (409, "TagAlreadyExists"),
    "TimedOut": (400, "RegistryUnreachable"),
    "TlsFailed": (400, "RegistryUnreachable"),
    "TokenExpired": (400, "RegistryUnauthorized"),
    "TransportError": (400, "RegistryUnreachable"),
    "Unauthorized": (400, "RegistryUnauthorized"),
    "Unsupported": (400, "RegistryError"),
    "UploadInterrupted": (400, "ImportFailed"),
    "UploadRejected": (400, "RegistryError"),
    "WriteFailed": (400, "RegistryUnreachable"),
    "WrongScope": (400, "RegistryUnauthorized"),
}


def wrapped(cause: CrossdockError, side: Side = "source") -> CopyError:
    error = CopyError(
        f"fetch {side} registry.example/a:b: {cause}",
        operation="fetch",
        side=side,
        reference="registry.example/a:b",
        cause=cause,
    )
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("kind", CLASSES, ids=lambda each: each.__name__)
def test_every_class_has_a_code_and_a_status_that_ends_a_poll(kind: type[CrossdockError]) -> None:
    where = {"operation": "fetch", "side": "source", "reference": "registry.example/a:b"}
    error = kind("what failed", advice=Advice("report", "do this"), **(where if kind is CopyError else {}))
    problem = problem_of(error, registry=REGISTRY, operation=OPERATION)
    assert (problem.status, problem.code) == CODES[kind.__name__]
    assert problem.status not in REPEATED
    assert problem.message == f"Operation {OPERATION} failed. Resource {REGISTRY} what failed; do this"
    if not issubclass(kind, CopyError | RetriesExhausted):
        inside = problem_of(wrapped(error), registry=REGISTRY, operation=OPERATION)
        assert (inside.status, inside.code, inside.target) == (
            *CODES[kind.__name__],
            "registry.example/a:b",
        )


def test_the_detail_names_phase_registry_url_and_status() -> None:
    cause = NotFound("no such manifest", status=404, url="https://registry.example/v2/a/manifests/b")
    (detail,) = problem_of(wrapped(cause), registry=REGISTRY, operation=OPERATION).details
    assert detail.message == (
        "phase: fetch, side: source, registry: registry.example, reference: registry.example/a:b, "
        "url: https://registry.example/v2/a/manifests/b, status: 404"
    )
    assert (detail.code, detail.target) == ("ManifestUnknown", "registry.example/a:b")


def test_the_last_tries_are_details() -> None:
    tries = tuple(ServerBusy(f"try {number}", status=503) for number in range(6))
    given_up = RetriesExhausted("try 5 (gave up after 6 tries)", attempts=tries)
    given_up.__cause__ = tries[-1]
    error = wrapped(given_up)
    problem = problem_of(error, registry=REGISTRY, operation=OPERATION)
    assert (problem.status, problem.code) == (400, "RegistryError")
    assert [each.message for each in problem.details][1:] == ["try 3", "try 4", "try 5"]


def test_a_request_that_is_refused_may_have_a_status_to_try_again_on() -> None:
    assert problem_of(QueueFull("full")).status == 429
    assert problem_of(StoreError("no space")).status == 503
    assert problem_of(RateLimited("slow down")).status == 400  # a registry's


def test_nothing_is_told_of_an_error_that_is_none_of_ours() -> None:
    problem = problem_of(RuntimeError("/etc/passwd"), registry=REGISTRY, operation=OPERATION)
    assert (problem.code, problem.message) == (
        "InternalError",
        f"Operation {OPERATION} failed. Resource {REGISTRY} internal error",
    )


def test_a_conflict_has_the_words_of_the_contract_and_of_the_service() -> None:
    error = TagExists(
        "a:b Tag a:b already exists in target registry.",
        advice=Advice("overwrite-tags"),
    )
    message = problem_of(error, registry=REGISTRY, operation=OPERATION).message
    assert "Resource " + REGISTRY + " a:b Tag a:b already exists in target registry." in message
    assert message.endswith(" Nothing was copied; the mode Force overwrites the tag")


def test_a_conflict_names_phase_registry_and_every_tag_that_is_there() -> None:
    error = TagExists("two tags", references=("h:5000/a:b", "h:5000/c:d"))
    problem = problem_of(error, registry=REGISTRY, operation=OPERATION)
    assert problem.target == "h:5000/a:b"
    assert [(each.message, each.target) for each in problem.details] == [
        ("phase: resolve, side: target, registry: h:5000, reference: h:5000/a:b", "h:5000/a:b"),
        ("phase: resolve, side: target, registry: h:5000, reference: h:5000/c:d", "h:5000/c:d"),
    ]
