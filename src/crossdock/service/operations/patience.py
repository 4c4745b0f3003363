"""Notices when an import waits for a registry that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 10.0  # without an event; what is slow and alive has several a second


class Patience:
    """Calls `quiet` when nothing was noted for `PATIENCE_S`, and `moved` when something is noted after that.

    For one event loop, in a ``with`` block, at whose end neither is called.
    """

    def __init__(self, quiet: Callable[[], None], moved: Callable[[], None]) -> None:
        self._quiet, self._moved = quiet, moved
        self._is_quiet = False
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Patience:
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def note(self) -> None:
        """Something happened."""
        self._last = self._loop.time()
        if self._is_quiet:
            self._is_quiet = False
            self._moved()
            self._wait()

    def _wait(self) -> None:
        self._timer = self._loop.call_at(self._last + PATIENCE_S, self._check)

    def _check(self) -> None:
        if self._loop.time() < self._last + PATIENCE_S:
            self._wait()
            return
        self._is_quiet = True
        self._quiet()
