"""Servers as child processes: started, awaited, stopped by their own pid."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
READY_S = 20.0
STOP_S = 10.0

# `make rivals` fills the first folder; nginx is in sbin.
SEARCH_PATH = os.pathsep.join(
    [str(ROOT / "rivals"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
)


def find(program: str) -> str | None:
    """The path of `program`, in rivals/, PATH or sbin."""
    return shutil.which(program, path=SEARCH_PATH)


def need(program: str, hint: str) -> str:
    """As `find`. Raises SystemExit with `hint` if it is not found."""
    path = find(program)
    if path is None:
        raise SystemExit(f"benchmarks: {program} is missing: {hint}")
    return path


def free_port() -> int:
    """A free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process that listens on `port`; its output goes to the file `log`. It inherits `descriptors`."""

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        log: Path,
        environ: Mapping[str, str] | None = None,
        *descriptors: int,
    ) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=log.parent,
                pass_fds=descriptors,
                env={"PATH": SEARCH_PATH, "OTEL_TRACES_EXPORTER": "none", **(environ or {})},
            )
        self._program = argv[0]
        self.wait()

    def wait(self) -> None:
        """Wait until it listens. Raises RuntimeError with the end of its log if it does not."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        self.stop()
        raise RuntimeError(
            f"{self._program} does not listen on {self.port}: {self.log.read_text(errors='replace')[-2000:]}"
        )

    def peak_rss(self) -> int:
        """The process's peak memory in bytes; proc(5), VmHWM."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def stop(self) -> None:
        """End the process, first with SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
