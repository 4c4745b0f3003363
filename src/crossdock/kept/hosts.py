"""Facts learned about registries, for the next process: one file ``FOLDER/registry-HOST.json`` for each.

A fact is forgotten a week after it was learned, because registries are upgraded. Nothing depends on the
files: without one, a registry is asked again. When processes write at once, the last one's file stays, which
loses at most a fact. There are no secrets in them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

PREFIX = "registry-"
KEPT_S = 7 * 86400.0
MAX_FILE = 64 * 1024  # bytes


class Fact(Struct, frozen=True):
    """One fact about a registry."""

    value: Any
    at: float  # when it was learned, in seconds since 1970


class _File(Struct, frozen=True):
    host: str
    facts: dict[str, Fact]


class HostFacts:
    """The facts in a folder for the state of runs. `clock` gives seconds since 1970."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._known: dict[str, dict[str, Fact]] = {}
        self._lock = threading.Lock()  # what was written last has everything

    def read(self, host: str) -> Mapping[str, Any]:
        """The facts about ``host[:port]`` that are not older than a week. Never raises. Blocks briefly."""
        return {name: fact.value for name, fact in self.facts(host).items()}

    def facts(self, host: str) -> dict[str, Fact]:
        """As `read`, with when each was learned."""
        if host not in self._known:
            self._known[host] = self._read(self._path(host))
        return dict(self._known[host])

    def hosts(self) -> list[str]:
        """The ``host[:port]`` of all files that have facts. Blocks."""
        try:
            paths = sorted(self._folder.glob(f"{PREFIX}*.json"))
        except OSError:
            return []
        found = [file for path in paths if (file := _decoded(path)) is not None]
        return [file.host for file in found if self.facts(file.host)]

    def forget(self, host: str) -> bool:
        """Remove the file; whether there was one. Raises OSError."""
        self._known.pop(host, None)
        try:
            self._path(host).unlink()
        except FileNotFoundError:
            return False
        return True

    def learned(self, host: str, name: str, value: Any) -> None:
        """Take a fact, for `write` to keep."""
        self.facts(host)
        self._known[host][name] = Fact(value, self._clock())

    def write(self, host: str) -> None:
        """Write the facts taken about the host. Never raises. Blocks; may be called in a thread."""
        path = self._path(host)
        fresh = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        with self._lock:
            try:
                merged = self._read(path) | self._known[host].copy()
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fresh.touch(mode=0o600)
                fresh.write_bytes(msgspec.json.encode(_File(host, merged)))
                fresh.replace(path)
            except OSError:  # a full disk, a folder that is not ours: the next process asks again
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)

    def _path(self, host: str) -> Path:
        return self._folder / f"{PREFIX}{quote(host, safe='')}.json"

    def _read(self, path: Path) -> dict[str, Fact]:
        file = _decoded(path)
        if file is None:
            return {}
        now = self._clock()
        return {name: fact for name, fact in file.facts.items() if now - KEPT_S < fact.at <= now + KEPT_S}


def _decoded(path: Path) -> _File | None:
    """The file's content; None if there is no usable file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        return msgspec.json.decode(data, type=_File) if len(data) <= MAX_FILE else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
