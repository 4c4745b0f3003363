"""Facts that the session's clients learn about registries, kept for the next process; delays no copy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossdock.kept.hosts import HostFacts

SETTLE_S = 5.0  # for the last writes; bounds the wait for a disk that hangs


class Facts:
    """`registry.context.HostFacts` in the folder for the state of runs."""

    def __init__(self, folder: Path) -> None:
        self._kept = HostFacts(folder)
        self._writing: set[asyncio.Future[None]] = set()

    def read(self, host: str) -> Mapping[str, Any]:
        """As `HostFacts.read`."""
        return self._kept.read(host)

    def learned(self, host: str, name: str, value: Any) -> None:
        """Write a fact at once, in a thread: facts are few, and it survives if the process is killed soon."""
        self._kept.learned(host, name, value)
        writing = asyncio.get_running_loop().run_in_executor(None, self._kept.write, host)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Wait until everything is written, for a bounded time."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=SETTLE_S)
