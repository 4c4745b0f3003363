"""A server on an event loop in a separate thread, for synchronous and asynchronous tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self

START_S = 30.0


class ThreadedServer:
    """Runs `_serve` from `start` to `close`; as a context manager for its block."""

    def __init__(self, name: str) -> None:
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Listen on a free loopback port. Raises the errors of `_serve`. Safe to call twice."""
        if self._thread.ident is None:
            self._thread.start()
            self._ready.wait(START_S)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop the server and join its thread. Safe to call twice."""
        if self._thread.is_alive() and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _serve(self) -> None:
        """Listen, set `port`, await `_until_closed`, and clean up."""
        raise NotImplementedError

    async def _until_closed(self) -> None:
        self._ready.set()
        await self._closing.wait()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
