"""The cost of a run with nothing to do, on registries without bulk lists, against regsync.

    python -m benchmarks.again [--size quick|full] [--rounds N]

Both sides are nginx, which serves the same images from files: the catalog, lists of tags, and manifests. So
`crossdock apply` and regsync have one HEAD to send for each tag and side. All clients run in turns, and each
round starts with another one. Requests are counted in nginx's logs. `crossdock-tenth` does a tenth of the
tags, to show how memory grows. crossdock's state is that of the run before, as with a file that is applied
every night.

The bars are of issue 14. A record is written, which the report leaves alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import BEFORE, CROSSDOCK
from benchmarks.content import build_registry
from benchmarks.measure import spawn, workspace
from benchmarks.processes import SEARCH_PATH, find
from benchmarks.record import Record
from benchmarks.scenarios import KiB, MiB
from benchmarks.servers import Access, End, source

GROUPS, TAGS = 10, 50  # groups of repositories, and tags of a repository
SIZES = {"quick": 4, "full": 40}  # repositories of a group
BARS = {"regsync": 1.5, "regsync-64": 1.0, "rss_growth": 20 * MiB}
"""Tags a second are at least so many times the client's; memory grows by no more from a tenth of the tags."""


@dataclass(frozen=True)
class Client:
    """`command` builds the argv from a folder of the client's own, the two hosts and the repositories."""

    name: str
    about: str
    command: Callable[[Path, Sequence[str], Sequence[str]], list[str]]
    share: int = 1  # of the tags: one in so many

    def is_present(self) -> bool:
        """Whether the client can run on this machine."""
        return find("regsync") is not None if self.name.startswith("regsync") else True


def _apply(folder: Path, hosts: Sequence[str], prefix: str = "", program: str = CROSSDOCK) -> list[str]:
    mirror = {"source": f"{hosts[0]}{prefix}", "targets": [f"{hosts[1]}{prefix}"]}
    path = folder / "migration.yaml"
    path.write_text(json.dumps({"version": 1, "mirrors": [mirror]}))  # JSON is YAML
    return [program, "apply", str(path), "--progress", "none", "--report", str(folder / "report.json")]


def _regsync(
    folder: Path, hosts: Sequence[str], repositories: Sequence[str], parallel: int = 0, requests: int = 0
) -> list[str]:
    """`parallel` entries at once, `requests` to a registry at once; 0: regsync's defaults, 1 and 3."""
    more = {"reqConcurrent": requests} if requests else {}
    config = {
        "version": 1,
        "creds": [{"registry": host, "tls": "disabled", **more} for host in hosts],
        "defaults": {"parallel": parallel} if parallel else {},
        "sync": [
            {"source": f"{hosts[0]}/{name}", "target": f"{hosts[1]}/{name}", "type": "repository"}
            for name in repositories
        ],
    }
    path = folder / "regsync.yml"
    path.write_text(json.dumps(config))
    return ["regsync", "once", "-c", str(path), "-v", "error"]


