"""zot on a free loopback port. It is opt-in: its build takes minutes, and not every module proxy has it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.process import RIVALS, ServerProcess, free_port, listening
from support.push import Remote


def find_zot() -> str:
    """The path of zot: of ``rivals/``, or on PATH. Missing: a skip, in CI as well."""
    found = shutil.which("zot", path=f"{RIVALS}:{os.environ.get('PATH', os.defpath)}")
    if found is None:
        pytest.skip("zot is opt-in: scripts/rivals zot builds it")
    return found


@dataclass
class Zot:
    """A running zot. ``host`` is the registry part of references."""

    port: int
    process: ServerProcess

    @property
    def host(self) -> str:
        """``host:port`` as references have it."""
        return f"127.0.0.1:{self.port}"

    @property
    def remote(self) -> Remote:
        """A client of the suite's own."""
        return Remote(self.host)

    def stop(self) -> None:
        """End the server."""
        self.process.stop()


def start_zot(directory: Path) -> Zot:
    """Start one with an empty storage below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(directory / "data"), "gc": False},
        "http": {"address": "127.0.0.1", "port": str(port), "compat": ["docker2s2"]},
        "log": {"level": "info"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    process = ServerProcess(
        f"zot :{port}",
        [find_zot(), "serve", str(directory / "config.json")],
        directory / "log",
        lambda: listening(port),
    )
    return Zot(port, process)
