"""Error bodies of registries, proxies and token services."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.protocol.errorcode import MAX_MESSAGE, ErrorBody, parse_error


def errors(*entries: dict[str, object]) -> bytes:
    return json.dumps({"errors": entries}).encode()


CASES = [
    (
        "the specification's form",
        errors({"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "x"}}),
        ErrorBody(("MANIFEST_UNKNOWN",), "manifest unknown"),
    ),
    (
        "several, the first message counts",
        errors({"code": "DENIED"}, {"code": "UNAUTHORIZED", "message": "no"}),
        ErrorBody(("DENIED", "UNAUTHORIZED"), "no"),
    ),
    (
        "distribution's unknown errors",
        errors(
            {"code": "UNKNOWN", "message": "unknown error", "detail": {}},
            {"code": "UNKNOWN", "message": "unknown error", "detail": "invalid URL on layer"},
            {"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"},
        ),
        ErrorBody(("UNKNOWN", "MANIFEST_BLOB_UNKNOWN"), "invalid URL on layer"),
    ),
    (
        "nothing but an unknown error",
        errors({"code": "UNKNOWN", "message": "unknown error"}),
        ErrorBody(("UNKNOWN",), "unknown error"),
    ),
    ("detail as text", errors({"code": "UNKNOWN", "detail": "broken"}), ErrorBody(("UNKNOWN",), "broken")),
    ("a code in lower case", errors({"code": "denied"}), ErrorBody(("DENIED",), "")),
    ("a code that is none", errors({"code": "a b", "message": "m"}), ErrorBody((), "m")),
    ("token server", b'{"details": "incorrect password"}', ErrorBody((), "incorrect password")),
    ("oauth2", b'{"error": "invalid_grant", "error_description": "old"}', ErrorBody((), "old")),
    ("html", b"<html><head><title>413 Too\nLarge</title></head>", ErrorBody((), "413 Too Large")),
    ("html without a title", b"<html><body>x", ErrorBody()),
    ("plain text", b"404 page not found\n", ErrorBody((), "404 page not found")),
    ("nothing", b"", ErrorBody()),
    ("broken JSON", b'{"errors": [', ErrorBody((), '{"errors": [')),
    ("a list", b"[1, 2]", ErrorBody()),
    ("nested without end", b"[" * 50_000, None),
    ("not UTF-8", b"\xff\xfe", ErrorBody((), "\ufffd\ufffd")),
    ("terminal escapes", b"\x1b]0;owned\x07\x1b[2Jbad", ErrorBody((), "]0;owned [2Jbad")),
    ("bidirectional tricks", "a\u202eb".encode(), ErrorBody((), "a b")),
]


@pytest.mark.parametrize(("body", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_body_becomes_codes_and_one_line(body: bytes, expected: ErrorBody | None) -> None:
    found = parse_error(body)
    if expected is not None:
        assert found == expected


DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "detail",
    [DIGEST, {"digest": DIGEST}, [{"Name": "a/b", "Digest": DIGEST}], f"Layers with digests '[{DIGEST}]'"],
)
def test_the_digests_that_a_body_names_are_found_wherever_they_stand(detail: object) -> None:
    assert parse_error(errors({"code": "MANIFEST_BLOB_UNKNOWN", "detail": detail})).digests == {DIGEST}
    assert parse_error(errors({"code": "MANIFEST_BLOB_UNKNOWN"})).digests == frozenset()


@given(st.binary(max_size=500))
def test_any_body_gives_one_short_printable_line(body: bytes) -> None:
    message = parse_error(body).message
    assert len(message) <= MAX_MESSAGE
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (errors({"code": "NAME_UNKNOWN"}), True),
        (errors({"code": "UNKNOWN", "message": "artifact x Not Found"}), True),
        (errors({"code": "UNKNOWN", "message": "internal"}), False),
        (errors({"code": "MANIFEST_BLOB_UNKNOWN"}), False),
        (b"not found", False),
    ],
)
def test_missing_content_is_distinguished_from_refused_content(body: bytes, expected: bool) -> None:
    assert parse_error(body).is_not_found is expected


def test_a_secret_is_hidden_before_the_message_is_cut() -> None:
    secret = "token" * 100
    said = parse_error(("x" * 150 + secret).encode(), lambda text: text.replace(secret, "***"))
    assert said.message == "x" * 150 + "***"
