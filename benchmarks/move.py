"""move.py read|write CA URL SIZE CONNECTIONS TIMES: moves bytes over crossdock's transport only.

Every connection moves TIMES bodies of SIZE bytes through one reused slot: it GETs URL and drops the bytes, or
PUTs to URL with the connection's number appended. CROSSDOCK_TLS chooses the engine, so engines are compared
on the same transport. Prints user and system seconds without start-up and handshakes, that is without the
first body of each connection.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys

import uvloop

from crossdock._kernels import Arena
from crossdock.options import NetworkOptions
from crossdock.transport.base import Request, TlsSettings
from crossdock.transport.client import HttpClient
from crossdock.url import Url

SLOT = 4 << 20


class Landing:
    """A sink that receives a body of any length into the same memory."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def get_buffer(self) -> memoryview:
        return self._memory[self._at :]

    def received(self, count: int) -> None:
        self._at = (self._at + count) % len(self._memory)


async def read(client: HttpClient, url: str, size: int, memory: memoryview) -> None:
    """GET one body. Raises RuntimeError for another status or size."""
    exchange = await client.send(Request("GET", Url.parse(url)))
    head = await exchange.response()
    count = await exchange.receive(Landing(memory))
    if head.status != 200 or count != size:
        raise RuntimeError(f"{head.status}: {count} of {size} bytes")


async def write(client: HttpClient, url: str, size: int, memory: memoryview) -> None:
    """PUT one body. Raises RuntimeError if it is refused."""
    exchange = await client.send(Request("PUT", Url.parse(url), (), size))
    for at in range(0, size, len(memory)):
        await exchange.write(memory[: size - at])
    head = await exchange.response()
    await exchange.receive(Landing(memory))
    if head.status >= 300:
        raise RuntimeError(f"{head.status} to a PUT")


async def move(way: str, ca: str, url: str, size: int, connections: int, times: int) -> list[float]:
    """User and system seconds for all bodies except the first of every connection."""
    settings = TlsSettings(ssl.create_default_context(cafile=ca), ())
    client = HttpClient(NetworkOptions(), lambda host, port: settings, lambda *origin: None)
    arena = Arena(connections * SLOT, SLOT)
    slots = [slot for _ in range(connections) if (slot := arena.acquire()) is not None]

    async def lane(number: int, memory: memoryview, count: int) -> None:
        for _ in range(count):
            if way == "read":
                await read(client, url, size, memory)
            else:
                await write(client, f"{url}/{number}", size, memory)

    async def on_all(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number, slot in enumerate(slots):
                group.create_task(lane(number, slot.view, count))

    try:
        await on_all(1)
        begin = resource.getrusage(resource.RUSAGE_SELF)
        await on_all(times - 1)
        end = resource.getrusage(resource.RUSAGE_SELF)
    finally:
        await client.close()
    return [end.ru_utime - begin.ru_utime, end.ru_stime - begin.ru_stime]


if __name__ == "__main__":
    chosen, authority, address, *numbers = sys.argv[1:]
    length, lanes, bodies = map(int, numbers)
    print(json.dumps(uvloop.run(move(chosen, authority, address, length, lanes, bodies))))
