"""Every kernel test runs over the compiled kernels and over their twins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernels.backends import BACKENDS, load


@pytest.fixture(scope="session", params=BACKENDS)
def kernels(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The kernels of one backend: ``.Arena .Slot .Sha256 .update_many .backend``, the modules."""
    return load(request.param)
