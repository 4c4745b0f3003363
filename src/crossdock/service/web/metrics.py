"""Metrics for Prometheus. Labels have few values, whatever clients send."""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Sequence
from typing import ClassVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crossdock import __version__
from crossdock.service.values import ENDED, Operation, State

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)
_IMPORT_SECONDS = (0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)


class Metrics:
    """The counters of one service."""

    NO_ROUTE: ClassVar[str] = "none"  # the label of unknown paths

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._since = time.time()
        self._requests = Counter(
            "crossdock_requests",
            "Requests responded to.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "crossdock_request_seconds",
            "Seconds until the response.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=self._registry,
        )
        self._imports = Gauge("crossdock_imports", "Known imports.", ("state",), registry=self._registry)
        self._queued = Gauge("crossdock_imports_queued", "Imports waiting to run.", registry=self._registry)
        self._bytes = Counter("crossdock_import_bytes", "Bytes moved by imports.", registry=self._registry)
        self._ended = Histogram(
            "crossdock_import_seconds",
            "Seconds that imports ran which ended since the start.",
            ("state",),
            buckets=_IMPORT_SECONDS,
            registry=self._registry,
        )
        info = Gauge("crossdock_build_info", "The version.", ("version",), registry=self._registry)
        info.labels(__version__).set(1)
        for state in ENDED:
            self._ended.labels(state)
        self._moved: dict[str, int] = {}  # operation → counted bytes
        self._counted: set[str] = set()  # operations whose end has been counted

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response; `route` is a template, never a path."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def render(self, operations: Sequence[Operation]) -> bytes:
        """The metrics as text of `CONTENT_TYPE_LATEST`, given all known `operations`."""
        self._look_at(operations)
        return generate_latest(self._registry)

    def _look_at(self, operations: Sequence[Operation]) -> None:
        states = Count(each.state for each in operations)
        for state in get_args(State):
            self._imports.labels(state).set(states[state])
        self._queued.set(states["Accepted"])
        for each in operations:
            before = self._moved.get(each.id, 0 if each.ended == 0 or each.ended >= self._since else None)
            now = each.progress.bytes
            if before is not None and now > before:
                self._bytes.inc(now - before)
            self._moved[each.id] = now
            if each.state in ENDED and each.id not in self._counted:
                self._counted.add(each.id)
                if each.ended >= self._since:
                    self._ended.labels(each.state).observe(each.ended - (each.started or each.ended))
        known = {each.id for each in operations}
        self._counted &= known
        self._moved = {key: value for key, value in self._moved.items() if key in known}
