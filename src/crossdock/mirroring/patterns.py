"""Patterns of names: a shell's (``app-*``) or a regular expression (``/^lib-(a|b)$/``).

A shell's pattern matches the whole name: ``*`` matches any characters, slashes too, ``?`` one, ``[a-z]`` one
of those. A regular expression stands between slashes and is searched for in the name; ``^`` and ``$`` anchor
it. It is one of Python's, and upper and lower case differ in both.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import lru_cache, partial

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.oci.text import quote

_WILD = frozenset("*?[")


class Patterns(Struct, frozen=True):
    """Names that are wanted and names that are not. No `include`: every name is wanted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise `InvalidInput` for a regular expression that does not compile."""
        for pattern in (*self.include, *self.exclude):
            matcher(pattern)

    @property
    def wants_all(self) -> bool:
        """Whether every name is wanted."""
        return not self.exclude and (not self.include or "*" in self.include)

    def wants(self, name: str) -> bool:
        """Whether the name is wanted. Raises `InvalidInput` as `check` does."""
        return self.includes(name) and not any(matcher(each)(name) for each in self.exclude)

    def includes(self, name: str) -> bool:
        """Whether the name is wanted unless it is excluded."""
        return not self.include or any(matcher(each)(name) for each in self.include)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names, where all that are included are given without a pattern; else None."""
        if not self.include or any(is_pattern(each) for each in self.include):
            return None
        return tuple(dict.fromkeys(self.include))

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """The patterns of `include` that match none of `names`."""
        known = list(names)
        return [each for each in self.include if not any(map(matcher(each), known))]


def is_pattern(text: str) -> bool:
    """Whether it is a pattern, not just a name."""
    return text.startswith("/") or not _WILD.isdisjoint(text)


@lru_cache(1024)
def matcher(pattern: str) -> Callable[[str], object]:
    """A function that tells whether a name matches. Raises `InvalidInput`."""
    if not pattern.startswith("/"):
        return partial(_matches_shell, pattern)
    if len(pattern) < 3 or not pattern.endswith("/"):
        raise InvalidInput(
            f"{quote(pattern)} is no pattern",
            advice=Advice("correct-pattern", "a regular expression stands between slashes: /^lib-/"),
        )
    return compiled(pattern[1:-1]).search


def compiled(expression: str) -> re.Pattern[str]:
    """The compiled regular expression. Raises `InvalidInput` when it is not valid."""
    try:
        with warnings.catch_warnings():  # of what Python may read otherwise one day
            warnings.simplefilter("ignore")
            return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(
            f"{quote(expression)} is not a regular expression: {error}",
            advice=Advice("correct-pattern", "regular expressions are Python's"),
        ) from None


def _matches_shell(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern)
