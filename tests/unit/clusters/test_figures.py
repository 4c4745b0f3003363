"""The totals of a run on a cluster, made of what its workers report."""

from __future__ import annotations

import asyncio

from crossdock.clusters.bench import Figures
from crossdock.clusters.dask import _Attempt
from crossdock.clusters.groups import Job
from crossdock.options import CopyOptions
from crossdock.runs.totals import SAMPLE_S, Totals
from crossdock.runs.workshop import open_workshop

MIB = 1 << 20


def test_the_time_that_is_left_is_known_when_every_worker_has_found_its_bytes() -> None:
    now = 100.0
    totals = Totals(images=20, clock=lambda: now)
    attempts = [
        _Attempt(number, Job([], frozenset()), 0, "tcp://w", None, totals, False) for number in (1, 2)
    ]

    async def check() -> None:
        nonlocal now
        async with open_workshop(CopyOptions()) as workshop:
            totals.start(workshop.supply.permits)
            totals.told_total(False)
            # The first has resumed an upload of 40 MiB, which is no speed of this run.
            attempts[0].take(Figures(bytes_found=100 * MIB, bytes_moved=40 * MIB, bytes_held=40 * MIB))
            attempts[1].take(Figures(bytes_found=20 * MIB))
            now += SAMPLE_S
            assert (totals.bytes_per_second, totals.seconds_left) == (0.0, None)
            moved = {"bytes_moved": 50 * MIB, "bytes_held": 40 * MIB}
            attempts[0].take(Figures(bytes_found=100 * MIB, knows_total=True, **moved))
            totals.told_total(True)
            assert totals.bytes_per_second == 10 * MIB / SAMPLE_S
            assert totals.seconds_left == 70 * MIB / (10 * MIB / SAMPLE_S)
            attempts[0].end()
            assert totals.bytes_per_second == 10 * MIB / SAMPLE_S
            totals.stop()

    asyncio.run(check())
