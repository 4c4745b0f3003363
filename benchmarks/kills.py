"""Kills an apply at random moments, and shows that the next start does not ask again for what was done.

    python -m benchmarks.kills [--size quick|full] [--kills N] [--seed N]

The images go from nginx to an empty distribution 3. `crossdock apply` is killed (SIGKILL) ten times, whenever
the target's log shows a random number of tags, and started again. What the target had confirmed a second
before a kill is done: no later start may request its manifest, config or own layer, at either side. In the
end `crossdock verify` compares both sides, and the run has counted each tag once.

A record is written, which the report leaves alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.clients import CROSSDOCK
from benchmarks.content import Images, build_registry
from benchmarks.measure import workspace
from benchmarks.processes import SEARCH_PATH
from benchmarks.record import Record
from benchmarks.scenarios import KiB
from benchmarks.servers import Access, End, source, target

GROUPS, TAGS = 10, 50  # groups of repositories, and tags of a repository
SIZES = {"quick": 1, "full": 10}  # repositories of a group
ON_DISK_S = 1.0  # a tag that has been done for so long is on disk
POLL_S = 0.02
SETTLE_S = 0.5  # in which servers log what a killed process had sent
LONGEST_S = 3600.0  # of one process


class Log:
    """What a registry has logged, read as it grows."""

    def __init__(self, end: End) -> None:
        self._line = end.line
        self._file = end.access_log.open(errors="replace")
        self._rest = ""

    def new(self) -> list[Access]:
        """The requests that were logged since the last call."""
        whole, newline, self._rest = (self._rest + self._file.read()).rpartition("\n")
        return [Access.of(line) for line in self._line.finditer(whole + newline)]


class Apply:
    """`crossdock apply` in one process after the other, all of which continue one run."""

    def __init__(self, folder: Path, content: Images, origin: End, end: End) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "migration.yaml"
        hosts = [f"127.0.0.1:{one.port}" for one in (origin, end)]
        self.file.write_text(
            json.dumps({"version": 1, "mirrors": [{"source": hosts[0], "targets": hosts[1:]}]})
        )
        self._environ = {"PATH": SEARCH_PATH, "HOME": str(folder)}
        self._logs = Log(origin), Log(end)
        self._tags = {f"/v2/{one.repository}/manifests/{one.tag}": one for one in content.images}
        self.done: dict[str, float] = {}  # paths of tags, and when the target first confirmed them
        self.asked: set[str] = set()  # paths, by the process that runs, or ran last
        self.requests = 0  # of that process

    def start(self) -> subprocess.Popen[bytes]:
        """Start the apply, or continue it."""
        self.asked.clear()
        self.requests = 0
        argv = [CROSSDOCK, "apply", str(self.file), "--progress", "none", "--output", "json"]
        argv += ["--state", str(self.folder / "state")]
        with (
            (self.folder / "result.json").open("wb") as output,
            (self.folder / "errors").open("ab") as errors,
        ):
            return subprocess.Popen(argv, stdout=output, stderr=errors, env=self._environ, cwd=self.folder)

    def look(self) -> None:
        """Note what was logged meanwhile."""
        now = time.monotonic()
        for log in self._logs:
            for access in log.new():
                self.requests += 1
                path = access.path.partition("?")[0]
                self.asked.add(path)
                if access.method == "PUT" and access.status == 201 and path in self._tags:
                    self.done.setdefault(path, now)

    def asked_again(self, settled: Sequence[str]) -> list[str]:
        """The paths that this process requested although they are of tags that were done before it began."""
        found = []
        for path in settled:
            one = self._tags[path]
            own = (one.blobs[0], one.blobs[-1])  # the layer between them is shared
            paths = [path, f"/v2/{one.repository}/manifests/{one.manifest.digest}"]
            paths += [f"/v2/{one.repository}/blobs/{blob.digest}" for blob in own]
            found += [each for each in paths if each in self.asked]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="decides the moments")
    options = parser.parse_args()
    images = GROUPS * SIZES[options.size] * TAGS
    place = workspace(images * 64 * KiB)
    record = Record("kills", None, partial=True)
    try:
        found = measure(place, SIZES[options.size], moments(images, options.kills, options.seed))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    record.document["kills"] = {"images": images, "seed": options.seed, **found}
    record.write()
    resumed = statistics.median(each["seconds_to_next_tag"] for each in found["processes"])
    again = sum(len(each["asked_again"]) for each in found["processes"])
    print(f"{options.kills} kills of {images} images: {again} requests for what was done; bar 0")
    print(f"verify: exit code {found['verify']['exit']}, {found['verify']['compared']}; bar 0")
    print(f"totals of the run: {found['totals']}")
    print(f"{resumed:.2f} s from a start to its first tag, in the median; {found['seconds']:.0f} s in all")
    print(record.path)
    is_clean = not again and found["verify"]["exit"] == 0 and found["totals"]["tags"] == images
    sys.exit(0 if is_clean else 1)


def moments(images: int, kills: int, seed: int) -> list[int]:
    """How many tags are done when the process is killed, for each kill."""
    return sorted(random.Random(seed).sample(range(1, images * 49 // 50), kills))


def measure(place: Path, repositories: int, kills: Sequence[int]) -> dict[str, Any]:
    """Kill and continue one run; what each process did, and what the end is."""
    content = build_registry(place / "layout", GROUPS, repositories, TAGS, KiB)
    with ExitStack() as stack:
        origin = stack.enter_context(source(place / "s", content, rate=0, round_trip_s=0, certificates=None))
        end = stack.enter_context(target(place / "t", rate=0, round_trip_s=0, certificates=None))
        apply = Apply(place / "run", content, origin, end)
        load, began = os.getloadavg()[0], time.monotonic()
        processes, settled = [], list[str]()
        for wanted in (*kills, None):
            did, started, ended = _run(apply, wanted)
            asked_again = apply.asked_again(settled)
            processes.append({**did, "done_before": len(settled), "asked_again": asked_again})
            settled += [path for path, at in apply.done.items() if started < at < ended - ON_DISK_S]
        result = json.loads((apply.folder / "result.json").read_text())
        return {
            "load": load,
            "processes": processes,
            "seconds": time.monotonic() - began,
            "totals": result["totals"],
            "verify": _verify(apply),
        }


def _run(apply: Apply, wanted: int | None) -> tuple[dict[str, Any], float, float]:
    """Start the apply and kill it once `wanted` tags are done; None: let it end. Also returns both times.

    A process that has done nothing yet is not killed.
    """
    before, started, first = len(apply.done), time.monotonic(), 0.0
    process = apply.start()
    try:
        while process.poll() is None and time.monotonic() < started + LONGEST_S:
            time.sleep(POLL_S)
            apply.look()
            if not first and len(apply.done) > before:
                first = time.monotonic() - started
            if wanted is not None and first and len(apply.done) >= wanted:
                break
    finally:
        status = process.poll()
        process.kill()
        process.wait()
    ended = time.monotonic()
    if status != (None if wanted is not None else 0):
        errors = (apply.folder / "errors").read_text(errors="replace")[-500:]
        raise RuntimeError(f"exit {status} with {len(apply.done)} tags done: {errors}")
    time.sleep(SETTLE_S)
    apply.look()
    did = {"killed_at": wanted, "requests": apply.requests, "seconds": ended - started}
    return {**did, "seconds_to_next_tag": first}, started, ended


def _verify(apply: Apply) -> dict[str, Any]:
    argv = [CROSSDOCK, "verify", str(apply.file), "--output", "json"]
    done = subprocess.run(
        argv, capture_output=True, env={"PATH": SEARCH_PATH, "HOME": str(apply.folder)}, check=False
    )
    found = json.loads(done.stdout)
    return {"exit": done.returncode, "compared": found["compared"], "missing": len(found["missing"])}


if __name__ == "__main__":
    main()
