"""az's own login is given up where it is refused, but not for a question that is optional."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

from crossdock.options import RegistryOptions
from crossdock.registry.client import RegistryClient
from crossdock.registry.context import Context
from crossdock.registry.repository import RegistryRepository
from unit.registry.conftest import HastyClock
from unit.registry.listings.served import document
from unit.registry.scripted_registry import Answer, PatientNetwork, ScriptedRegistry, Seen

HOST = "myregistry.azurecr.io"


async def test_a_login_without_a_right_to_the_list_still_pulls(
    server: ScriptedRegistry, tmp_path: Path
) -> None:
    az = tmp_path / "az"
    az.write_text(f"#!/bin/sh\necho '{json.dumps({'accessToken': 'of az'})}'\n")
    az.chmod(0o755)
    scopes: list[str] = []

    async def answer(seen: Seen) -> Answer:
        form = parse_qs((await seen.read()).decode())
        if seen.path == "/oauth2/exchange":
            return document({"refresh_token": "refresh"})
        if seen.path == "/oauth2/token":
            scopes.extend(form.get("scope", []))
            if "metadata_read" in scopes[-1]:
                return Answer(401, {}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
            return document({"access_token": "token"})
        if seen.headers.get("authorization") != "Bearer token":
            challenge = f'Bearer realm="http://{HOST}/oauth2/token",service="{HOST}"'
            return Answer(401, {"WWW-Authenticate": challenge})
        return document({"name": "x", "tags": ["v1"]})

    server.handler = answer
    context = Context(
        network=PatientNetwork(retries=0),
        environ={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        clock=HastyClock(),
        served_at=lambda name, port: ("127.0.0.1", server.port) if name == HOST else None,
    )
    client = RegistryClient(HOST, "source", RegistryOptions(plain_http=True, az_login="last"), context)
    try:
        repository = RegistryRepository(client, f"{HOST}/x")
        assert await repository.list_manifests() is None
        assert await repository.tags() == ["v1"]
    finally:
        await client.close()
    assert scopes == ["repository:x:metadata_read", "repository:x:pull"]
