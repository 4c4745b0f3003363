"""Measures reading of archives: an OCI archive, whole and in parts, against the layout that is in it.

    python -m benchmarks.archive [--size quick|full] [--runs N]

The command copies one large layer to an archive on stdout, which is /dev/null: it reads, hashes and drops.
The layer is sparse, so that a disk plays no part; its bytes go through the page cache as any. Each way is run
once per round, and each round starts with another one; the first round is discarded.

It writes a record, which the report ignores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tarfile
import tempfile
from pathlib import Path

from benchmarks.clients import CROSSDOCK
from benchmarks.content import build
from benchmarks.measure import spawn, workspace
from benchmarks.processes import SEARCH_PATH
from benchmarks.record import Record
from benchmarks.scenarios import GiB, MiB, Workload
from crossdock.store.parts import part_path

SIZES = {"quick": 2 * GiB, "full": 10 * GiB}  # bytes of the layer
PARTS = 5
BAR = 0.9  # of the layout's speed, at least


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    size = SIZES[options.size]
    place = workspace(64 * MiB)  # sparse files take no room
    record = Record("archive", None, partial=True)
    try:
        samples = measure(place, size, options.runs)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    walls = {way: statistics.median(each["wall_s"] for each in runs) for way, runs in samples.items()}
    cpus = {
        way: statistics.median(each["user_s"] + each["system_s"] for each in runs)
        for way, runs in samples.items()
    }
    speeds = {way: walls["layout"] / wall for way, wall in walls.items()}
    record.document["archive"] = {"layer": size, "bar": BAR, "samples": samples, "speed": speeds}
    record.write()
    for way, wall in walls.items():
        share = f"{speeds[way]:.2f} of the layout's"
        print(f"{way:8} {wall:6.2f} s  {size / wall / GiB:5.2f} GiB/s, {share}; {cpus[way]:5.2f} s of CPU")
    print(f"bar: {BAR}; on a busy machine CPU says more\n{record.path}")


def measure(place: Path, size: int, runs: int) -> dict[str, list[dict[str, float]]]:
    """The samples of each way to hold the layer."""
    layout = place / "layout"
    content = build(layout, Workload(images=1, layers=1, layer_size=size, rounds=runs, sparse=True))
    reference = f"@{content.images[0].manifest.digest}"
    pack(layout, place / "whole.tar")
    cut(place / "whole.tar", place / "parts.tar")
    ways = {
        "layout": f"oci:{layout}{reference}",
        "archive": f"oci-archive:{place / 'whole.tar'}{reference}",
        "parts": f"oci-archive:{place / 'parts.tar'}{reference}",
    }
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for run in range(runs + 1):
        turn = run % len(ways)
        for way in [*list(ways)[turn:], *list(ways)[:turn]]:
            with tempfile.TemporaryDirectory(dir=place) as directory:
                argv = ["sh", "-c", 'exec "$@" > /dev/null', "sh", CROSSDOCK, "copy", "--progress", "none"]
                argv += [ways[way], "oci-archive:-:bench"]
                load = os.getloadavg()[0]
                used = spawn(argv, Path(directory), {"PATH": SEARCH_PATH, "HOME": directory})
            if run:
                samples[way].append({**used, "load": load})
    return samples


def pack(layout: Path, archive: Path) -> None:
    """The layout as a tar file, with holes where its files have them."""
    with archive.open("wb") as file:
        for path in sorted(each for each in layout.rglob("*") if each.is_file()):
            header = tarfile.TarInfo(str(path.relative_to(layout)))
            header.size = path.stat().st_size
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            copy_sparse(path, archive, file.tell())
            file.seek(file.tell() + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        file.truncate(file.tell() + 2 * tarfile.BLOCKSIZE)


def cut(archive: Path, parts: Path) -> None:
    """The archive in parts of equal size, as split(1) cuts it, with holes."""
    size = archive.stat().st_size
    each = -(-size // PARTS // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    for number in range(PARTS):
        part = part_path(parts, number + 1)
        part.touch()
        copy_sparse(archive, part, 0, number * each, min(each, size - number * each))


def copy_sparse(source: Path, target: Path, offset: int, start: int = 0, size: int | None = None) -> None:
    """Copy `size` bytes from `start` to `offset` of the target; pieces of zeros become holes."""
    with source.open("rb") as reading, target.open("r+b") as writing:
        reading.seek(start)
        left = source.stat().st_size if size is None else size
        at = offset
        while left and (piece := reading.read(min(MiB, left))):
            if any(piece):
                writing.seek(at)
                writing.write(piece)
            at += len(piece)
            left -= len(piece)
        if writing.seek(0, os.SEEK_END) < at:
            writing.truncate(at)


if __name__ == "__main__":
    main()
