"""Tokens of identity providers at the embedded registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.webtokens import AUDIENCE, KeyServer, claims, rsa_key, sign
from unit.embedded.test_acr_access import USERS, Guarded, write
from unit.embedded.test_registry_server import running


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


REGISTRY = "https://containerregistry.azure.net"


async def test_tokens_of_an_identity_provider_are_exchanged(users: Path, tmp_path: Path) -> None:
    async with KeyServer().running() as server:
        issuer = {"issuer": server.url, "scopes": ["repository:team/*:pull,metadata_read"]}
        write(users, json.dumps({**USERS, "issuers": [issuer]}))
        async with running(tmp_path / "root", users=users) as served:
            guarded = Guarded(served)

            async def exchange(token: str) -> tuple[int, Any]:
                return await guarded.post(
                    "/oauth2/exchange", grant_type="access_token", tenant="T", access_token=token
                )

            async def access(scope: str) -> str:
                status, answer = await guarded.post(
                    "/oauth2/token", grant_type="refresh_token", scope=scope, refresh_token=refresh
                )
                assert status == 200, answer
                token: str = answer["access_token"]
                return token

            status, answer = await exchange(sign(claims(server.url, aud=REGISTRY, sub="admin")))
            assert status == 200
            refresh = answer["refresh_token"]
            token = await access("repository:team/app:pull,push")
            status, _, _ = await guarded.get("/v2/team/app/tags/list", f"Bearer {token}")
            assert status == 404  # let in: there is no such repository
            status, challenge, _ = await guarded.get("/v2/other/tags/list", f"Bearer {token}")
            assert (status, "insufficient_scope" in challenge) == (401, True)
            status, challenge, _ = await guarded.get(
                "/v2/_catalog", f"Bearer {await access('registry:catalog:*')}"
            )
            assert (status, "insufficient_scope" in challenge) == (401, True)

            for changes, words in (
                ({"aud": AUDIENCE}, "wrong audience"),
                ({"aud": REGISTRY, "exp": 1}, "expiry"),
                ({"aud": REGISTRY, "iss": "https://evil.example"}, "wrong issuer"),
                ({"aud": REGISTRY, "sub": None}, "neither oid nor sub"),
            ):
                status, answer = await exchange(sign(claims(server.url, **changes)))
                assert (status, words in str(answer)) == (401, True), answer
            status, answer = await exchange(sign(claims(server.url, aud=REGISTRY), rsa_key("theirs")))
            assert (status, "signature" in str(answer)) == (401, True)
            status, _ = await exchange("s3cret-entra")
            assert status == 200

            write(users, json.dumps(USERS))  # the provider no longer counts, nor what it let in
            status, _ = await guarded.post(
                "/oauth2/token", grant_type="refresh_token", scope="x:y:z", refresh_token=refresh
            )
            assert status == 401


async def test_no_login_succeeds_while_the_identity_provider_is_down(users: Path, tmp_path: Path) -> None:
    async with KeyServer().running() as server:
        server.status = 500
        write(users, json.dumps({"issuers": [{"issuer": server.url, "scopes": ["repository:*:*"]}]}))
        async with running(tmp_path / "root", users=users) as served:
            token = sign(claims(server.url, aud=REGISTRY))
            status, answer = await Guarded(served).post(
                "/oauth2/exchange", grant_type="access_token", access_token=token
            )
    assert status == 503
    assert token not in str(answer)
