"""Tracebacks, debuggers and logs show no secrets of values that have them."""

from __future__ import annotations

import pytest

from crossdock.options import Credentials
from crossdock.protocol.upload import Ask, Send
from crossdock.registry.auth.tokens import Token
from crossdock.transport.base import Request, ResponseHead
from crossdock.url import Url

SECRET = "s3cr3t"
URL = f"https://storage.example/blob?X-Amz-Signature={SECRET}"


@pytest.mark.parametrize(
    "value",
    [
        Credentials("ann", SECRET, SECRET, SECRET, SECRET),
        Token(SECRET, 0.0, 1.0),
        Url.parse(URL),
        Send("PUT", Url.parse(URL), 0, 1, final=True, headers=()),
        Ask(Url.parse(URL)),
        Request("GET", Url.parse(URL), (("Authorization", f"Bearer {SECRET}"),)),
        ResponseHead(307, "", (("location", URL), ("set-cookie", SECRET)), by_name={"location": URL}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_repr_shows_a_secret(value: object) -> None:
    assert SECRET not in repr(value)
