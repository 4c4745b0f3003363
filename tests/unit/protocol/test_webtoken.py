"""The claims of a token, valid or not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol import webtoken


def jwt(document: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
    return f"e30.{payload}."


@pytest.mark.parametrize(
    ("document", "ago"),
    [
        ({"exp": 900}, 100.0),
        ({"exp": 999.5}, 0.5),
        ({"exp": 1000}, 0.0),
        ({"exp": 1001}, 0.0),
        ({"exp": True}, 0.0),
        ({"exp": "900"}, 0.0),
        ({"exp": -1}, 0.0),
        ({}, 0.0),
        ([], 0.0),
    ],
)
def test_a_token_that_ran_out_says_when(document: Any, ago: float) -> None:
    assert webtoken.expired_s(jwt(document), 1000.0) == ago


@pytest.mark.parametrize(
    ("access", "lacking"),
    [
        (None, ()),
        ("all", ()),
        ([], ("repository:a/b:pull,push", "registry:catalog:*")),
        ([{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}], ("registry:catalog:*",)),
        (
            [
                {"type": "repository", "name": "a/b", "actions": ["pull"]},
                {"type": "registry", "name": "catalog", "actions": ["*"]},
            ],
            ("repository:a/b:pull,push",),
        ),
        (
            [
                {"type": "repository", "name": "a/b", "actions": ["*"]},
                {"type": "registry", "name": "catalog", "actions": ["*"]},
                {"type": "repository"},
                7,
            ],
            (),
        ),
    ],
)
def test_scopes_that_its_access_does_not_cover_are_missing(access: Any, lacking: tuple[str, ...]) -> None:
    token = jwt({} if access is None else {"access": access})
    assert webtoken.missing(token, ("repository:a/b:pull,push", "registry:catalog:*")) == lacking


@given(st.text() | st.binary().map(lambda data: f"a.{base64.urlsafe_b64encode(data).decode()}.b"))
def test_anything_can_be_asked(token: str) -> None:
    assert webtoken.expired_s(token, 1000.0) >= 0
    webtoken.missing(token, ("repository:a:pull",))
