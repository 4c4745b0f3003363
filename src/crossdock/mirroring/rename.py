"""The names of repositories at the target: renamed, then flattened."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from crossdock.errors import Advice, InvalidInput
from crossdock.mirroring.patterns import compiled
from crossdock.oci.text import quote


class Rename(Struct, frozen=True):
    """`match` is a regular expression on the name below the prefix; `to` may use its groups (``\\1``).

    As `re.sub`: what matches is replaced, the rest of the name stays.
    """

    match: str
    to: str

    def check(self) -> None:
        """Raise `InvalidInput` for an expression that does not compile or a group that it does not have."""
        try:
            compiled(self.match).sub(self.to, "")
        except (re.error, IndexError) as error:
            raise InvalidInput(
                f"{quote(self.to)} does not fit the expression {quote(self.match)}: {error}",
                advice=Advice("correct-pattern", "\\1 is the first group in parentheses"),
            ) from None


class Naming(Struct, frozen=True, kw_only=True):
    """The first rename that matches, then the last `flatten` parts of the name (0: all)."""

    renames: tuple[Rename, ...] = ()
    flatten: int = 0

    def check(self) -> None:
        """Raise `InvalidInput` as `Rename.check` does."""
        for each in self.renames:
            each.check()

    def target_name(self, name: str) -> str:
        """The name below the target's prefix of the repository `name` below the source's.

        It may be no valid name: then `Namespace.reference` says so.
        """
        for each in self.renames:
            expression = compiled(each.match)
            if expression.search(name):
                name = expression.sub(each.to, name)
                break
        return "/".join(name.split("/")[-self.flatten :]) if self.flatten else name


class Collision(Struct, frozen=True):
    """Two names of the source that become one at the target."""

    first: str
    second: str
    target: str

    def __str__(self) -> str:
        return f"{self.first} and {self.second} both become {self.target}"


def collisions(names: Iterable[str], naming: Naming) -> list[Collision]:
    """The names that become one; each with the first that became it."""
    taken: dict[str, str] = {}
    found = []
    for name in dict.fromkeys(names):
        target = naming.target_name(name)
        first = taken.setdefault(target, name)
        if first != name:
            found.append(Collision(first, name, target))
    return found
