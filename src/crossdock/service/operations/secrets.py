"""Credentials of open imports: encrypted in the store, or only in memory without a key.

AES-256-GCM with a random nonce, bound to the import's id. The key is 32 bytes in base64 or hexadecimal, or is
derived by scrypt from a passphrase with the salt of the state folder. It also keys the hashes of equal
requests, because an unkeyed hash would let a reader of the store guess passwords.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from crossdock.acr.request import SourceCredentials
from crossdock.errors import Advice, CredentialsLost, InvalidOption

KEY_BYTES = 32
SHORTEST_PASSPHRASE = 20  # characters
MAX_KEY_FILE = 4096  # bytes
_NONCE = 12
_FORBIDDEN = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO  # a group may read: systemd and Kubernetes need it
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": KEY_BYTES}
_POST_AGAIN = "post the import again, with its credentials"


def read_key(key_file: Path | None, key_env: str, environ: Mapping[str, str]) -> str:
    """The key's text; empty when none is set. Blocks.

    Raises `InvalidOption` for a file that cannot be read, does not hold a key, or is accessible to others.
    """
    if key_file is not None:
        place = f"key_file {key_file}"
        try:
            with key_file.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_KEY_FILE + 1)
        except OSError as error:
            raise InvalidOption(f"{place} cannot be read: {error.strerror}") from None
        if mode & _FORBIDDEN:
            raise InvalidOption(
                f"{place} has the mode {stat.S_IMODE(mode):o}: others can read or change it",
                advice=Advice("correct-file", f"chmod 600 {key_file}"),
            )
        try:
            text = data.decode() if len(data) <= MAX_KEY_FILE else ""
        except UnicodeDecodeError:
            text = ""
    elif key_env:
        place, text = f"key_env {key_env}", environ.get(key_env, "")
    else:
        return ""
    text = text.strip()
    if not (_key_bytes(text) or len(text) >= SHORTEST_PASSPHRASE):
        raise InvalidOption(
            f"{place} does not hold a key: 32 bytes in base64 or hexadecimal, or a passphrase of"
            f" at least {SHORTEST_PASSPHRASE} characters",
            advice=Advice("correct-file", "make one with: openssl rand -base64 32"),
        )
    return text


class Sealer:
    """Encrypts credentials and hashes equal requests. ``repr`` does not show the key."""

    def __init__(self, key: str, salt: bytes) -> None:
        """`key` is from `read_key`; `salt` belongs to the state folder. Takes 0.1 s for a passphrase."""
        self.keeps = bool(key)
        """Whether another process with the same key can decrypt what this one encrypts."""
        master = os.urandom(KEY_BYTES)
        if key:
            master = _key_bytes(key) or hashlib.scrypt(key.encode(), salt=salt, **_SCRYPT)
        self._key = hmac.digest(master, b"credentials" + salt, "sha256")
        self._marking = hmac.digest(master, b"requests" + salt, "sha256")

    def seal(self, operation_id: str, credentials: SourceCredentials) -> bytes | None:
        """The encrypted credentials for the disk; None without a key."""
        if not self.keeps:
            return None
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE)
        plain = msgspec.json.encode(credentials)
        return nonce + AESGCM(self._key).encrypt(nonce, plain, operation_id.encode())

    def open(self, operation_id: str, sealed: bytes | None) -> SourceCredentials:
        """The credentials. Raises `CredentialsLost`, with advice to operator and caller."""
        if sealed is None:
            raise CredentialsLost(
                "the service was restarted and had no key to keep the credentials of this import",
                advice=Advice(
                    "post-again",
                    f"{_POST_AGAIN}; the operator can set key_file, so that credentials survive a restart",
                ),
            )
        if not self.keeps:
            raise CredentialsLost(
                "the service was restarted without the key of this import's credentials",
                advice=Advice("post-again", _POST_AGAIN),
            )
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            plain = AESGCM(self._key).decrypt(sealed[:_NONCE], sealed[_NONCE:], operation_id.encode())
        except (InvalidTag, ValueError):  # ValueError: truncated
            raise CredentialsLost(
                "the service was restarted with another key than the one of this import's credentials",
                advice=Advice("post-again", _POST_AGAIN),
            ) from None
        return msgspec.json.decode(plain, type=SourceCredentials)

    def mark(self, *parts: bytes, is_secret: bool) -> bytes:
        """32 bytes, the same for equal parts; `is_secret`: keyed, so that the parts cannot be guessed."""
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._marking, text, "sha256") if is_secret else hashlib.sha256(text).digest()


def _key_bytes(text: str) -> bytes:
    """The 32 bytes that `text` encodes; empty for anything else."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    try:
        found = base64.b64decode(
            text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == KEY_BYTES else b""
