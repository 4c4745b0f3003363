"""A running ``crossdock serve``."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from support.command import MODULE
from support.process import ServerProcess, free_port, listening

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "MyResourceGroup"


@dataclass
class Service:
    """The service: its URL, its CA and its process."""

    url: str
    ca: Path
    process: ServerProcess
    log: Path
    start: Callable[[], ServerProcess]

    def restart(self) -> None:
        """Start it again where it was, after it has ended."""
        self.process = self.start()

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers in lower case and JSON of one request; `path` may be a whole URL."""
        url = path if "://" in path else f"{self.url}{path}"
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
        if data is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            answer, content = error, error.read()
            error.close()
        got = {name.lower(): value for name, value in answer.headers.items()}
        is_json = got.get("content-type", "").startswith("application/json")
        return answer.status, got, json.loads(content) if is_json and content else content


def registry_path(name: str, action: str = "", subscription: str = SUBSCRIPTION, group: str = GROUP) -> str:
    """The ARM path of a registry, or of an action on it."""
    path = (
        f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry"
        f"/registries/{name}"
    )
    return f"{path}/{action}" if action else path


def start_service(
    folder: Path,
    inventory: Mapping[str, Any],
    *words: str | Path,
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Start ``crossdock serve`` with this inventory over TLS; its CA is made here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inventory.yaml").write_text(json.dumps(inventory))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    port = free_port()
    command = [
        *MODULE,
        "serve",
        *("--inventory", str(folder / "inventory.yaml")),
        *("--listen", f"127.0.0.1:{port}"),
        *("--cert", str(folder / "server.pem")),
        *("--state", str(folder / "state")),
        *map(str, words),
    ]
    log = folder / "service.log"

    def start() -> ServerProcess:
        home = {"HOME": str(folder), **(environment or {})}
        return ServerProcess("crossdock serve", command, log, lambda: listening(port), home)

    return Service(f"https://127.0.0.1:{port}", folder / "ca.pem", start(), log, start)


def start_dev_service(
    folder: Path,
    inventory: Mapping[str, Any],
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Service:
    """Start ``crossdock serve --dev``; ``info.json`` in `folder` has the login data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inventory.yaml").write_text(json.dumps(inventory))
    (folder / "settings.yaml").write_text(json.dumps(settings))
    info, log = folder / "info.json", folder / "service.log"
    command = [
        *(*MODULE, "serve", "--dev", "--dev-info", str(info)),
        *("--inventory", str(folder / "inventory.yaml")),
        *("--config", str(folder / "settings.yaml")),
        *("--listen", f"localhost:{free_port()}"),
        *("--state", str(folder / "state")),
    ]

    def start() -> ServerProcess:
        home = {"HOME": str(folder), **environment}
        info.unlink(missing_ok=True)  # of one before
        return ServerProcess("crossdock serve --dev", command, log, info.exists, home)

    process = start()
    said = json.loads(info.read_text())
    return Service(said["arm"], Path(said["ca"]), process, log, start)
