"""How exactly a copy keeps to `--limit-rate`: the rate over any ten seconds, as the target receives it.

    python -m benchmarks.rate [--size quick|full] [--runs N]

An image of eight layers goes from nginx to distribution 3 by `crossdock copy --limit-rate 50MiB`. Between the
command and the target is a relay that notes when how many bytes came. The bar is of issue 14: every window of
ten seconds is within 5 % of the limit. A record is written, which the report leaves alone.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.clients import CROSSDOCK
from benchmarks.content import Images, build
from benchmarks.measure import spawn, workspace
from benchmarks.processes import SEARCH_PATH
from benchmarks.record import Record
from benchmarks.scenarios import MiB, Workload
from benchmarks.servers import End, source, target

LIMIT = 50 * MiB  # bytes a second
WINDOW_S = 10.0
STEP_S = 0.1  # between the starts of two windows
BAR = 0.05
LAYERS = 8
SIZES = {"quick": 128 * MiB, "full": 384 * MiB}  # of each layer


class Relay:
    """Passes connections on to a port, and notes ``(time, bytes until then)`` of what goes there."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.noted: list[tuple[float, int]] = []
        self._to = port

    async def serve(self, opened: threading.Event, ended: asyncio.Event) -> None:
        """Serve on a free port until `ended`."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        opened.set()
        await ended.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._pass(reader, to_writer, notes=True), self._pass(to_reader, writer))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, notes: bool = False
    ) -> None:
        try:
            while data := await reader.read(MiB):
                if notes:
                    before = self.noted[-1][1] if self.noted else 0
                    self.noted.append((time.monotonic(), before + len(data)))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other side notices by itself
        finally:
            writer.close()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay to `port`, in a thread of its own."""
    made, opened, loop = Relay(port), threading.Event(), uvloop.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(made.serve(opened, ended)))
    thread.start()
    try:
        opened.wait()
        yield made
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rate")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    workload = Workload(1, LAYERS, SIZES[options.size], options.runs, sparse=True)
    place = workspace(workload.layer_bytes + LAYERS * MiB)
    record = Record("rate", None, partial=True)
    try:
        content = build(place / "layout", workload)
        samples = [measure(place / f"run-{run}", content) for run in range(options.runs)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["rate"] = {"limit": LIMIT, "window_s": WINDOW_S, "bar": BAR, "samples": samples}
    record.write()
    lowest, highest = min(one["lowest"] for one in samples), max(one["highest"] for one in samples)
    print(f"{lowest:.3f} to {highest:.3f} of the limit over {WINDOW_S:g} s; bar {1 - BAR:g} to {1 + BAR:g}")
    print(record.path)


def measure(place: Path, content: Images) -> dict[str, Any]:
    """One copy: the slowest and the fastest window, as shares of the limit."""
    place.mkdir()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        origin: End = stack.enter_context(
            source(place / "s", content, rate=0, round_trip_s=0, certificates=None)
        )
        end = stack.enter_context(target(place / "t", rate=0, round_trip_s=0, certificates=None))
        through = stack.enter_context(relay(end.port))
        (image,) = content.images
        names = [f"127.0.0.1:{port}/{image.repository}:{image.tag}" for port in (origin.port, through.port)]
        argv = [CROSSDOCK, "copy", "--progress", "none", "--limit-rate", f"{LIMIT // MiB}MiB", *names]
        usage = spawn(argv, place, {"PATH": SEARCH_PATH, "HOME": str(place)})
        noted = through.noted
    shares = [rate / LIMIT for rate in windows(noted)]
    if not shares:
        raise RuntimeError(f"the copy took less than {WINDOW_S:g} s")
    return {
        "load": load,
        "lowest": min(shares),
        "highest": max(shares),
        "windows": len(shares),
        **{name: usage[name] for name in ("wall_s", "user_s", "system_s", "peak_rss")},
    }


def windows(noted: Sequence[tuple[float, int]]) -> list[float]:
    """Bytes a second in every window between the first bytes and the last ones."""
    times = [at for at, _ in noted]
    found, start = [], times[0]
    while start + WINDOW_S <= times[-1]:
        first, last = (bisect.bisect_right(times, at) - 1 for at in (start, start + WINDOW_S))
        found.append((noted[last][1] - noted[first][1]) / WINDOW_S)
        start += STEP_S
    return found


if __name__ == "__main__":
    main()
