"""Metrics for Prometheus. Labels have few values, whatever clients send."""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Callable, Sequence
from typing import ClassVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crossdock import __version__
from crossdock.service.values import ENDED, Operation, State

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)
_IMPORT_SECONDS = (0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)


Labels = Callable[[Operation], tuple[str, str]]
"""Returns the labels of an import's source and target registry."""


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
        self._age = Gauge(
            "crossdock_imports_queue_age_seconds",
            "Seconds since the oldest waiting import was accepted.",
            registry=self._registry,
        )
        self._running = Gauge(
            "crossdock_imports_in_flight",
            "Running imports from or to a registry.",
            ("registry",),
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "crossdock_import_bytes_in_flight",
            "Bytes sent to a registry, of blobs that are not complete there.",
            ("registry",),
            registry=self._registry,
        )
        self._bytes = Counter(
            "crossdock_import_bytes", "Bytes moved to a registry.", ("registry",), registry=self._registry
        )
        self._retries = Counter(
            "crossdock_import_retries",
            "Requests to a registry that failed and were sent again.",
            ("registry",),
            registry=self._registry,
        )
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
        self._seen: dict[tuple[str, str], int] = {}  # operation and side, or "bytes" → the last figure
        self._counted: set[str] = set()  # operations whose end has been counted

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response; `route` is a template, never a path."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def render(self, operations: Sequence[Operation], labels: Labels) -> bytes:
        """The metrics as text of `CONTENT_TYPE_LATEST`, given all known `operations`."""
        self._look_at(operations, labels)
        return generate_latest(self._registry)

    def _look_at(self, operations: Sequence[Operation], labels: Labels) -> None:
        states = Count(each.state for each in operations)
        for state in get_args(State):
            self._imports.labels(state).set(states[state])
        self._queued.set(states["Accepted"])
        now = time.time()
        self._age.set(max((now - each.created for each in operations if each.state == "Accepted"), default=0))
        running: Count[str] = Count()
        in_flight: Count[str] = Count()
        for each in operations:
            sides = dict(zip(("source", "target"), labels(each), strict=True))
            target, progress = sides["target"], each.progress
            for registry in set(sides.values()):
                running[registry] += each.state == "Running"
            in_flight[target] += progress.in_flight
            is_new = not each.ended or each.ended >= self._since
            self._add(self._bytes.labels(target), (each.id, "bytes"), progress.bytes, is_new)
            for side, registry in sides.items():
                count = progress.retries.get(side, 0)
                self._add(self._retries.labels(registry), (each.id, side), count, is_new)
            if each.state in ENDED and each.id not in self._counted:
                self._counted.add(each.id)
                if is_new:
                    self._ended.labels(each.state).observe(each.ended - (each.started or each.ended))
        for registry in running:
            self._running.labels(registry).set(running[registry])
            self._in_flight.labels(registry).set(in_flight[registry])
        known = {each.id for each in operations}
        self._counted &= known
        self._seen = {key: count for key, count in self._seen.items() if key[0] in known}

    def _add(self, counter: Counter, key: tuple[str, str], now: int, is_new: bool) -> None:
        """Add a figure's increase since the last call. The first figure of an old import is not counted."""
        before = self._seen.get(key, 0 if is_new else now)
        if now > before:
            counter.inc(now - before)
        self._seen[key] = now
