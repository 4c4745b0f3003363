"""Fuzz targets for tokens of unknown senders, documents of issuers, and files of operators.

`wire` describes what a target is.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

from crossdock.errors import InvalidInput
from crossdock.inventory.read import parse_inventory
from crossdock.service.config import parse_settings
from crossdock.service.identity.tokens import principal_of
from crossdock.webtokens.keys import read_keys
from crossdock.webtokens.values import Issuer, TokenRefused
from crossdock.webtokens.verify import Verifier
from support.webtokens import AUDIENCE, claims, public, rsa_key, sign

ISSUER = "https://login.example.com/T"
GOOD = claims(ISSUER, exp=1 << 40)
KNOWN = Issuer(issuer=ISSUER, audiences=(AUDIENCE,), keys={"keys": [public(rsa_key(), "k1")]})


def encoded(*parts: bytes) -> bytes:
    """A token of three parts as they are."""
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def token(data: bytes) -> None:
    """A token, complete or as ``HEADER.CLAIMS``: unsigned tokens are refused."""
    header, _, said = data.partition(b"\n")
    for text in (data, encoded(header, said, b"signature")):
        try:
            found = asyncio.run(Verifier([KNOWN]).claims(text.decode("utf-8", "surrogateescape")))
        except TokenRefused as refused:
            assert str(refused).isprintable()
            assert len(str(refused)) < 1000
            continue
        assert found == GOOD
        assert text.strip() == TOKEN


TOKEN = sign(GOOD).encode()


def signed_claims(data: bytes) -> None:
    """Claims that were signed may still be anything."""
    try:
        said = json.loads(data)
        text = sign({**said, "iss": ISSUER})
    except (ValueError, TypeError, RecursionError):
        return
    try:
        principal = principal_of(asyncio.run(Verifier([KNOWN]).claims(text)))
    except TokenRefused as refused:
        assert str(refused).isprintable()
        return
    assert principal.id
    assert all(each.isprintable() for each in (principal.id, principal.name, principal.tenant))


def key_set(data: bytes) -> None:
    """A key set: keys that can be used, or none."""
    try:
        found = read_keys(json.loads(data))
    except (ValueError, RecursionError):
        return
    assert all(key.kind in ("RSA", "EC") for key in found)


def settings(data: bytes) -> None:
    """A settings file, and an inventory: every mistake has its line."""
    for parse in (parse_settings, parse_inventory):
        try:
            parse(data, "FILE", Path("/"))
        except InvalidInput as error:
            assert str(error).startswith("FILE:")
