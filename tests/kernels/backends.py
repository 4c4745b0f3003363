"""Both backends side by side, whatever `crossdock._kernels` chose for this process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

# A run that asks for the twins tests the twins; every other run fails when the compiled kernels are absent.
BACKENDS = ["pure"] if os.environ.get("CROSSDOCK_KERNELS") == "pure" else ["compiled", "pure"]
_PACKAGE = {"compiled": "crossdock._ext", "pure": "crossdock._kernels"}


def load(backend: str) -> SimpleNamespace:
    """The kernels of one backend under the names of `crossdock._kernels`, and their modules."""
    buffers, digest = (import_module(f"{_PACKAGE[backend]}.{name}") for name in ("buffers", "digest"))
    return SimpleNamespace(
        backend=backend,
        buffers=buffers,
        digest=digest,
        Arena=buffers.Arena,
        Slot=buffers.Slot,
        Sha256=digest.Sha256,
        update_many=digest.update_many,
    )


def run(backend: str, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a new interpreter with `backend` as `crossdock._kernels`; returns its output."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CROSSDOCK_KERNELS": backend, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
