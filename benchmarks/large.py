"""A layer of 120 GiB: flat memory, and a copy that is killed at 100 GiB and resumed.

    python -m benchmarks.large [--size quick|full] [--hash]

Source and sink are `benchmarks.giant`, so neither disk nor memory limits the size. The command is killed with
SIGKILL when the sink has received so many bytes, and run again. The record has the memory of both processes
over time, the bytes that were sent twice, and the seconds from just before the second process started to its
first byte at the sink. Last comes a plan of an artifact of 165 layers, for three kinds of registries.

It writes a record, which the report ignores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.giant import CONFIG
from benchmarks.measure import workspace
from benchmarks.processes import SEARCH_PATH, Server, cpu_of, free_port, memory_of
from benchmarks.record import Record
from benchmarks.scenarios import GiB, MiB
from crossdock.options import CopyOptions
from crossdock.protocol.upload import DEFAULT_CHUNK

GIANT = Path(__file__).with_name("giant.py")
SIZES = {"quick": (4 * GiB, 3 * GiB), "full": (120 * GiB, 100 * GiB)}  # of the layer, and when it is killed
DIGESTS = {  # of zeros
    4 * GiB: "sha256:8479e43911dc45e89f934fe48d01297e16f51d17aa561d4d1c216b1ae0fcddca",
    120 * GiB: "sha256:c68e74127c5712d80c86a29ee49fc979b53ee00b8952d767fdcea42a4fea9a29",
}
BARS = {"resume_s": 2.0, "peak": CopyOptions().memory + 64 * MiB, "sent_again": DEFAULT_CHUNK}
LOOK_S = 0.2
LIMITS = {
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com": ["60 GiB"],
    "ghcr.io": ["12 GB", "60 GiB"],
    "example.azurecr.io": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--hash", action="store_true", help="the sink hashes, too")
    options = parser.parse_args()
    size, killed_at = SIZES[options.size]
    place = workspace(64 * MiB)
    record = Record("large", None, partial=True)
    try:
        found = measure(place, size, killed_at, hashes=options.hash)
        found["too_large"] = plan(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["large"] = {"layer": size, "killed_at": killed_at, "bars": BARS, **found}
    record.write()
    after = f"{found['resume_s']:.2f} s, or {found['resume_cpu_s']:.2f} s of CPU"
    print(f"first byte {after} after the start; bar {BARS['resume_s']:g} s; load {found['load']:.1f}")
    print(f"peak memory {found['peak'] / MiB:.1f} MiB; bar {BARS['peak'] / MiB:g} MiB")
    print(f"{found['sent_again'] / MiB:.1f} MiB sent again; bar {BARS['sent_again'] / MiB:g} MiB")
    print(f"{size / found['seconds'] / MiB:.0f} MiB/s; too large: {found['too_large']}")
    print(record.path)
    wrong = [name for name, bar in BARS.items() if found[name] > bar]
    sys.exit(f"missed: {', '.join(wrong)}" if wrong or found["too_large"] != LIMITS else 0)


def measure(place: Path, size: int, killed_at: int, *, hashes: bool) -> dict[str, Any]:
    """Copy a layer of `size` bytes, killed once. Raises RuntimeError when it does not arrive."""
    with ExitStack() as stack:
        source = stack.enter_context(giant(place, [(DIGESTS[size], size)]))
        sink = stack.enter_context(giant(place, [(DIGESTS[size], size)], *(["--hash"] if hashes else [])))
        words = [f"127.0.0.1:{source.port}/source/model:v1", f"127.0.0.1:{sink.port}/sink/model:v1"]
        argv = [CROSSDOCK, "copy", "--progress", "none", "--output", "json", "--state", str(place / "state")]
        load, began = os.getloadavg()[0], time.monotonic()
        first = run([*argv, *words], sink, place, killed_at)
        time.sleep(LOOK_S)
        second = run([*argv, *words], sink, place, None)
        result = json.loads((place / "output").read_text())
        seconds, state = time.monotonic() - began, look(sink)
    moments = [at for each in state["sessions"].values() for offset, at in each["first"] if offset]
    if (result["bytes_moved"], len(state["manifests"])) != (size, 2):
        raise RuntimeError(f"not whole: {result}")
    return {
        "load": load,
        "seconds": seconds,
        "resume_s": min(at for at in moments if at > second["started"]) - second["started"],
        "sent_again": state["received"] - size - len(CONFIG),
        "resumed": result["bytes_resumed"],
        "resume_cpu_s": second["cpu_s"],
        "peak": max(*first["memory"], *second["memory"]),
        "tenths": [_tenths(each["memory"]) for each in (first, second)],
    }


def _tenths(memory: list[int]) -> list[int]:
    """The most that was used in each tenth of the time."""
    step = max(1, len(memory) // 10)
    return [max(memory[begin : begin + step]) for begin in range(0, len(memory), step)]


def giant(place: Path, layers: list[tuple[str, int]], *words: str) -> Server:
    """A running `benchmarks.giant`."""
    given = [word for digest, size in layers for word in ("--layer", f"{digest}:{size}")]
    port = free_port()
    return Server([sys.executable, str(GIANT), str(port), *given, *words], port, place / "log")


def look(server: Server) -> dict[str, Any]:
    """What it counted."""
    found: dict[str, Any] = server.ask("/state")
    return found


def run(argv: list[str], sink: Server, place: Path, killed_at: int | None) -> dict[str, Any]:
    """Run the command, to the end or until the sink has so many bytes; samples of its memory."""
    memory: list[int] = []
    before, cpu_s = look(sink)["received"], 0.0
    started = time.monotonic()
    with (place / "output").open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, env={"PATH": SEARCH_PATH, "HOME": str(place)})
    try:
        while process.poll() is None:
            received = look(sink)["received"]
            memory += [memory_of(process.pid)]
            if received == before:
                cpu_s = cpu_of(process.pid)
            if killed_at is not None and received >= killed_at:
                break
            time.sleep(LOOK_S)
    finally:
        process.kill()
        code = process.wait()
    if code != (0 if killed_at is None else -9):
        raise RuntimeError(f"the command ended with {code}")
    return {"started": started, "memory": [each for each in memory if each], "cpu_s": cpu_s}


def plan(place: Path) -> dict[str, list[str]]:
    """The layers of a model that a plan calls too large, by registry."""
    sizes = {"60 GiB": 60 * GiB, "12 GB": 12 * 10**9}
    named = {f"sha256:{number:064x}": name for number, name in enumerate(sizes)}
    layers = [(digest, sizes[name]) for digest, name in named.items()]
    layers += [(f"sha256:{number:064x}", 4_300_000_000) for number in range(2, 165)]
    with giant(place, layers) as source, giant(place, []) as sink:
        (place / "hosts.json").write_text(
            json.dumps({"hosts": dict.fromkeys(LIMITS, f"127.0.0.1:{sink.port}")})
        )
        mirror = {
            "name": "model",
            "source": f"127.0.0.1:{source.port}/source",
            "repositories": {"include": ["model"]},
        }
        targets = [f"{host}/sink" for host in LIMITS]
        file = {"version": 1, "mirrors": [{**mirror, "targets": targets}]}
        (place / "model.yaml").write_text(json.dumps(file))
        argv = [CROSSDOCK, "plan", str(place / "model.yaml"), "--inventory", str(place / "hosts.json")]
        done = subprocess.run(
            [*argv, "--output", "json"],
            stdout=subprocess.PIPE,
            env={"PATH": SEARCH_PATH, "HOME": str(place)},
            check=True,
        )
    entries = json.loads(done.stdout)["entries"]
    return {
        each["target"].partition("/")[0]: sorted(
            named[problem["detail"].partition(" ")[0]]
            for problem in each["problems"]
            if problem["kind"] == "too_large"
        )
        for each in entries
    }


if __name__ == "__main__":
    main()