CLIENTS = (
    Client("crossdock", "apply", lambda folder, hosts, names: _apply(folder, hosts)),
    *(
        [
            Client(
                "crossdock-before",
                "another build",
                lambda folder, hosts, names: _apply(folder, hosts, "", BEFORE),
            )
        ]
        if BEFORE
        else []
    ),
    Client(
        "crossdock-tenth",
        "apply of a tenth of the tags",
        lambda folder, hosts, names: _apply(folder, hosts, "/group00"),
        share=GROUPS,
    ),
    Client("regsync", "defaults", _regsync),
    Client("regsync-4", "parallel: 4", lambda folder, hosts, names: _regsync(folder, hosts, names, 4)),
    Client(
        "regsync-64",
        "parallel: 64, reqConcurrent: 64",
        lambda folder, hosts, names: _regsync(folder, hosts, names, 64, 64),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.again")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--rounds", type=int, default=3, help="measured ones, after one that is discarded")
    parser.add_argument("--client", action="append", choices=[each.name for each in CLIENTS])
    options = parser.parse_args()
    clients = [each for each in CLIENTS if each.is_present()]
    if options.client:
        clients = [each for each in clients if each.name in options.client]
    repositories = SIZES[options.size]
    place = workspace(GROUPS * repositories * TAGS * 32 * KiB)
    record = Record("again", None, partial=True)
    try:
        samples = race(place, clients, repositories, options.rounds)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    medians = {each.name: summary(each, samples, GROUPS * repositories * TAGS) for each in clients}
    record.document["again"] = {
        "repositories": GROUPS * repositories,
        "tags": GROUPS * repositories * TAGS,
        "storage": "memory" if place.is_relative_to("/dev/shm") else "disk",
        "bars": BARS,
        "clients": {each.name: each.about for each in clients},
        "medians": medians,
        "verdicts": verdicts(medians),
        "samples": samples,
    }
    record.write()
    for name, median in medians.items():
        print(f"{name:17} {median['tags_per_s']:7.0f} tags/s  cpu {median['cpu_s']:6.2f}", end="  ")
        print(f"rss {median['peak_rss'] / MiB:4.0f} MiB")
    for line in verdicts(medians).values():
        print(line)
    print(record.path)


def race(place: Path, clients: Sequence[Client], repositories: int, rounds: int) -> list[dict[str, Any]]:
    """A sample for each client and round; those of round 0 are to be discarded."""
    samples = []
    content = build_registry(place / "layout", GROUPS, repositories, TAGS, KiB)
    names = list(dict.fromkeys(each.repository for each in content.images))
    with ExitStack() as stack:
        ends = [
            stack.enter_context(source(place / side, content, rate=0, round_trip_s=0, certificates=None))
            for side in ("source", "target")
        ]
        for round_ in range(1 + rounds):
            turn = round_ % len(clients)
            for client in (*clients[turn:], *clients[:turn]):
                sample = run(client, place / client.name, ends, names)
                samples.append({"client": client.name, "round": round_, "discarded": round_ == 0, **sample})
                print(
                    f"{client.name:17} wall {sample['wall_s']:7.2f}  load {sample['load']:4.1f}", flush=True
                )
    return samples


def run(client: Client, folder: Path, ends: Sequence[End], repositories: Sequence[str]) -> dict[str, Any]:
    """One run: what it cost, and the requests that each side got, by method and kind."""
    folder.mkdir(exist_ok=True)
    argv = client.command(folder, [f"127.0.0.1:{end.port}" for end in ends], repositories)
    for end in ends:
        end.accesses()
    load = os.getloadavg()[0]
    usage = spawn(argv, folder, {"PATH": SEARCH_PATH, "HOME": str(folder), "DOCKER_CONFIG": str(folder)})
    accesses = [end.accesses() for end in ends]
    tags = len(repositories) * TAGS // client.share
    for side, each in zip(("source", "target"), accesses, strict=True):
        if (heads := sum(one.method == "HEAD" and one.status == 200 for one in each)) < tags:
            raise RuntimeError(f"{client.name} asked the {side} for {heads} tags, not {tags}")
    return {
        "load": load,
        **{name: usage[name] for name in ("wall_s", "user_s", "system_s", "peak_rss")},
        "requests": [dict(Counter(map(kind_of, each))) for each in accesses],
        "connections": [len({one.connection for one in each}) for each in accesses],
    }


def kind_of(access: Access) -> str:
    """The method and what it asked for."""
    for part in ("manifests", "blobs", "tags", "_catalog", "referrers"):
        if f"/{part}" in access.path:
            return f"{access.method} {part}"
    return f"{access.method} {access.path}"


def summary(client: Client, samples: Sequence[Mapping[str, Any]], tags: int) -> dict[str, float]:
    """Medians of a client's measured runs, with the lowest and highest rate; the peak is the highest."""
    good = [each for each in samples if each["client"] == client.name and not each["discarded"]]
    rates = [tags / client.share / each["wall_s"] for each in good]
    return {
        "tags_per_s": statistics.median(rates),
        "tags_per_s_low": min(rates),
        "tags_per_s_high": max(rates),
        "cpu_s": statistics.median(each["user_s"] + each["system_s"] for each in good),
        "peak_rss": max(each["peak_rss"] for each in good),
        **{
            f"heads_per_tag_{side}": max(
                each["requests"][number].get("HEAD manifests", 0) / (tags / client.share) for each in good
            )
            for number, side in enumerate(("source", "target"))
        },
    }


def verdicts(medians: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Each bar with what was measured, as far as its clients ran."""
    found = {}
    ours = medians.get("crossdock")
    if ours is None:
        return {}
    for name in [each for each in medians if each.startswith("regsync")]:
        ratio = ours["tags_per_s"] / medians[name]["tags_per_s"]
        bar = f"; bar {BARS[name]:g}" if name in BARS else ""
        found[name] = f"{ratio:.2f} times the rate of {name}{bar}"
    heads = max(ours["heads_per_tag_source"], ours["heads_per_tag_target"])
    found["heads"] = f"{heads:.3f} HEADs a tag and side; bar 1"
    if "crossdock-tenth" in medians:
        growth = ours["peak_rss"] - medians["crossdock-tenth"]["peak_rss"]
        more = f"bar {BARS['rss_growth'] / MiB:g} MiB"
        found["rss"] = f"{growth / MiB:.1f} MiB more than for a tenth of the tags; {more}"
    return found


if __name__ == "__main__":
    main()
