"""The choice of tags: by pattern, version, push time and number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from crossdock.mirroring.patterns import Patterns

Sort = Literal["semver", "pushed", "name"]


class TagChoice(Struct, frozen=True, kw_only=True):
    """Filters come first, then `newest`. Moments and durations are in seconds (moments since the epoch)."""

    patterns: Patterns = Patterns()
    semver: str = ""
    newest: int | None = None
    sort: Sort = "semver"
    pushed_after: float | None = None  # a moment
    pushed_within: float | None = None  # a duration
    min_age: float | None = None  # a duration

    @property
    def needs_times(self) -> bool:
        """Whether push times are needed."""
        raise NotImplementedError

    def choose(self, pushed: Mapping[str, float | None], now: float) -> list[str]:
        """The chosen of these tags, in the order given; the values are their push times."""
        raise NotImplementedError
