"""Every kernel benchmark runs over the compiled kernels and over their twins, so that a table shows both."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

PACKAGES = {"compiled": "crossdock._ext", "pure": "crossdock._kernels"}


@pytest.fixture(scope="session", params=list(PACKAGES))
def kernels(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The kernels of one backend: ``.Arena .Chunks .Sha256``, ``.digest`` and ``.backend``."""
    package = PACKAGES[request.param]
    buffers, chunks, digest = (import_module(f"{package}.{name}") for name in ("buffers", "chunks", "digest"))
    return SimpleNamespace(
        backend=request.param, Arena=buffers.Arena, Chunks=chunks.Chunks, Sha256=digest.Sha256, digest=digest
    )
