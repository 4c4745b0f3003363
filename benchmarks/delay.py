"""A TCP proxy that adds delay and limits the rate, for kernels without netem. Run as a separate process.

    python -m benchmarks.delay HOST:PORT --port PORT --round-trip 0.02 --rate 0

It listens on a loopback port and serves until it is terminated. Half the round trip is added in each
direction; a new connection takes one more round trip before its first byte, like TCP's handshake on a real
path. Bytes are held in a bounded queue; while it is full, the sender is not read.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from typing import cast

import uvloop

QUEUE_LIMIT = 4 << 20


class Wire:
    """A wire with a capacity of `rate` bytes per second (0: unlimited), for one connection or several."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0  # for the next byte

    def carry(self, size: int, begin: float) -> float:
        """The time when `size` more bytes, which come at `begin`, have passed."""
        self._free_at = max(begin, self._free_at) + (size / self._rate if self._rate else 0.0)
        return self._free_at


class Direction:
    """Bytes in transit to `sink`, each piece with its time of arrival; None is the end."""

    def __init__(self, half_s: float, wire: Wire, opened: float) -> None:
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self._half_s = half_s
        self._wire = wire
        self._opened = opened
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._loop = asyncio.get_running_loop()

    def put(self, data: bytes | None) -> None:
        passed = self._wire.carry(len(data or b""), max(self._loop.time(), self._opened))
        self._queue.append((passed + self._half_s, data))
        self._size += len(data or b"")
        if self._size > QUEUE_LIMIT and self.source is not None and not self.source.is_closing():
            self.source.pause_reading()
        self._arm()

    def block(self, blocked: bool) -> None:
        """Note that the sink's buffer is full, or no longer full."""
        self._blocked = blocked
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._queue and self.sink is not None and not self._blocked:
            wait_s = max(0.0, self._queue[0][0] - self._loop.time())
            self._timer = self._loop.call_later(wait_s, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = self._loop.time() + 0.0005  # the loop's timers have a resolution of milliseconds
        assert self.sink is not None
        while self._queue and self._queue[0][0] <= now and not self._blocked:
            _, data = self._queue.popleft()
            if self.sink.is_closing():
                continue
            if data is None:
                self.sink.close()
            else:
                self._size -= len(data)
                self.sink.write(data)
        if self._size <= QUEUE_LIMIT // 2 and self.source is not None and not self.source.is_closing():
            self.source.resume_reading()
        self._arm()


class End(asyncio.Protocol):
    """One of the two connections: its bytes go into `outgoing`, and `incoming` writes to it."""

    def __init__(self, outgoing: Direction, incoming: Direction) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._outgoing.source = self._incoming.sink = cast(asyncio.Transport, transport)
        self._incoming.block(False)

    def data_received(self, data: bytes) -> None:
        self._outgoing.put(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outgoing.put(None)

    def pause_writing(self) -> None:
        self._incoming.block(True)

    def resume_writing(self) -> None:
        self._incoming.block(False)


class Client(End):
    """The accepted connection, which opens the other one."""

    def __init__(self, host: str, port: int, round_trip_s: float, wire: Wire) -> None:
        opened = asyncio.get_running_loop().time() + round_trip_s
        up = Direction(round_trip_s / 2, wire, opened)
        down = Direction(round_trip_s / 2, Wire(0), opened)
        super().__init__(up, down)
        self._address = host, port
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect(cast(asyncio.Transport, transport)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, transport: asyncio.Transport) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: End(self._incoming, self._outgoing), *self._address
            )
        except OSError:
            transport.abort()


async def serve(
    listening: int, host: str, port: int, round_trip_s: float, rate: int, *, together: bool
) -> None:
    """Listen on the loopback port `listening` and serve forever."""
    shared = Wire(rate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(host, port, round_trip_s, shared if together else Wire(rate)),
        "127.0.0.1",
        listening,
        backlog=1024,
    )
    await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delay")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--port", type=int, required=True, help="loopback port to listen on")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument(
        "--rate",
        type=int,
        default=0,
        metavar="BYTES",
        help="limit towards HOST, per second and connection",
    )
    parser.add_argument("--together", action="store_true", help="the limit is for all connections together")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    try:
        uvloop.run(
            serve(
                options.port,
                host,
                int(port),
                options.round_trip,
                options.rate,
                together=options.together,
            )
        )
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
