"""One source for three targets, by the bars of issue 15 ("One read, many targets").

    python -m benchmarks.targets [--size quick|full] [--runs N] [--part together|slow|kill] [--rate MIB]

Every target is a distribution 3 of its own behind a proxy of its own, whose wire carries 100 MiB/s: then
neither CPU nor loopback limits the wall. (On a busy machine they do; a lower `--rate` leaves them more room.)
The source is nginx.

*together*: three single copies, one after the other, and one copy to the three, in turns. Bytes of blobs that
the source sent, CPU of the client, wall.
*slow*: the wire of one target carries a tenth. How long the two others take, compared with single copies to
such targets, and the client's peak memory. The bar is for copies of at least 20 s (`--size full`, or a
`--rate` of 25).
*kill*: the copy is killed with SIGKILL halfway and run again. Bytes that each target was sent twice.

It writes a record, which the report ignores. Samples hold the load average.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK, make_job
from benchmarks.content import Images, build
from benchmarks.measure import spawn, workspace
from benchmarks.record import Record
from benchmarks.scenarios import BUDGET, MiB, Workload
from benchmarks.servers import End, source, target
from crossdock.protocol.upload import DEFAULT_CHUNK
from crossdock_testing.faultproxy import FaultProxy
from crossdock_testing.faults import Fault, Seen

TARGETS = 3
NO_LIMIT = 1e12  # bytes per second: such a fault only tells of a request
SIZES = {  # layers, bytes of each
    "quick": {"together": (4, 64 * MiB), "slow": (1, 512 * MiB), "kill": (1, 512 * MiB)},
    "full": {"together": (4, 256 * MiB), "slow": (1, 2200 * MiB), "kill": (1, 1024 * MiB)},
}
BARS = {
    "source_bytes": 1.02,  # of those of one single copy
    "cpu": 0.62,  # of that of three single copies
    "wall": 1.2,  # of the slowest single copy
    "others": 1.2,  # of their own single copies, while one target is slow
    "memory": BUDGET + 64 * MiB,
    "sent_twice": DEFAULT_CHUNK,  # bytes, to each target
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=3, help="of the part together; the others run once")
    parser.add_argument("--rate", type=int, default=100, help="MiB per second of a wire")
    parser.add_argument("--part", choices=("together", "slow", "kill"), action="append", help="default: all")
    options = parser.parse_args()
    parts = options.part or ["together", "slow", "kill"]
    record = Record("targets", None, partial=True)
    found: dict[str, Any] = {}
    for part in parts:
        layers, size = SIZES[options.size][part]
        place = workspace((1 + TARGETS) * layers * size)
        try:
            content = build(place / "layout", Workload(1, layers, size, rounds=1))
            with source(place / "s", content, rate=0, round_trip_s=0, certificates=None) as origin:
                runs = options.runs if part == "together" else 1
                found[part] = [_PARTS[part](place, content, origin, options.rate * MiB) for _ in range(runs)]
        finally:
            shutil.rmtree(place, ignore_errors=True)
        head = {"size": options.size, "bars": BARS, "rate": options.rate * MiB}
        record.document["targets"] = {**head, "parts": found}
        record.write()
        print("\n".join(verdicts(part, found[part])), flush=True)
    print(record.path)


def verdicts(part: str, samples: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each bar of the part: the median, the samples, the bar."""
    for name in [name for name in BARS if name in samples[0]]:
        values = [each[name] for each in samples]
        value, bar = statistics.median(values), BARS[name]
        unit = MiB if bar > 1000 else 1
        shown = ", ".join(f"{each / unit:.3g}" for each in values)
        verdict = "met" if value <= bar else "MISSED"
        yield f"{part} {name}: {value / unit:.3g} ({shown}); bar {bar / unit:.3g}: {verdict}"


# -- the parts ---------------------------------------------------------------------------------------------


def together(place: Path, content: Images, origin: End, rate: int) -> dict[str, Any]:
    """Three single copies and one copy to three."""
    singles = []
    for number in range(TARGETS):
        with wires(place, [rate]) as ends:
            singles.append(copy(place, content, origin, ends, f"single {number}"))
    with wires(place, [rate] * TARGETS) as ends:
        several = copy(place, content, origin, ends, "several")
    return {
        "source_bytes": several["source_bytes"] / singles[0]["source_bytes"],
        "cpu": several["cpu_s"] / sum(each["cpu_s"] for each in singles),
        "wall": several["wall_s"] / max(each["wall_s"] for each in singles),
        "singles": singles,
        "several": several,
    }


