"""Both TLS engines under one test."""

from __future__ import annotations

import pytest

from crossdock import _tls

ENGINES = ["ssl", "rustls"]


def use_engine(name: str, patch: pytest.MonkeyPatch) -> None:
    """Have connections made by this engine; skip the test where it is not installed."""
    if name == "ssl":
        patch.setattr(_tls, "rustls", None)
    elif _tls.rustls is None:
        pytest.skip("crossdock-tls is not installed, or switched off by CROSSDOCK_TLS")
