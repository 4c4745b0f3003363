"""Against Debian's docker-registry: htpasswd, and tokens of our own service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crossdock.errors import NotFound, Unauthorized
from crossdock.options import Credentials
from crossdock.registry.client import NONE, Scope
from crossdock_testing.tokens import ANONYMOUS, TokenServer
from support.docker_registry import htpasswd_file, start_docker_registry
from unit.registry.http.scripted import ClientUnderTest

pytestmark = pytest.mark.real

BOB = Credentials("bob", "s3cret-pw")


async def test_htpasswd(tmp_path: Path) -> None:
    path = htpasswd_file(tmp_path / "htpasswd", "bob", "s3cret-pw")
    registry = start_docker_registry(tmp_path / "r", auth={"htpasswd": {"realm": "r", "path": str(path)}})
    try:
        async with ClientUnderTest(registry.host, credentials=BOB) as client:
            assert (await client.request("GET", "/v2/", scope=NONE)).body == b"{}"
            with pytest.raises(NotFound, match="404 MANIFEST_UNKNOWN: manifest unknown"):
                await client.request("GET", "/v2/x/manifests/1", scope=Scope.pull("x"))
        for wrong in (None, Credentials("bob", "wrong")):
            async with ClientUnderTest(registry.host, credentials=wrong) as client:
                with pytest.raises(Unauthorized, match="401 UNAUTHORIZED: authentication required"):
                    await client.request("GET", "/v2/", scope=NONE)
    finally:
        registry.stop()


@pytest.mark.parametrize("credentials", [BOB, Credentials(identity_token="s3cret-it")])
async def test_tokens(tmp_path: Path, credentials: Credentials) -> None:
    with TokenServer(
        users={"bob": "s3cret-pw"},
        identity_tokens={"s3cret-it": "bob"},
        rights={"bob": {"x": ("pull", "push")}, ANONYMOUS: {"public": ("pull",)}},
    ) as tokens:
        registry = start_docker_registry(tmp_path / "r", auth=tokens.registry_auth(tmp_path))
        try:
            async with ClientUnderTest(registry.host, credentials=credentials) as client:
                opened = await client.request(
                    "POST", "/v2/x/blobs/uploads/", scope=Scope.push("x"), body=b"", ok=(202,)
                )
                assert opened.headers["Location"].startswith(f"http://{registry.host}/v2/x/blobs/uploads/")
                with pytest.raises(Unauthorized):
                    await client.request("GET", "/v2/y/tags/list", scope=Scope.pull("y"))
            async with ClientUnderTest(registry.host) as client:
                with pytest.raises(NotFound):
                    await client.request("GET", "/v2/public/manifests/1", scope=Scope.pull("public"))
                with pytest.raises(Unauthorized):
                    await client.request("GET", "/v2/x/manifests/1", scope=Scope.pull("x"))
        finally:
            registry.stop()


async def test_a_token_that_the_registry_calls_expired_is_replaced(tmp_path: Path) -> None:
    # The service promises five minutes and means two seconds, so the client learns of the end by a 401.
    with TokenServer(users={"bob": "s3cret-pw"}, lifetime_s=2, announced_s=300) as tokens:
        registry = start_docker_registry(tmp_path / "r", auth=tokens.registry_auth(tmp_path))
        try:
            async with ClientUnderTest(registry.host, credentials=BOB) as client:
                refused = 0
                async with asyncio.timeout(60):
                    while len(tokens.requests) < 3:
                        with pytest.raises(NotFound):
                            await client.request("GET", "/v2/x/manifests/1", scope=Scope.pull("x"))
                        refused = sum(access.status == 401 for access in registry.accesses())
                        await asyncio.sleep(0.05)
                assert refused == 3
                assert client.retried == []
        finally:
            registry.stop()
