"""Load test of the import service: concurrent imports, polls while they are copied, memory.

    python -m benchmarks.service [--size quick|full] [--runs N]

Images are copied from nginx to distribution 3 by `crossdock serve`. Several clients post all imports at once;
then one client polls them in turn, 20 ms after each response, until all have ended, and the target is
checked. Measured are the time of each POST and poll, and the service's peak memory.

It writes a record, which the report ignores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clients import CROSSDOCK
from benchmarks.content import Image, Images, build
from benchmarks.measure import workspace
from benchmarks.processes import Server, free_port
from benchmarks.record import Record
from benchmarks.scenarios import MiB, Workload
from benchmarks.servers import End, source, target

SIZES = {"quick": (50, 4 * MiB), "full": (200, 24 * MiB)}  # images, and bytes of the one layer of each
MEMORY = 64 * MiB  # the service's `limits.memory`
POSTING = 20  # clients
BARS = {"poll_s": 0.1, "peak_rss": MEMORY + 128 * MiB}
LONGEST_S = 900.0
_REGISTRY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/benchtarget"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    images, layer = SIZES[options.size]
    place = workspace(2 * images * layer)
    record = Record("service", None, partial=True)
    try:
        samples = measure(place, images, layer, options.runs)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["service"] = {
        "images": images,
        "layer": layer,
        "memory": MEMORY,
        "bars": BARS,
        "samples": samples,
    }
    record.write()
    middle = {name: statistics.median(one[name] for one in samples) for name in samples[0]}
    print(
        f"polls {middle['poll_s'] * 1e3:.1f} ms in the median, {middle['poll_most_s'] * 1e3:.0f} ms at most; "
        f"bar {BARS['poll_s'] * 1e3:g} ms"
    )
    print(f"peak RSS {middle['peak_rss'] / MiB:.0f} MiB; bar {BARS['peak_rss'] / MiB:g} MiB")
    print(f"{images} POSTs in {middle['posted_s']:.2f} s, all imports in {middle['ended_s']:.1f} s")
    print(record.path)


def measure(place: Path, images: int, layer: int, runs: int) -> list[dict[str, float]]:
    """A sample per run: seconds, bytes, and the machine's load before it."""
    samples = []
    content = build(place / "layout", Workload(images=images, layers=1, layer_size=layer, rounds=runs))
    with ExitStack() as stack:
        origin = stack.enter_context(source(place / "s", content, rate=0, round_trip_s=0, certificates=None))
        for run in range(runs):
            load = os.getloadavg()[0]
            with (
                target(place / f"t-{run}", rate=0, round_trip_s=0, certificates=None) as end,
                service(place / f"service-{run}", origin, end) as server,
            ):
                samples.append({"load": load, **drive(server, content, end)})
    return samples


@contextmanager
def service(directory: Path, origin: End, end: End) -> Iterator[Server]:
    """`crossdock serve` over plain HTTP, without identities."""
    directory.mkdir()
    entries = [
        {
            "name": name,
            "login_server": f"127.0.0.1:{port}",
            "subscription": "s",
            "resource_group": "g",
            "tls": {"plain_http": True},
        }
        for name, port in (("benchsource", origin.port), ("benchtarget", end.port))
    ]
    (directory / "inventory.yaml").write_text(json.dumps({"registries": entries}))
    (directory / "settings.yaml").write_text(json.dumps({"limits": {"memory": f"{MEMORY // MiB}MiB"}}))
    port = free_port()
    argv = [CROSSDOCK, "serve", "--listen", f"127.0.0.1:{port}", "--state", str(directory / "state")]
    argv += ["--inventory", str(directory / "inventory.yaml"), "--config", str(directory / "settings.yaml")]
    server = Server(argv, port, directory / "log", {"HOME": str(directory)})
    try:
        yield server
    finally:
        server.stop()


def drive(server: Server, content: Images, end: End) -> dict[str, float]:
    """Post an import of every image, poll until all have ended, and check the target."""
    began = time.perf_counter()
    with ThreadPoolExecutor(POSTING) as clients:
        posted = list(clients.map(lambda image: _post(server.port, image), content.images))
    posted_s = time.perf_counter() - began
    polls = _poll(server.port, [location for location, _ in posted])
    ended_s = time.perf_counter() - began
    found = end.digests_of([(image.repository, image.tag) for image in content.images])
    if found != [image.manifest.digest for image in content.images]:
        raise RuntimeError("the target does not have the expected images")
    return {
        "posted_s": posted_s,
        "post_s": statistics.median(seconds for _, seconds in posted),
        "polls": len(polls),
        "poll_s": statistics.median(polls),
        "poll_p95_s": statistics.quantiles(polls, n=20)[-1],
        "poll_most_s": max(polls),
        "ended_s": ended_s,
        "peak_rss": server.peak_rss(),
    }


def _post(port: int, image: Image) -> tuple[str, float]:
    """The URL of the import's result, and the seconds until the response."""
    name = f"{image.repository}:{image.tag}"
    body = {"source": {"resourceId": _REGISTRY.replace("target", "source"), "sourceImage": name}}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        began = time.perf_counter()
        status, headers, _ = _ask(
            connection, "POST", f"{_REGISTRY}/importImage", {**body, "targetTags": [name]}
        )
        if status != 202:
            raise RuntimeError(f"the response to the import is {status}")
        return urlsplit(headers["location"]).path, time.perf_counter() - began


def _poll(port: int, waiting: list[str]) -> list[float]:
    """Poll the results in turn until all imports have ended; the seconds until each response."""
    polls = []
    deadline = time.monotonic() + LONGEST_S
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        while waiting:
            left = []
            for path in waiting:
                began = time.perf_counter()
                status, _, answer = _ask(connection, "GET", path)
                polls.append(time.perf_counter() - began)
                if status == 202:
                    left.append(path)
                elif status != 200:
                    raise RuntimeError(f"an import failed: {answer!r}")
                time.sleep(0.02)  # so that polling is not the load
            waiting = left
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(waiting)} imports did not end")
    return polls


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


if __name__ == "__main__":
    main()
