"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from crossdock.transfer.workshop import Workshop
from unit.transfer.shop import assert_nothing_left, make_workshop


@pytest.fixture
async def workshop() -> AsyncIterator[Workshop]:
    shop = make_workshop()
    yield shop
    assert_nothing_left(shop)
    shop.hashing.close()
    shop.supply.budget.close()
