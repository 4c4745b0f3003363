"""The names of repositories at the target: renamed, then flattened."""

from __future__ import annotations

from msgspec import Struct


class Rename(Struct, frozen=True):
    """`match` is a regular expression on the name below the prefix; `to` may use its groups (``\\1``)."""

    match: str
    to: str


class Naming(Struct, frozen=True, kw_only=True):
    """The first rename that matches, then the last `flatten` parts of the name (0: all)."""

    renames: tuple[Rename, ...] = ()
    flatten: int = 0

    def target_name(self, name: str) -> str:
        """The name below the target's prefix of the repository `name` below the source's."""
        raise NotImplementedError
