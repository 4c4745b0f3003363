"""An issuer of tokens for tests: its keys, its tokens, and a server of its key set."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "https://management.azure.com"


@cache
def rsa_key(name: str = "", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of this name; making one takes a while."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str, **more: str) -> dict[str, Any]:
    """The public part as an entry of a key set."""
    if isinstance(key, rsa.RSAPrivateKey):
        entry = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        entry = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**{name: value for name, value in entry.items() if name != "key_ops"}, "kid": kid, **more}


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """The claims of a good token, with changes; None removes a claim."""
    now = int(time.time())
    said = {"iss": issuer, "aud": AUDIENCE, "nbf": now - 10, "exp": now + 3600, "sub": "the-sub"}
    said.update(changes)
    return {name: value for name, value in said.items() if value is not None}


def sign(said: dict[str, Any], key: Any = None, kid: str | None = "k1", algorithm: str = "RS256") -> str:
    headers = {"kid": kid} if kid is not None else None
    return jwt.encode(said, key or rsa_key(), algorithm, headers=headers)


def raw(header: dict[str, Any], said: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no issuer should make."""
    parts = (json.dumps(header).encode(), json.dumps(said).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class KeyServer:
    """Serves an OpenID configuration and a key set; records the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [public(rsa_key(), "k1")]
        self.configuration: dict[str, Any] = {}
        self.asked: list[str] = []
        self.status = 200
        self.body: bytes | None = None
        self.location = ""
        self.hold: asyncio.Event | None = None  # nothing is answered before
        self.waiting = asyncio.Event()  # for `hold`

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.hold is not None:
            self.waiting.set()
            await self.hold.wait()
        if self.location:
            return web.Response(status=302, headers={"Location": self.location})
        if request.path.endswith("openid-configuration"):
            said = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.configuration}
            return web.json_response(said)
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body, content_type="application/json")

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[KeyServer]:
        """Served on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()
