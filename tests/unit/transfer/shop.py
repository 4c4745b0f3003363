"""A workshop of small slots, and the check that nothing of it was left in use."""

from __future__ import annotations

import asyncio

from crossdock.options import NetworkOptions
from crossdock.transfer.budget import Budget
from crossdock.transfer.concurrency import Permits
from crossdock.transfer.hashing import HashingService
from crossdock.transfer.supply import Supply
from crossdock.transfer.workshop import Resuming, Workshop


class QuickNetwork(NetworkOptions):
    """Retries without waiting, since tests check events and not times."""

    __slots__ = ()

    def backoff_s(self, failures: int, chance: float | None = None) -> float:
        return 0.0


def make_workshop(
    *, memory: int = 4 << 20, connections: int = 4, part_slots: int = 4, retries: int = 3
) -> Workshop:
    budget = Budget(memory, debug=True)
    return Workshop(
        supply=Supply(
            budget=budget,
            permits=Permits(budget, fixed=connections, part_size=part_slots * budget.slot_size),
            network=QuickNetwork(retries=retries),
        ),
        hashing=HashingService(),
        paranoid=True,
    )


WHOLE = Resuming(above=1 << 62, chunk_size=1 << 26, keeps_states=True)  # nothing is to be resumed


def assert_nothing_left(workshop: Workshop) -> None:
    budget = workshop.supply.budget
    assert budget.free == budget.slots, "a slot was not given back"
    assert workshop.supply.permits.used == 0, "a permit was not given back"
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks left behind: {others}"
