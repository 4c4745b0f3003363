"""Servers as child processes: started, awaited, stopped by their own pid."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

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


def cpu_of(pid: int) -> float:
    """User and system seconds so far; proc(5), fields 14 and 15 of ``stat``."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children() -> float:
    """User and system seconds of all children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(pid: int, field: str = "VmRSS") -> int:
    """Resident bytes, or with ``VmHWM`` their peak; proc(5). 0 for a process that has ended (a zombie)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


class Server:
    """A process that listens on `port`; its output goes to the file `log`. It inherits `descriptors`.

    In a ``with`` block it is stopped at the end.
    """

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
        """The process's peak memory in bytes."""
        return memory_of(self._process.pid, "VmHWM")

    def ask(self, path: str) -> Any:
        """The JSON document that it serves at `path`."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, first with SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
