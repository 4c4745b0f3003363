"""reads.py CA URL SIZE TIMES: reads a blob by ranges into arena slots over crossdock's transport, drops it.

Four connections, ranges of 8 MiB, slots that are used again: what a copy does with bytes up to the hash. The
engine is chosen by CROSSDOCK_TLS, so that engines are compared on one transport.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop

from crossdock._kernels import Arena, Slot
from crossdock.options import NetworkOptions
from crossdock.transport.base import Request
from crossdock.transport.client import HttpClient

MiB = 1 << 20
CONNECTIONS = 4
RANGE = 8 * MiB


class Landing:
    """A sink: fills one slot."""

    def __init__(self, slot: Slot) -> None:
        self._view = slot.view
        self.filled = 0

    def get_buffer(self) -> memoryview | None:
        return self._view[self.filled :] or None

    def received(self, count: int) -> None:
        self.filled += count


async def read(url: str, size: int, times: int, context: ssl.SSLContext) -> None:
    """Read `size` bytes of `url` so many times. Raises RuntimeError when a range comes short."""
    client = HttpClient(NetworkOptions(), lambda host, port: context, lambda scheme, host, port: None)
    arena = Arena(CONNECTIONS * RANGE, RANGE)
    ranges = iter([*range(0, size, RANGE)] * times)

    async def connection() -> None:
        slot = arena.acquire()
        assert slot is not None
        for start in ranges:
            stop = min(start + RANGE, size)
            exchange = await client.send(Request("GET", url, (("Range", f"bytes={start}-{stop - 1}"),)))
            landing = Landing(slot)
            head = await exchange.response()
            await exchange.receive(landing)
            if head.status != 206 or landing.filled != stop - start:
                raise RuntimeError(f"{head.status}: {landing.filled} of {stop - start} bytes")
        slot.release()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(connection())
    finally:
        await client.close()


if __name__ == "__main__":
    authority, address, length, count = sys.argv[1:]
    uvloop.run(read(address, int(length), int(count), ssl.create_default_context(cafile=authority)))
