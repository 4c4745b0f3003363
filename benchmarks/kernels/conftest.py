"""Kernel benchmarks run with the compiled kernels and with their pure twins, so that tables show both.

``benchmark.extra_info`` is stored in the record: ``bytes`` per round, and ``by``, the implementation, if it
is neither of the two.
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
    """The compiled kernels, for features that their twins lack."""
    return load("compiled")
