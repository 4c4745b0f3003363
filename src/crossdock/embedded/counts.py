"""Counters of the registry for ``/metrics``, in Prometheus's text format. Labels have few values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from crossdock import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_PREFIX = "crossdock_registry"


class Visit:
    """One request: when it began, and which endpoint it is for."""

    __slots__ = ("began", "endpoint")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.endpoint = "none"  # or a key of `routes.ENDPOINTS`


class Counts:
    """The counters of one server. For one event loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[tuple[str, str, int]] = Counter()  # by method, endpoint and status
        self._seconds: dict[str, float] = {}  # by endpoint
        self._received = self._sent = 0

    def responded(self, method: str, status: int, visit: Visit, *, received: int, sent: int) -> None:
        """Count a response. Bodies in bytes."""
        self._requests[method if method in _METHODS else "other", visit.endpoint, status] += 1
        seconds = time.perf_counter() - visit.began
        self._seconds[visit.endpoint] = self._seconds.get(visit.endpoint, 0.0) + seconds
        self._received += received
        self._sent += sent

    def text(self) -> str:
        """The metrics."""
        requests = {
            f'method="{method}",endpoint="{endpoint}",status="{status}"': count
            for (method, endpoint, status), count in sorted(self._requests.items())
        }
        seconds = {f'endpoint="{name}"': round(count, 6) for name, count in sorted(self._seconds.items())}
        return "".join(
            (
                _metric("requests_total", "counter", "Requests responded to.", requests),
                _metric("request_seconds_total", "counter", "Seconds until the response.", seconds),
                _metric("requests_in_flight", "gauge", "Requests under way.", {"": self.in_flight}),
                _metric("received_bytes_total", "counter", "Bytes of bodies received.", {"": self._received}),
                _metric("sent_bytes_total", "counter", "Bytes of bodies sent.", {"": self._sent}),
                _metric("build_info", "gauge", "The version.", {f'version="{__version__}"': 1}),
            )
        )


def _metric(name: str, kind: str, words: str, values: Mapping[str, float]) -> str:
    name = f"{_PREFIX}_{name}"
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    lines += [
        f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in values.items()
    ]
    return "\n".join(lines) + "\n"
