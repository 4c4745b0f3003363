"""An embedded registry as a child process, which never outlives its parent."""

from __future__ import annotations

import re
import select
import subprocess
import sys
import time
from pathlib import Path

from crossdock.errors import CrossdockError

_START_S = 30.0
_STOP_S = 15.0  # the registry gives requests under way 10
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends the child when the parent is gone, even by SIGKILL.
_DIE_WITH_PARENT = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
from crossdock.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_ADDRESS = re.compile(r"http://(\S+)")


class ChildRegistry:
    """``crossdock registry`` on a free loopback port; ``address`` is its ``host:port``.

    Raises `CrossdockError` when it does not come up.
    """

    def __init__(self, root: Path, log: Path) -> None:
        self._log = log
        words = [sys.executable, "-c", _DIE_WITH_PARENT, "registry"]
        words += ["--root", str(root), "--listen", "127.0.0.1:0"]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
            )
        self.address = self._wait_for_address()

    def stop(self) -> None:
        """End the process and wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _wait_for_address(self) -> str:
        output = self._process.stdout
        assert output is not None
        deadline = time.monotonic() + _START_S
        while (left := deadline - time.monotonic()) > 0 and select.select([output], [], [], left)[0]:
            line = output.readline().decode(errors="replace")
            if match := _ADDRESS.search(line):
                return match[1]
            if not line:
                break
        self.stop()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise CrossdockError(
            f"the registry for the demo did not start: {' '.join(last) or 'no reason given'}"
        )
