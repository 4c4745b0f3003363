"""Addresses to listen on."""

from __future__ import annotations

import pytest

from crossdock.errors import InvalidOption
from crossdock.listening import parse_listen


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:5000", ("127.0.0.1", 5000)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_to_listen_on(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5000", "host", ":5000", "host:", "host:x", "::1:80", "h:65536", "h:-1"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        parse_listen(text)
