"""Tags as versions, and ranges of versions: Semantic Versioning 2.0.0, with ranges as npm has them.

What tags need and libraries refuse: a leading ``v``, one or two numbers (``1.2`` is 1.2.0), leading zeros
(``2026.01.31``), and ``_`` in place of the ``+`` of a build, which no tag can have (as Helm writes it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import quote

_NUMBER = "[0-9]{1,18}"
_PRE_AND_BUILD = r"(?:-([0-9A-Za-z.-]+))?(?:[+_]([0-9A-Za-z.-]+))?"
_VERSION = rf"[vV]?({_NUMBER})(?:\.({_NUMBER}))?(?:\.({_NUMBER}))?{_PRE_AND_BUILD}"
_PART = rf"({_NUMBER}|[xX*])"
_OPERATOR = "(>=|<=|=>|=<|!=|~>|[<>=^~]|)"
_COMPARATOR = rf"{_OPERATOR}\s*[vV]?{_PART}(?:\.{_PART})?(?:\.{_PART})?{_PRE_AND_BUILD}(?=[\s,<>=!~^]|$)"
_HYPHEN = re.compile(r"\s+-\s+")
_ADVICE = Advice("correct-pattern", 'ranges are those of npm, for example ">=1.2 <3", "^1.2", "~1.2 || 2.x"')

Pre = tuple[tuple[int, int, str], ...]  # identifiers: a number is below every word


class Version(Struct, frozen=True, order=True):
    """A version; they compare by precedence. A build does not count: 1.0.0+a equals 1.0.0+b."""

    numbers: tuple[int, int, int]
    is_release: bool = True
    pre: Pre = ()

    @classmethod
    def find(cls, tag: str) -> Version | None:
        """The version that a tag names, or None."""
        parts = re.fullmatch(_VERSION, tag)
        if parts is None or (parts[4] and ".." in f".{parts[4]}."):
            return None
        return cls._of(tuple(int(each or 0) for each in parts.group(1, 2, 3)), parts[4])

    @classmethod
    def _of(cls, numbers: tuple[int, ...], pre: str | None) -> Version:
        major, minor, patch = numbers
        found = tuple(_identifier(each) for each in pre.split(".")) if pre else ()
        return cls((major, minor, patch), not found, found)

    def next(self, kept: int) -> Version:
        """The first release whose first `kept` numbers are above this version's; 0: there is none."""
        numbers = (*self.numbers[: kept - 1], self.numbers[kept - 1] + 1)
        major, minor, patch = (*numbers, 0, 0)[:3]
        return Version((major, minor, patch))


def _identifier(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdigit() and len(text) < 19 else (1, 0, text)


class _Bound(Struct, frozen=True):
    """A comparison with one version: ``<``, ``<=``, ``>``, ``>=`` or ``=``."""

    operator: str
    version: Version

    def admits(self, version: Version) -> bool:
        match self.operator:
            case "<":
                return version < self.version
            case "<=":
                return version <= self.version
            case ">":
                return version > self.version
            case ">=":
                return version >= self.version
            case _:
                return version == self.version


class _Without(Struct, frozen=True):
    """``!=``: what these bounds do not hold together."""

    bounds: tuple[_Bound, ...]


class _All(Struct, frozen=True):
    """Bounds that hold together: one alternative of a range."""

    bounds: tuple[_Bound, ...]
    without: tuple[_Without, ...] = ()

    def admits(self, version: Version) -> bool:
        if not all(each.admits(version) for each in self.bounds):
            return False
        if any(all(each.admits(version) for each in other.bounds) for other in self.without):
            return False
        return version.is_release or any(
            not each.version.is_release and each.version.numbers == version.numbers for each in self.bounds
        )

    def candidates(self) -> Iterator[Version]:
        """Versions of which it admits one if it admits any: the first at or behind every bound."""
        yield Version((0, 0, 0))
        every = [*self.bounds, *(bound for other in self.without for bound in other.bounds)]
        for version in (each.version for each in every):
            yield version
            if version.is_release:
                yield version.next(3)
            else:
                yield Version(version.numbers, False, (_identifier("0"),))
                yield Version(version.numbers, False, (*version.pre, _identifier("0")))
                yield Version(version.numbers)


class Range(Struct, frozen=True):
    """A range of versions; a pre-release is in it only where a bound names one of the same version."""

    text: str
    alternatives: tuple[_All, ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """The range: ``>=1.2 <3``, ``^1.2``, ``~1.2``, ``1.x``, ``1.2 - 2``, ``!=1.3``; a space or a comma
        is *and*, ``||`` is *or*. Raises `InvalidInput`, also for a range that no version is in.
        """
        found = cls(text, tuple(_alternative(text, each.strip()) for each in text.split("||")))
        if not any(found.admits(each) for every in found.alternatives for each in every.candidates()):
            raise InvalidInput(f"no version is in the range {quote(text)}", advice=_ADVICE)
        return found

    def admits(self, version: Version) -> bool:
        """Whether the version is in the range."""
        return any(each.admits(version) for each in self.alternatives)


@lru_cache(256)
def parse_range(text: str) -> Range:
    """As `Range.parse`, remembered."""
    return Range.parse(text)


def _alternative(whole: str, text: str) -> _All:
    bounds: list[_Bound] = []
    without: list[_Without] = []
    ends = _HYPHEN.split(text)
    if len(ends) == 2:
        text = f">={ends[0]} <={ends[1]}"
    position = 0
    while position < len(text):
        if text[position] in ", \t":
            position += 1
            continue
        parts = re.compile(_COMPARATOR).match(text, position)
        if parts is None:
            raise _no_range(whole)
        position = parts.end()
        operator = {"=>": ">=", "=<": "<=", "~>": "~", "": "="}.get(parts[1], parts[1])
        if operator == "!=":
            without.append(_Without(tuple(_bounds(whole, "=", parts))))
        else:
            bounds += _bounds(whole, operator, parts)
    if not text:
        raise _no_range(whole)
    return _All(tuple(bounds), tuple(without))


def _bounds(whole: str, operator: str, parts: re.Match[str]) -> list[_Bound]:
    """The bounds of a comparator, which may have fewer than three numbers; ``x`` and ``*`` stand for any."""
    given: list[int] = []
    for each in parts.group(2, 3, 4):
        if each is None or not each.isdigit():
            break
        given.append(int(each))
    count = len(given)
    pre = parts[5]
    is_open = any(each in ("x", "X", "*") for each in parts.group(2, 3, 4))
    if pre and (is_open or ".." in f".{pre}."):
        raise _no_range(whole)
    version = Version._of((*given, 0, 0, 0)[:3], pre)
    if not count:
        return [_Bound("<", version)] if operator in ("<", ">") else []
    is_whole = count == 3 or bool(pre)
    match operator:
        case "^":
            zeros = next((index for index, each in enumerate(given) if each), count - 1)
            return _from_to(version, version.next(zeros + 1))
        case "~":
            return _from_to(version, version.next(min(count, 2)))
        case "=":
            return [_Bound("=", version)] if is_whole else _from_to(version, version.next(count))
        case ">":
            return [_Bound(">", version)] if is_whole else [_Bound(">=", version.next(count))]
        case "<=":
            return [_Bound("<=", version)] if is_whole else [_Bound("<", version.next(count))]
        case _:
            return [_Bound(operator, version)]


def _from_to(start: Version, stop: Version) -> list[_Bound]:
    return [_Bound(">=", start), _Bound("<", stop)]


def _no_range(text: str) -> InvalidInput:
    return InvalidInput(f"{quote(text)} is not a range of versions", advice=_ADVICE)
