"""Debian's docker-registry 2.8.2 on a free loopback port, configured per test."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.process import SETTLING, ServerProcess, free_port, listening, require, settle
from support.push import Remote

_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<size>\d+)')


@dataclass(frozen=True)
class Access:
    """One line of the access log."""

    method: str
    path: str
    status: int
    size: int  # bytes of the response's body


def htpasswd_file(path: Path, user: str, password: str) -> Path:
    """Write a bcrypt htpasswd file for one user. Cheap rounds: docker-registry checks it on every request."""
    made = subprocess.run(
        [require("htpasswd"), "-BbnC", "4", user, password],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    path.write_text(made.stdout)
    return path


@dataclass
class DockerRegistry:
    """A running docker-registry. ``host`` is the registry part of references."""

    directory: Path
    port: int
    process: ServerProcess
    tls: ssl.SSLContext | None = None  # for `remote`
    basic: str = ""  # user:password for `remote`
    bearer: Callable[[], str] = field(default=lambda: "")  # an all-powerful token for `remote`
    hostname: str = "127.0.0.1"

    @property
    def host(self) -> str:
        """``host:port`` as references have it."""
        return f"{self.hostname}:{self.port}"

    @property
    def remote(self) -> Remote:
        """A client of the suite's own."""
        return Remote(self.host, self.tls, self.basic, self.bearer())

    @property
    def storage(self) -> Path:
        """Root of the blob and repository trees on disk."""
        return self.directory / "data" / "docker" / "registry" / "v2"

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps the blob's bytes."""
        algorithm, encoded = digest.split(":")
        return self.storage / "blobs" / algorithm / encoded[:2] / encoded / "data"

    def _settle(self) -> None:
        settle(self.process.log, lambda path: self.remote.request("GET", path).status)

    def accesses(self, since: int = 0) -> list[Access]:
        """Every finished request in the access log, from the line number `since` (see `mark`) on."""
        self._settle()
        lines = self.process.log.read_text(errors="replace").splitlines()[since:]
        return [
            Access(match["method"], match["path"], int(match["status"]), int(match["size"]))
            for match in map(_ACCESS.search, lines)
            if match and SETTLING not in match["path"]
        ]

    def mark(self) -> int:
        """The present end of the log, for `accesses`."""
        self._settle()
        return len(self.process.log.read_text(errors="replace").splitlines())

    def uploads_begun(self, since: int = 0) -> int:
        """How many upload sessions were requested (mounts included)."""
        return sum(a.method == "POST" and "/blobs/uploads/" in a.path for a in self.accesses(since))

    def upload_sessions(self) -> list[str]:
        """Upload sessions that are open, as paths under `storage`."""
        # A cancelled session leaves a directory with a hash state behind (2.8.2).
        found = self.storage.glob("repositories/**/_uploads/*/startedat")
        return sorted(str(path.parent.relative_to(self.storage)) for path in found)

    def forgotten_sessions(self, repository: str) -> list[str]:
        """Upload sessions of the repository that are open and were not deleted.

        2.8.2 answers 404 to the DELETE of a session that was cut in mid-request (its signed ``_state`` no
        longer fits) and keeps the files: a client can do no more than try.
        """
        deletes = [access.path for access in self.accesses() if access.method == "DELETE"]
        return [
            session
            for session in self.upload_sessions()
            if f"/{repository}/_uploads/" in session
            and not any(session.rpartition("/")[2] in path for path in deletes)
        ]

    def stop(self) -> None:
        """End the server. Its data stays."""
        self.process.stop()


def start_docker_registry(
    directory: Path,
    *,
    http: dict[str, Any] | None = None,
    auth: dict[str, Any] | None = None,
    validation: dict[str, Any] | None = None,
    address: str = "127.0.0.1",
    program: str | None = None,
    **remote: Any,
) -> DockerRegistry:
    """Start with deletion allowed and the access log on; `http`, `auth` and `validation` join its config.

    `program` is another version than Debian's.
    """
    program = program or require("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port(address)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"{address}:{port}", "secret": "of no importance", **(http or {})},
    }
    if auth:
        config["auth"] = auth
    if validation:
        config["validation"] = validation
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    process = ServerProcess(
        f"docker-registry :{port}",
        [program, "serve", str(directory / "config.yml")],
        directory / "log",
        lambda: listening(port, address),
    )
    return DockerRegistry(directory, port, process, **remote)
