"""A running ``crossdock serve --dev``, and its logins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from azure.identity import ClientSecretCredential

from support.command import MODULE
from support.process import ServerProcess, free_port
from support.service import Service


class DevService(Service):
    """The service, with the contents of ``--dev-info``."""

    info: dict[str, Any]
    port: int

    def credential(self) -> ClientSecretCredential:
        """The application's, by its secret."""
        return ClientSecretCredential(
            self.info["tenant"],
            self.info["client_id"],
            self.info["client_secret"],
            authority=self.info["arm"],
            disable_instance_discovery=True,
            connection_verify=str(self.ca),
        )

    def token(self, resource: str = "https://management.azure.com") -> str:
        """An access token of the application, by a plain form."""
        form = (
            f"grant_type=client_credentials&client_id={self.info['client_id']}"
            f"&client_secret={self.info['client_secret']}&scope={resource}/.default"
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        path = f"/{self.info['tenant']}/oauth2/v2.0/token"
        status, _, answer = self.ask("POST", path, form.encode(), headers)
        assert status == 200, answer
        token: str = answer["access_token"]
        return token


def start_devcloud(
    folder: Path,
    inventory: Mapping[str, Any],
    closing: ExitStack,
    settings: Mapping[str, Any] | None = None,
    *,
    port: int = 0,
) -> DevService:
    """Serve until `closing` ends, on a free port unless one is given, with its state in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info.json").unlink(missing_ok=True)
    port = port or free_port()
    (folder / "inventory.yaml").write_text(json.dumps(inventory))
    info = folder / "info.json"
    command = [
        *(*MODULE, "serve", "--dev", "--dev-info", str(info), "--inventory", str(folder / "inventory.yaml")),
        *("--listen", f"127.0.0.1:{port}", "--state", str(folder / "state")),
    ]
    if settings is not None:
        (folder / "settings.yaml").write_text(json.dumps(settings))
        command += ["--config", str(folder / "settings.yaml")]
    log = folder / "service.log"

    def start() -> ServerProcess:
        process = ServerProcess("crossdock serve --dev", command, log, info.exists, {"HOME": str(folder)})
        closing.callback(process.stop)
        return process

    process = start()
    said = json.loads(info.read_text())
    started = DevService(said["arm"], Path(said["ca"]), process, log, start)
    started.info, started.port = said, port
    return started
