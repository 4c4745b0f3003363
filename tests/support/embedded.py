"""``crossdock registry`` as a child process, plain or with a certificate of a private authority."""

from __future__ import annotations

import json
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from support.command import MODULE
from support.process import ServerProcess, free_port, listening
from support.push import Remote


@dataclass(frozen=True)
class Embedded:
    """A running embedded registry. ``host`` is the registry part of references."""

    host: str
    root: Path
    process: ServerProcess
    ca_file: Path | None = None  # of the authority, when it speaks TLS
    users_file: Path | None = None  # read anew when it changes

    @property
    def remote(self) -> Remote:
        """A client of the suite's own."""
        return Remote(self.host, ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None)


def start_embedded(
    folder: Path,
    root: Path,
    closing: ExitStack,
    *,
    tls: bool = False,
    users: dict[str, Any] | None = None,
) -> Embedded:
    """Serve `root` on loopback until `closing` ends; logs and certificates go to `folder`.

    `users` is the document of ``--users``; without it all may do everything.
    """
    port = free_port()
    words = [*MODULE, "registry", "--root", str(root), "--listen", f"127.0.0.1:{port}"]
    users_file = ca_file = None
    if users is not None:
        users_file = folder / f"users-{port}.json"
        users_file.write_text(json.dumps(users))
        words += ["--users", str(users_file)]
    if tls:
        authority, ca_file = trustme.CA(), folder / f"ca-{port}.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        leaf, both = (
            authority.issue_cert("localhost", "127.0.0.1", "*.azurecr.io"),
            folder / f"server-{port}.pem",
        )
        leaf.private_key_and_cert_chain_pem.write_to_path(str(both))
        words += ["--cert", str(both)]
    log = folder / f"log-{port}"
    server = ServerProcess(f"crossdock registry :{port}", words, log, lambda: listening(port))
    closing.callback(server.stop)
    return Embedded(f"{'localhost' if tls else '127.0.0.1'}:{port}", root, server, ca_file, users_file)
