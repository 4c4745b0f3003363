"""A registry that tells its limit before it is reached never has to refuse."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.command import Crossdock
from support.embedded import start_embedded
from support.scripted import Reply, Request, ScriptedRegistry

IMAGES, LIMIT, WINDOW_S = 14, 5, 1

pytestmark = pytest.mark.slow


class Limited:
    """Counts requests in a sliding window, tells what is left, and refuses what is too much."""

    def __init__(self, closing: ExitStack, *, pulls_only: bool) -> None:
        self.registry = ScriptedRegistry(closing, self._before, self._after)
        self.refused = 0
        self._pulls_only = pulls_only
        self._at: list[float] = []
        self._lock = threading.Lock()

    def _counts(self, request: Request) -> bool:
        return not self._pulls_only or request.is_for("manifests", "GET")

    def _recent(self) -> int:
        self._at = [at for at in self._at if at > time.monotonic() - WINDOW_S]
        return len(self._at)

    def _before(self, request: Request) -> Reply | None:
        if not self._counts(request) or request.is_for("blobs"):
            return None
        with self._lock:
            if self._recent() >= LIMIT:
                self.refused += 1
                return Reply.error(429, "TOOMANYREQUESTS")
            self._at.append(time.monotonic())
        return None

    def _after(self, request: Request, reply: Reply) -> None:
        with self._lock:
            left = LIMIT - self._recent()
        if self._pulls_only and request.is_for("manifests"):
            reply.headers["ratelimit-limit"] = f"{LIMIT};w={WINDOW_S}"
            reply.headers["ratelimit-remaining"] = f"{left};w={WINDOW_S}"
        elif not self._pulls_only:
            reply.headers["RateLimit"] = f'"default";r={left};t={WINDOW_S}'
            reply.headers["RateLimit-Policy"] = f'"default";q={LIMIT};w={WINDOW_S}'


@pytest.mark.parametrize("pulls_only", [True, False])
def test_the_remaining_allowance_is_not_exceeded(
    crossdock: Crossdock, closing: ExitStack, tmp_path: Path, pulls_only: bool
) -> None:
    source = Limited(closing, pulls_only=pulls_only)
    for number in range(IMAGES):
        source.registry.image("app", f"v{number}", seed=f"{number}")
    target = start_embedded(tmp_path, tmp_path / "target", closing)
    words = ("--repository", "app", "--output", "json", "--progress", "none")
    done = crossdock.ok("mirror", source.registry.host, target.host, *words, timeout=120)
    assert done.result["totals"]["copied"] == IMAGES
    assert source.refused == 0
