"""A scripted registry by path."""

from __future__ import annotations

import pytest

from unit.registry.listings.served import Served
from unit.registry.scripted_registry import ScriptedRegistry


@pytest.fixture
def served(server: ScriptedRegistry) -> Served:
    return Served(server)
