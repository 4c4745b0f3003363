"""Credentials at rest: valid keys, encryption, and data that can no longer be decrypted."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from crossdock.acr.request import SourceCredentials
from crossdock.errors import CredentialsLost, InvalidOption
from crossdock.service.operations.secrets import Sealer, read_key

KEY = bytes(range(32))
SALT = b"s" * 16
WHO = SourceCredentials("a password, a long one", "ci")


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper() + "\n",
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(bytes(range(224, 256))).decode().rstrip("="),
        "a passphrase that is long enough",
    ],
)
def test_a_key_opens_what_it_sealed_in_another_process(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    sealed = Sealer(read_key(path, "", {}), SALT).seal("id", WHO)
    assert sealed is not None
    assert b"password" not in sealed
    assert Sealer(read_key(None, "KEY", {"KEY": text}), SALT).open("id", sealed) == WHO


def test_bytes_in_base64_and_in_hexadecimal_are_the_same_key() -> None:
    sealed = Sealer(KEY.hex(), SALT).seal("id", WHO)
    assert Sealer(base64.b64encode(KEY).decode(), SALT).open("id", sealed) == WHO


@pytest.mark.parametrize("text", ["", "short", "0" * 19, " " * 40])
def test_a_short_value_is_not_a_key(text: str) -> None:
    with pytest.raises(InvalidOption, match="key_env KEY does not hold a key") as raised:
        read_key(None, "KEY", {"KEY": text})
    assert "openssl rand" in str(raised.value.advice)
    if text.strip():
        assert text.strip() not in str(raised.value)


def test_a_variable_that_is_not_there_is_not_a_key() -> None:
    with pytest.raises(InvalidOption, match="key_env KEY"):
        read_key(None, "KEY", {})


@pytest.mark.parametrize(("mode", "is_good"), [(0o600, True), (0o440, True), (0o644, False), (0o660, False)])
def test_a_key_file_is_for_its_owner_and_a_reading_group(mode: int, is_good: bool, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(mode)
    if is_good:
        assert read_key(path, "", {}) == KEY.hex()
    else:
        with pytest.raises(InvalidOption, match="others can read or change it"):
            read_key(path, "", {})


@pytest.mark.parametrize("content", [b"\xff" * 40, b"k" * 5000])
def test_a_file_that_is_not_text_is_not_a_key(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidOption, match="does not hold a key"):
        read_key(path, "", {})


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="cannot be read: No such file"):
        read_key(tmp_path / "none", "", {})


def test_without_a_key_nothing_is_sealed() -> None:
    sealer = Sealer("", SALT)
    assert sealer.seal("id", WHO) is None
    with pytest.raises(CredentialsLost, match="had no key") as raised:
        sealer.open("id", None)
    assert "key_file" in str(raised.value.advice)


@pytest.mark.parametrize(
    "other",
    [
        Sealer(os.urandom(32).hex(), SALT),
        Sealer(KEY.hex(), b"t" * 16),
        Sealer("", SALT),
    ],
    ids=["another key", "another folder", "no key"],
)
def test_another_key_opens_nothing_and_says_what_to_do(other: Sealer) -> None:
    sealed = Sealer(KEY.hex(), SALT).seal("id", WHO)
    with pytest.raises(CredentialsLost) as raised:
        other.open("id", sealed)
    assert "post the import again" in str(raised.value.advice)


def test_credentials_sealed_for_one_import_open_for_no_other() -> None:
    sealer = Sealer(KEY.hex(), SALT)
    sealed = sealer.seal("id", WHO)
    assert sealed is not None
    for wrong in (sealed[:-1], sealed[:5], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(CredentialsLost):
            sealer.open("id", wrong)
    with pytest.raises(CredentialsLost):
        sealer.open("other", sealed)


def test_marks_of_secrets_need_the_key_and_others_do_not() -> None:
    one, same, other = Sealer(KEY.hex(), SALT), Sealer(KEY.hex(), SALT), Sealer("", SALT)
    assert one.mark(b"a", b"b", is_secret=True) == same.mark(b"a", b"b", is_secret=True)
    assert one.mark(b"a", b"b", is_secret=True) != other.mark(b"a", b"b", is_secret=True)
    assert one.mark(b"a", b"b", is_secret=False) == other.mark(b"a", b"b", is_secret=False)
    assert one.mark(b"ab", b"", is_secret=True) != one.mark(b"a", b"b", is_secret=True)
