"""Which registries of a run are still worth asking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from crossdock.errors import (
    Advice,
    CopyError,
    CrossdockError,
    Side,
    root_cause,
)
from crossdock.oci.reference import Reference
from crossdock.runs.pairs import Pair
from crossdock.runs.places import Place

GIVE_UP_AFTER_S = 60.0
GIVE_UP_AFTER_COPIES = 8


class _Silence(Struct):
    """A registry that let every copy fail lately: since when, how many, and how the last one ended."""

    since: float
    copies: int
    error: CrossdockError


class Reach:
    """Which registries are still worth asking.

    Each copy asks several times and waits in between (`NetworkOptions.retries`), so one that fails for a
    reason that may pass has waited for seconds to minutes. When `GIVE_UP_AFTER_COPIES` in a row did, for
    `GIVE_UP_AFTER_S` and longer, those that are still to come fail at once. A copy that succeeds makes all
    good again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent: dict[tuple[Side, str], _Silence] = {}

    def error_for(self, pair: Pair) -> CopyError | None:
        """The error of a pair of which one side is an abandoned registry."""
        for key, location in _hosts(pair) if self._silent else ():
            silence = self._silent.get(key)
            if silence is not None and self._is_given_up(silence):
                side, host = key
                return CopyError(
                    f"copy {side} {location}: not tried: {silence.error}",
                    advice=Advice(
                        "retry-later",
                        f"{silence.copies} copies in a row ended like this, so {host} was not asked again: "
                        "copy the same list when it answers",
                    ),
                    operation="copy",
                    side=side,
                    reference=str(location),
                    cause=silence.error,
                )
        return None

    def reached(self, pair: Pair) -> None:
        """A copy succeeded."""
        for key, _ in _hosts(pair) if self._silent else ():
            self._silent.pop(key, None)

    def missed(self, pair: Pair, error: Exception) -> None:
        """A copy failed."""
        cause = root_cause(error)
        if not (isinstance(error, CopyError) and isinstance(cause, CrossdockError) and cause.retryable):
            return
        for key, _ in _hosts(pair):
            if key[0] == error.side:
                silence = self._silent.setdefault(key, _Silence(self._clock(), 0, cause))
                silence.copies += 1
                silence.error = cause

    def _is_given_up(self, silence: _Silence) -> bool:
        lasts_s = self._clock() - silence.since
        return silence.copies >= GIVE_UP_AFTER_COPIES and lasts_s >= GIVE_UP_AFTER_S


def _hosts(pair: Pair) -> Iterator[tuple[tuple[Side, str], Reference]]:
    """Both sides' registries, with the reference that leads there; none for a layout or an object."""
    sides: tuple[tuple[Side, Place], ...] = (("source", pair[0]), ("target", pair[1]))
    for side, location in sides:
        if isinstance(location, Reference):
            yield (side, location.api_host), location
