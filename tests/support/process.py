"""Child processes of the suite: tools that must exist, free ports, servers that start, log and stop."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

SETTLING = "/v2/settling-"  # requests of `settle`; no test counts them

_ROOT = Path(__file__).parents[2]
RIVALS = _ROOT / "rivals"

PACKAGE_OF = {
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "nginx": "nginx-light",
    "umoci": "umoci",
    "chromium": "chromium",
    "htpasswd": "apache2-utils",
    "unshare": "util-linux",
    "prlimit": "util-linux",
}


def require(tool: str) -> str:
    """The tool's path. Missing: a failure in CI, elsewhere a skip whose reason names the Debian package."""
    found = shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is not None:
        return found
    _missing(f"{tool} is not installed: apt-get install {PACKAGE_OF.get(tool, tool)}")


def find_distribution() -> str:
    """The path of distribution 3: of ``rivals/``, or on PATH. Missing: as for `require`."""
    found = shutil.which("registry", path=f"{RIVALS}:{os.environ.get('PATH', os.defpath)}")
    return found or _missing("distribution 3 is not here: scripts/rivals registry builds it")


def find_crane() -> str:
    """The path of crane: of ``rivals/``, or on PATH. Missing: as for `require`."""
    found = shutil.which("crane", path=f"{RIVALS}:{os.environ.get('PATH', os.defpath)}")
    return found or _missing("crane is not here: scripts/rivals crane builds it")


def find_az() -> str:
    """The path of the real az. Missing: as for `require`."""
    found = _ROOT / ".az/bin/az"
    return str(found) if found.exists() else _missing("az is not here: scripts/az installs it")


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


# Below the ports that Linux and Debian give to clients (ip_local_port_range begins at 32768): a connection of
# another test would take one of those between its choice and its use.
_PORTS = range(10_000, 32_000)
_SHARE = 1_000  # ports of one worker of pytest-xdist, so that workers do not meet
_next_port = os.getpid()  # runs at the same time begin in different places


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on, which this process has not been given before."""
    global _next_port
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) * _SHARE % len(_PORTS)
    for _ in range(_SHARE):
        _next_port += 1
        port = _PORTS[share + _next_port % _SHARE]
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {_PORTS[share]} to {_PORTS[share] + _SHARE - 1} is free")


def listening(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a connection to the port is accepted."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Poll until `condition` holds; `AssertionError` naming `what` if it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(0.01)


def settle(log: Path, ask: Callable[[str], int]) -> None:
    """Wait until all requests so far are in the access log `log`.

    Servers write a line after the answer has gone. So one more request, by `ask` (path → status), is sent
    and its line awaited. Where it cannot be sent (a TLS port asked without trust), nothing is waited for.
    """
    path = f"{SETTLING}{time.monotonic_ns()}"
    try:
        status = ask(path)
    except (OSError, http.client.HTTPException):
        return
    if status != 400:
        wait_until(lambda: path in log.read_text(errors="replace"), f"{log} to be written")


class ServerProcess:
    """One server: started, awaited, logged to a file and stopped by its own pid."""

    running: list[ServerProcess] = []  # noqa: RUF012 - one list on purpose: the failure report reads it

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "OTEL_TRACES_EXPORTER": "none",
                    **(env or {}),
                },
            )
        ServerProcess.running.append(self)
        try:
            wait_until(lambda: self._ready(ready), f"{name} to listen")
        except BaseException:
            self.stop()
            raise

    def _ready(self, ready: Callable[[], bool]) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
        return ready()

    def tail(self, lines: int = 30) -> str:
        """The last lines of the server's log, shortened, without docker-registry's second line a request."""
        every = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line[:240] for line in every if "response completed" not in line][-lines:])

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def kill(self) -> None:
        """End the process as a power cut would (SIGKILL)."""
        if self in ServerProcess.running:
            ServerProcess.running.remove(self)
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, politely first. Safe to call twice."""
        if self in ServerProcess.running:
            ServerProcess.running.remove(self)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
