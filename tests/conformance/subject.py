"""The registry under test, and the embedded one in a thread."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import uvloop

from crossdock.embedded.serve import serve
from support.push import Remote, Reply

START_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Subject:
    """The registry under test."""

    kind: str  # embedded, docker-registry
    remote: Remote
    root: Path

    @property
    def host(self) -> str:
        return self.remote.host

    @property
    def is_embedded(self) -> bool:
        return self.kind == "embedded"

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        return self.remote.request(method, path, body, headers)

    def open_upload(self, repository: str, query: str = "") -> str:
        """The location of a new session."""
        reply = self.request("POST", f"/v2/{repository}/blobs/uploads/{query}", b"")
        assert reply.status == 202, reply
        return reply.headers["location"]


class Embedded:
    """The embedded registry in a thread of this process, on a free port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await serve(self.root, "127.0.0.1", 0, on_ready=self._started, stop=self._stop)

    def _started(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)
        assert not self._thread.is_alive()
