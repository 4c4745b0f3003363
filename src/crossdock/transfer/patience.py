"""How often a request for the same bytes is retried, and after how long."""

from __future__ import annotations

from crossdock.errors import CrossdockError
from crossdock.options import NetworkOptions


class Patience:
    """The failures in a row of one part of a blob."""

    def __init__(self, network: NetworkOptions) -> None:
        self._network = network
        self._failures: list[CrossdockError] = []

    def lost(self, error: CrossdockError, progress: int) -> float:
        """Seconds to wait before the next try. `progress`: bytes that this try brought further.

        Under `NetworkOptions.least_progress` they count as none, so a trickle ends as a silence does. Raises
        as `NetworkOptions.delay_after`.
        """
        failures = self._failures
        if progress >= self._network.least_progress:
            failures.clear()
        failures.append(error)
        return self._network.delay_after(failures)
