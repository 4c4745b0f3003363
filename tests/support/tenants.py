"""An import service with principals, and imports as one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.process import READY_TIMEOUT_S, wait_until
from support.service import GROUP, SUBSCRIPTION, Service, registry_path, start_service

Roles = list[tuple[list[str], list[str]]]  # actions, registries


def start_tenants(
    folder: Path,
    closing: ExitStack,
    entries: Mapping[str, Mapping[str, Any]],
    principals: Mapping[str, Roles],
    *,
    hosts: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> Service:
    """Start a service whose inventory has `entries` by name. The token of NAME is `token_of(NAME)`."""
    place = {"subscription": SUBSCRIPTION, "resource_group": GROUP}
    inventory = {
        "registries": [{"name": name, **place, **entry} for name, entry in entries.items()],
        "hosts": dict(hosts or {}),
    }
    if principals:
        settings["identity"] = {
            "tokens": [
                {"name": name, "sha256": hashlib.sha256(token_of(name).encode()).hexdigest()}
                for name in principals
            ]
        }
        settings["principals"] = [
            {"id": name, "roles": [{"actions": actions, "registries": where} for actions, where in roles]}
            for name, roles in principals.items()
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(json.dumps(settings))
    service = start_service(folder, inventory, "--config", folder / "settings.yaml", environment=environment)
    closing.callback(lambda: service.process.stop())
    return service


def token_of(name: str) -> str:
    """The token of the principal."""
    return f"{name}-" * 8


def as_principal(name: str) -> dict[str, str]:
    """The header of the principal; none for an anonymous request."""
    return {"Authorization": f"Bearer {token_of(name)}"} if name else {}


def post_import(
    service: Service, target: str, source: Mapping[str, Any], *, who: str = "", **more: Any
) -> tuple[int, dict[str, str], Any]:
    """Request an import."""
    body = {"source": {"sourceImage": "app:v1", **source}, "targetTags": ["copy:v1"], "mode": "Force", **more}
    return service.ask("POST", registry_path(target, "importImage"), body, as_principal(who))


def outcome(
    service: Service, answer: tuple[int, dict[str, str], Any], who: str = "", wait_s: float = READY_TIMEOUT_S
) -> tuple[int, str]:
    """Status and error code at the end of an import, or those of the refused request."""
    status, headers, body = answer
    if status == 202:
        polled: list[tuple[int, Any]] = []

        def has_ended() -> bool:
            status, _, body = service.ask("GET", headers["location"], headers=as_principal(who))
            polled.append((status, body))
            return status != 202

        wait_until(has_ended, "the end of the import", wait_s)
        status, body = polled[-1]
    return status, body.get("error", {}).get("code", "")