def slow(place: Path, content: Images, origin: End, rate: int) -> dict[str, Any]:
    """Two single copies, and one copy to three of which one is slow."""
    singles = []
    for number in range(TARGETS - 1):
        with wires(place, [rate]) as ends:
            singles.append(copy(place, content, origin, ends, f"single {number}"))
    with wires(place, [rate // 10, *[rate] * (TARGETS - 1)]) as ends:
        several = copy(place, content, origin, ends, "several")
    behind, *others = several["targets"]
    own = max(each["targets"][0]["seconds"] for each in singles)
    return {
        "others": max(each["seconds"] for each in others) / own,
        "memory": several["tree_rss"],
        "statuses": [behind["status"], *(each["status"] for each in others)],
        "singles": singles,
        "several": several,
    }


def kill(place: Path, content: Images, origin: End, rate: int) -> dict[str, Any]:
    """A copy that is killed halfway, and what its second run sends; at any rate."""
    size = content.images[0].blobs[1].size
    with wires(place, [0] * TARGETS) as ends, ExitStack() as stack:
        proxies = [FaultProxy(f"127.0.0.1:{end.direct}") for end in ends]
        for proxy in proxies:
            stack.callback(proxy.close)
        killed = threading.Event()
        half = Fault(lambda seen: _offset(seen) >= size // 2, rate=NO_LIMIT, when_reached=killed.set)
        proxies[0].add(half)
        with tempfile.TemporaryDirectory(dir=place) as directory:
            job = make_job(Path(directory), content, origin, None, None)
            ports = [int(proxy.host.rpartition(":")[2]) for proxy in proxies]
            argv, environ = command(Path(directory), content, origin, ports), job.environ()
            first = subprocess.Popen(argv, env=environ, cwd=directory, stdout=subprocess.DEVNULL)
            if not killed.wait(300):
                raise RuntimeError("the copy did not reach its middle")
            first.send_signal(signal.SIGKILL)
            first.wait()
            spawn(argv, Path(directory), environ)
            result = json.loads((Path(directory) / "output").read_text())
        for proxy in proxies:
            proxy.settle()
        sent = [sum(seen.received for seen in proxy.seen if _offset(seen) >= 0) for proxy in proxies]
    twice = [count - size for count in sent]
    resumed = [each["bytes_resumed"] for each in result["targets"]]
    return {"sent_twice": max(twice), "each": twice, "resumed": resumed, "load": os.getloadavg()[0]}


_PARTS = {"together": together, "slow": slow, "kill": kill}


def _offset(seen: Seen) -> int:
    """The first byte of a chunk; negative for anything else."""
    if seen.method != "PATCH" or "content-range" not in seen.headers:
        return -1
    return int(seen.headers["content-range"].partition("-")[0])


# -- one copy ----------------------------------------------------------------------------------------------


@contextmanager
def wires(place: Path, rates: Sequence[int]) -> Iterator[list[End]]:
    """Empty targets whose wires carry so many bytes per second."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                target(place / f"t-{number}", rate=rate, round_trip_s=0, certificates=None, together=True)
            )
            for number, rate in enumerate(rates)
        ]


def command(folder: Path, content: Images, origin: End, ports: Sequence[int]) -> list[str]:
    """The command as users type it, except for the journal's folder."""
    name = f"{content.images[0].repository}:{content.images[0].tag}"
    places = [f"127.0.0.1:{port}/{name}" for port in (origin.port, *ports)]
    flags = ["--progress", "none", "--output", "json", "--state", str(folder / "state")]
    return [CROSSDOCK, "copy", *flags, *places]


def copy(place: Path, content: Images, origin: End, ends: Sequence[End], what: str) -> dict[str, Any]:
    """One copy to these targets: its cost, the bytes that the source sent, the result for each target."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=place) as directory:
        job = make_job(Path(directory), content, origin, None, None)
        argv = command(Path(directory), content, origin, [end.port for end in ends])
        origin.accesses()
        used = spawn(argv, Path(directory), job.environ())
        result = json.loads((Path(directory) / "output").read_text())
    image = content.images[0]
    for end in ends:
        if end.digests_of([(image.repository, image.tag)]) != [image.manifest.digest]:
            raise RuntimeError(f"{what}: a target does not have the image")
    targets = result.get("targets") or [{**result, "status": "copied"}]
    figures = ("status", "seconds", "retries", "bytes_moved", "bytes_requested")
    return {
        "what": what,
        "load": load,
        "wall_s": used["wall_s"],
        "cpu_s": used["user_s"] + used["system_s"],
        "tree_rss": used["tree_rss"],
        "source_bytes": sum(access.sent for access in origin.accesses() if access.is_blob),
        "targets": [{name: each[name] for name in figures} for each in targets],
    }


if __name__ == "__main__":
    main()
