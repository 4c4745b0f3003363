"""Errors survive pickling, with all fields that behavior depends on."""

from __future__ import annotations

import inspect
import pickle

import pytest

from crossdock import errors
from crossdock.errors import (
    Advice,
    ConnectFailed,
    CopyError,
    CrossdockError,
    NotFound,
    RateLimited,
    RetriesExhausted,
    ServerBusy,
    StoreError,
    TimedOut,
    TlsFailed,
    root_cause,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_of_the_one_tree_and_says_what_it_means(kind: type[BaseException]) -> None:
    assert issubclass(kind, CrossdockError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling_with_message_advice_and_details(kind: type[CrossdockError]) -> None:
    error = kind(
        "what failed",
        advice=Advice("report", "do this"),
        retryable=True,
        method="GET",
        url="https://a.example/v2/",
    )
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert (str(twin), twin.args, str(twin.advice), twin.retryable) == (
        "what failed",
        ("what failed",),
        "do this",
        True,
    )
    assert vars(twin) == vars(error)


def test_a_pickled_error_keeps_the_errors_behind_it() -> None:
    busy = ServerBusy("503", status=503)
    error = CopyError("fetch failed", operation="fetch", side="source", reference="a.example/b:c", cause=busy)
    error.__cause__ = RetriesExhausted("gave up after 2 tries", attempts=(busy, busy))
    error.__cause__.__cause__ = busy
    twin = pickle.loads(pickle.dumps(error))
    assert isinstance(root_cause(twin), ServerBusy)
    assert isinstance(twin.__cause__, RetriesExhausted)
    assert [attempt.status for attempt in twin.__cause__.attempts if isinstance(attempt, ServerBusy)] == [
        503,
        503,
    ]


def test_a_pickled_error_leaves_a_foreign_cause_behind() -> None:
    error = StoreError("disk full")
    error.__cause__ = OSError(28, "No space left on device")
    assert pickle.loads(pickle.dumps(error)).__cause__ is None


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (NotFound, LookupError),
        (StoreError, OSError),
        (ConnectFailed, ConnectionError),
        (TimedOut, TimeoutError),
    ],
)
def test_an_error_is_also_the_builtin_that_a_user_expects(
    kind: type[CrossdockError], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin, match="what failed"):
        raise kind("what failed")


def test_retryable_is_the_class_default_unless_the_error_says_otherwise() -> None:
    assert RateLimited("429").retryable
    assert not TlsFailed("certificate").retryable
    assert not RateLimited("429", retryable=False).retryable


def test_root_cause_is_the_error_that_decides_the_exit_code() -> None:
    missing = NotFound("404")
    error = CopyError("copy failed", operation="fetch", side="source", reference="a.example/b", cause=missing)
    error.__cause__ = missing
    assert root_cause(error) is missing
    assert root_cause(missing) is missing
    assert root_cause(ValueError("other")).args == ("other",)


def test_root_cause_stops_at_a_copy_error_without_cause() -> None:
    error = CopyError("copy failed", operation="fetch", side="source", reference="a.example/b")
    assert root_cause(error) is error
