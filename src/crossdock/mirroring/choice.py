"""The choice of tags: by pattern, version, push time and number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.mirroring.patterns import Patterns, matcher
from crossdock.mirroring.versions import Version, parse_range
from crossdock.oci.attachedtag import is_attached_tag
from crossdock.oci.text import quote
from crossdock.units import parse_duration, parse_moment

Sort = Literal["semver", "pushed", "name"]


class TagChoice(Struct, frozen=True, kw_only=True):
    """Filters come first, then `newest`. Moments and durations are in seconds (moments since the epoch).

    Tags made of digests, such as cosign's ``sha256-….sig``, are no versions and are not counted. Without any
    filter they are chosen as all others. With filters they are left out unless a pattern asks for them
    (``sha256-*``) and nothing else filters: what they attach is copied with its image.
    """

    patterns: Patterns = Patterns()
    semver: str = ""
    newest: int | None = None
    sort: Sort = "semver"
    pushed_after: float | None = None  # a moment
    pushed_within: float | None = None  # a duration
    min_age: float | None = None  # a duration

    def check(self) -> None:
        """Raise `InvalidInput` for invalid patterns and ranges, and for a range that no version is in."""
        self.patterns.check()
        if self.semver:
            parse_range(self.semver)

    @property
    def takes_all(self) -> bool:
        """Whether every tag is chosen."""
        return self.patterns.wants_all and not self._is_counted

    @property
    def needs_times(self) -> bool:
        """Whether push times are needed."""
        return self._is_timed or (self.newest is not None and self.sort == "pushed")

    @property
    def _is_timed(self) -> bool:
        return any(each is not None for each in (self.pushed_after, self.pushed_within, self.min_age))

    @property
    def _is_counted(self) -> bool:
        """Whether anything but patterns filters."""
        return bool(self.semver) or self.newest is not None or self._is_timed

    def choose(self, pushed: Mapping[str, float | None], now: float) -> list[str]:
        """The chosen of these tags, in the order given; the values are their push times.

        Raises `InvalidInput` where a push time is needed and not known. `now` is a moment.
        """
        if self.takes_all:
            return list(pushed)
        found = [tag for tag in pushed if self._matches(tag)]
        if self._is_timed:
            found = [tag for tag in found if self._is_in_time(_moment(tag, pushed), now)]
        if self.newest is None or not found:
            return found
        if self.sort == "semver":
            found = [tag for tag in found if Version.find(tag) is not None]
        found_newest = set(
            sorted(found, key=lambda tag: self._rank(tag, pushed), reverse=True)[: self.newest]
        )
        return [tag for tag in found if tag in found_newest]

    def _matches(self, tag: str) -> bool:
        if is_attached_tag(tag):
            return not self._is_counted and self.asks_for(tag)
        if not self.patterns.wants(tag):
            return False
        if not self.semver:
            return True
        version = Version.find(tag)
        return version is not None and parse_range(self.semver).admits(version)

    def asks_for(self, tag: str) -> bool:
        """Whether a pattern asks for this tag of a digest, not just for all tags."""
        asked = [each for each in self.patterns.include if each != "*"]
        return any(matcher(each)(tag) for each in asked) and self.patterns.wants(tag)

    def leaves_out(self, tag: str) -> bool:
        """Whether a pattern excludes the tag: one of a digest is not copied with its image either."""
        return any(matcher(each)(tag) for each in self.patterns.exclude)

    def _is_in_time(self, moment: float, now: float) -> bool:
        return (
            (self.pushed_after is None or moment >= self.pushed_after)
            and (self.pushed_within is None or moment >= now - self.pushed_within)
            and (self.min_age is None or moment <= now - self.min_age)
        )

    def _rank(self, tag: str, pushed: Mapping[str, float | None]) -> tuple[object, ...]:
        """The sort key: the newest tag has the greatest; names decide between equal ones."""
        if self.sort == "semver":
            return Version.find(tag), tag
        return (_moment(tag, pushed), tag) if self.sort == "pushed" else (tag,)


def _moment(tag: str, pushed: Mapping[str, float | None]) -> float:
    moment = pushed[tag]
    if moment is None:
        raise times_unknown(f"of the tag {quote(tag)}")
    return moment


def times_unknown(what: str) -> InvalidInput:
    """The error of a selection by push time where the source does not state it; `what` names the subject."""
    return InvalidInput(
        f"the source does not say when it got the manifest {what}",
        advice=Advice("omit-times", side="source"),
    )


def pushed_since(text: str) -> dict[str, float]:
    """The field of a `TagChoice` for a date, a date with a time, or a duration.

    Raises `InvalidInput`.
    """
    if "-" in text:
        return {"pushed_after": parse_moment(text)}
    try:
        return {"pushed_within": parse_duration(text)}
    except InvalidInput:
        advice = Advice("write-date", "write a date such as 2026-01-31, or a duration such as 90d")
        raise InvalidInput(f"{quote(text)} is neither a date nor a duration", advice=advice) from None
