"""Dask schedulers and workers in processes of their own, as people start them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CODE = """
import asyncio, json, sys
import crossdock
from distributed import Scheduler, Security, Worker

async def main(given):
    crossdock.__version__ = given.get("version") or crossdock.__version__
    quiet = {"dashboard_address": ":0", "dashboard": False}
    addresses = [given["address"]] if "address" in given else []
    started = []
    for each in given.get("schedulers", []):
        security = Security(**each["tls"], require_encryption=True) if each.get("tls") else None
        scheme = "tls" if security else "tcp"
        found = await Scheduler(host="127.0.0.1", port=0, protocol=scheme, security=security, **quiet)
        addresses.append(found.address)
        started.append(found)
        for _ in range(each["workers"]):
            started.append(await Worker(found.address, nthreads=1, security=security, dashboard_address=None))
    for _ in range(given.get("workers", 0)):
        started.append(await Worker(given["address"], nthreads=1, dashboard_address=None))
    print(json.dumps(addresses), flush=True)
    await started[-1].finished()

asyncio.run(main(json.loads(sys.argv[1])))
"""


def start(folder: Path, **given: Any) -> subprocess.Popen[str]:
    """A process with `schedulers`, or with `workers` of the scheduler at `address`, of crossdock `version`.

    It prints the addresses of the schedulers once everything is there. What is logged goes to ``log``.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(given)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "DASK_TEMPORARY_DIRECTORY": str(folder)},
        )


def addresses(process: subprocess.Popen[str]) -> list[str]:
    """What the process has printed. Blocks."""
    assert process.stdout is not None
    found: list[str] = json.loads(process.stdout.readline())
    return found


@contextmanager
def started(folder: Path, **given: Any) -> Iterator[list[str]]:
    """The addresses of a process' schedulers, while it runs."""
    with start(folder, **given) as process:
        try:
            yield addresses(process)
        finally:
            process.kill()
