"""Kernel benchmarks run over the compiled kernels and over their twins, so that a table shows both.

``benchmark.extra_info`` goes into the record: ``bytes`` of one round, and ``by``, who did it, where that is
not one of the two.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

PACKAGES = {"compiled": "crossdock._ext", "pure": "crossdock._kernels"}


def load(backend: str) -> SimpleNamespace:
    """The kernels of one backend: ``.Arena .Sha256``, ``.digest`` and ``.backend``."""
    package = PACKAGES[backend]
    buffers, digest = (import_module(f"{package}.{name}") for name in ("buffers", "digest"))
    return SimpleNamespace(backend=backend, Arena=buffers.Arena, Sha256=digest.Sha256, digest=digest)


@pytest.fixture(scope="session", params=list(PACKAGES))
def kernels(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Each backend in turn."""
    return load(request.param)


@pytest.fixture(scope="session")
def compiled() -> SimpleNamespace:
    """The compiled kernels, for what their twins do not do."""
    return load("compiled")
