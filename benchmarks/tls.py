"""python -m benchmarks.tls: compares the TLS engines on crossdock's transport.

For each sample one client process (move.py) reads from nginx, or writes to it, over TLS on loopback. The
engines take turns, and the first round is discarded. CPU is that of the client while bytes move, without
start-up and handshakes. A ratio is `ssl` to rustls in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import ROOT, Server, free_port, need
from benchmarks.servers import make_certificates

ENGINES = ("ssl", "rustls")
WAYS = ("read", "write")
BODY = 64 << 20  # bytes of one exchange

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


def sample(engine: str, arguments: Sequence[object]) -> list[float]:
    """User and system seconds of one client process."""
    environ = {**os.environ, "CROSSDOCK_TLS": engine}
    argv = [sys.executable, str(ROOT / "benchmarks" / "move.py"), *map(str, arguments)]
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
            url = f"https://127.0.0.1:{port}/{'body' if way == 'read' else 'put'}"
            arguments = [way, folder / "tls/ca.pem", url, BODY, options.connections, bodies + 1]
            samples = [{name: sample(name, arguments) for name in ENGINES} for _ in range(options.rounds + 1)]
            report(way, samples[1:], options.connections * bodies * BODY / (1 << 30))
    finally:
        server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024, help="MiB moved by one sample")
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
