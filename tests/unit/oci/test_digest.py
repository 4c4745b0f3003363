"""Digests are exact, and are their text."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import InvalidDigest
from crossdock.oci.digest import Digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "algorithm:hex"),
        ("sha256", "algorithm:hex"),
        (EMPTY.removeprefix("sha256:"), "algorithm:hex"),
        ("sha256:", "64 hex digits, not 0"),
        (EMPTY[:-1], "64 hex digits, not 63"),
        (EMPTY + "0", "64 hex digits, not 65"),
        (EMPTY.replace("sha256", "sha512"), "128 hex digits, not 64"),
        (EMPTY.replace("e3b0", "E3B0"), "lower case"),
        (EMPTY[:-1] + "g", "lower case"),
        (EMPTY[:-1] + "\n", "lower case"),
        (EMPTY + "\n", "not 65"),
        (EMPTY[:-1] + "٣", "lower case"),  # a digit to \d, not to a registry
        (EMPTY.replace("sha256", "SHA256"), "unknown algorithm"),
        (EMPTY.replace("sha256", "blake3"), "unknown algorithm 'blake3'"),
        (" " + EMPTY, "unknown algorithm"),
        ("sha256:../../../etc/passwd", "64 hex digits"),
    ],
)
def test_an_invalid_digest_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidDigest, match=reason):
        Digest(text)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_of_bytes_is_hashlibs(algorithm: str) -> None:
    digest = Digest.of(b"crossdock", algorithm)
    assert digest.algorithm == algorithm
    assert digest.encoded == hashlib.new(algorithm, b"crossdock").hexdigest()
    assert Digest.parse(str(digest)) == digest


def test_an_algorithm_that_cannot_be_verified_cannot_be_computed() -> None:
    with pytest.raises(InvalidDigest, match="'md5'"):
        Digest.of(b"", "md5")


def test_a_digest_is_its_text() -> None:
    digest = Digest(EMPTY)
    assert digest == EMPTY
    assert {EMPTY: 1}[digest] == 1
    assert f"{digest}" == EMPTY
    assert json.dumps([digest]) == f'["{EMPTY}"]'
    assert Digest(digest) is digest


def test_a_digest_survives_pickling() -> None:
    assert type(pickle.loads(pickle.dumps(Digest(EMPTY)))) is Digest


def test_short_is_enough_to_recognise() -> None:
    assert Digest(EMPTY).short == "sha256:e3b0c44298fc…"


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_every_computed_digest_parses_to_itself(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert Digest(f"{digest.algorithm}:{digest.encoded}") == digest


@given(st.one_of(st.text(), st.from_regex(r"sha(256|512):[0-9a-fA-F]*", fullmatch=True)))
def test_any_text_is_a_digest_or_an_invalid_digest(text: str) -> None:
    try:
        digest = Digest(text)
    except InvalidDigest as error:
        message = str(error)
    else:
        message = ""
        assert digest == text
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_matches_its_own_bytes_alone(algorithm: str) -> None:
    digest = Digest.of(b"content", algorithm)
    assert digest.matches(b"content")
    assert digest.matches(memoryview(b"content"))
    assert not digest.matches(b"Content")
