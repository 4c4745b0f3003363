"""The real az with its own home folder, logged in to the service's development cloud."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.command import Finished
from support.documentation import SECRETS, fill
from support.images import Graph
from support.process import find_az, require


@dataclass
class Az:
    """A shell whose ``az`` is the real one."""

    home: Path
    bundle: Path  # the certificates that it trusts
    environment: dict[str, str]
    secrets: tuple[str, ...] = SECRETS

    def run(self, text: str, graph: Graph | None = None, **environment: str) -> Finished:
        """Run the text. No secret appears in the output."""
        text = fill(text, graph)
        done = subprocess.run(
            [require("bash"), "-c", text],
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert not [secret for secret in self.secrets if secret in done.stdout + done.stderr]
        return Finished((text,), done.returncode, done.stdout, done.stderr)

    def ok(self, text: str, graph: Graph | None = None) -> str:
        """Run a command that must succeed; its stdout."""
        done = self.run(text, graph)
        assert done.code == 0, done
        return done.stdout

    def json(self, text: str) -> Any:
        """Run a command that must succeed and print JSON."""
        return json.loads(self.ok(text))

    def fail(self, text: str, *naming: str, code: int = 1) -> str:
        """Run a command that must fail with `code` and all of `naming` on stderr; the stderr."""
        done = self.run(text)
        assert done.code == code, done
        assert done.stdout == "", done
        missing = [each for each in naming if each not in done.stderr]
        assert not missing, (missing, done.stderr)
        return done.stderr


def make_az(home: Path, ca: Path) -> Az:
    """A fresh az, which trusts the certificates in `ca` and nothing else."""
    home.mkdir()
    environment = {
        "PATH": f"{Path(find_az()).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "AZURE_CONFIG_DIR": str(home / "azure"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_NO_COLOR": "yes",
        "AZURE_CORE_SURVEY_MESSAGE": "no",
        "REQUESTS_CA_BUNDLE": str(ca),
    }
    return Az(home, ca, environment)


def log_in(az: Az, info: Mapping[str, Any]) -> None:
    """Log in as a user of the development cloud, with its ``--dev-info``."""
    az.secrets = (*az.secrets, info["identity_header"])
    az.ok(f"az cloud register -n local --endpoint-resource-manager {info['arm']}")
    az.ok("az cloud set -n local")
    who = f"-u {info['client_id']} -p {info['client_secret']} --tenant {info['tenant']}"
    az.ok(f"az login --service-principal {who} -o none")
    az.secrets = (*az.secrets, info["client_secret"])
