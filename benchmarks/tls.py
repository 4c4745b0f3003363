"""python -m benchmarks.tls: the TLS engines against each other, on crossdock's transport alone.

One client process a sample reads from nginx, or writes to it, over TLS on loopback. The engines take turns,
and the first round is discarded. CPU is that of the client while bytes move: start and handshakes are left
out. A ratio is of `ssl` to rustls in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import ROOT, Server, free_port, need
from benchmarks.servers import make_certificates

if TYPE_CHECKING:
    from crossdock.transport.client import HttpClient

ENGINES = ("ssl", "rustls")
WAYS = ("read", "write")
BODY = 64 << 20  # bytes of one exchange
SLOT = 4 << 20

_NGINX = """
daemon off; pid {dir}/pid; error_log {dir}/error.log warn; worker_processes 2; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000;
    client_max_body_size 0; client_body_temp_path {dir}/put;
    server {{
        listen 127.0.0.1:{port} ssl; root {dir}; ssl_protocols {protocol};
        ssl_certificate {dir}/tls/server.pem; ssl_certificate_key {dir}/tls/server.key;
        location /put {{ dav_methods PUT; }}
    }}
}}
"""


class Slot:
    """A sink that takes a body of any length into the same memory, as slots of an arena are used again."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0

    def get_buffer(self) -> memoryview:
        return self._memory[self._at :]

    def received(self, count: int) -> None:
        self._at = (self._at + count) % len(self._memory)


async def move(way: str, url: str, ca: str, connections: int, bodies: int) -> list[float]:
    """User and system seconds that all bodies cost, after one body on every connection."""
    from crossdock._kernels.buffers import Arena
    from crossdock.options import NetworkOptions
    from crossdock.transport.base import TlsSettings
    from crossdock.transport.client import HttpClient

    settings = TlsSettings(ssl.create_default_context(cafile=ca), ())
    client = HttpClient(NetworkOptions(), lambda host, port: settings, lambda *origin: None)
    arena = Arena(connections * SLOT, SLOT)
    slots = [arena.acquire() for _ in range(connections)]
    views = [slot.view for slot in slots if slot is not None]

    async def all_of(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number, view in enumerate(views):
                group.create_task(lane(client, way, f"{url}/put/{number}", f"{url}/body", view, count))

    await all_of(1)
    begin = resource.getrusage(resource.RUSAGE_SELF)
    await all_of(bodies)
    end = resource.getrusage(resource.RUSAGE_SELF)
    await client.close()
    return [end.ru_utime - begin.ru_utime, end.ru_stime - begin.ru_stime]


async def lane(client: HttpClient, way: str, put: str, get: str, view: memoryview, bodies: int) -> None:
    """One body after another, on one connection."""
    from crossdock.transport.base import Request

    for _ in range(bodies):
        exchange = await client.send(Request("PUT", put, (), BODY) if way == "write" else Request("GET", get))
        if way == "write":
            for _ in range(BODY // SLOT):
                await exchange.write(view)
        head = await exchange.response()
        assert head.status < 300, head.status
        await exchange.receive(Slot(view))


def sample(engine: str, arguments: Sequence[object]) -> list[float]:
    """User and system seconds of one client process."""
    environ = {**os.environ, "CROSSDOCK_TLS": engine, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "benchmarks.tls", "--client", *map(str, arguments)]
    done = subprocess.run(argv, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    cost: list[float] = json.loads(done.stdout)
    return cost


def report(way: str, samples: Sequence[dict[str, list[float]]], gib: float) -> None:
    """Medians of seconds per GiB, and of the ratios within rounds."""
    for engine in ENGINES:
        total = sorted(sum(one[engine]) / gib for one in samples)
        user = statistics.median(one[engine][0] / gib for one in samples)
        middle, spread = statistics.median(total), f"{total[0]:.3f} to {total[-1]:.3f}"
        print(f"{way:6} {engine:7} {middle:.3f} s/GiB ({spread}), user {user:.3f}")
    total = sorted(sum(one["ssl"]) / sum(one["rustls"]) for one in samples)
    user = statistics.median(one["ssl"][0] / one["rustls"][0] for one in samples)
    print(
        f"{way:6} ratio   {statistics.median(total):.2f} ({total[0]:.2f} to {total[-1]:.2f}), user {user:.2f}"
    )


def race(folder: Path, options: argparse.Namespace) -> None:
    """Start the server, take all samples, print."""
    folder.chmod(0o755)
    make_certificates(folder / "tls")
    (folder / "put").mkdir()
    (folder / "body").write_bytes(os.urandom(BODY))
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    conf = folder / "conf"
    conf.write_text(_NGINX.format(dir=folder, port=port, protocol=options.protocol, user=user))
    server = Server([need("nginx", "apt-get install nginx-light"), "-c", str(conf)], port, folder / "log")
    bodies = max(1, (options.mib << 20) // BODY // options.connections)
    try:
        for way in options.way or WAYS:
            arguments = [way, f"https://127.0.0.1:{port}", folder / "tls/ca.pem", options.connections, bodies]
            samples = [{name: sample(name, arguments) for name in ENGINES} for _ in range(options.rounds + 1)]
            report(way, samples[1:], options.connections * bodies * BODY / (1 << 30))
    finally:
        server.stop()


def main() -> int:
    if sys.argv[1:2] == ["--client"]:
        import uvloop

        way, url, ca, connections, bodies = sys.argv[2:]
        print(json.dumps(uvloop.run(move(way, url, ca, int(connections), int(bodies)))))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024, help="moved by one sample")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--way", choices=WAYS, action="append", help="default: both")
    parser.add_argument("--protocol", choices=("TLSv1.2", "TLSv1.3"), default="TLSv1.3")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        race(folder, options)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
