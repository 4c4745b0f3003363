"""Patterns of names: a shell's (``app-*``) or a regular expression (``/^lib-(a|b)$/``)."""

from __future__ import annotations

from msgspec import Struct


class Patterns(Struct, frozen=True):
    """Names that are wanted and names that are not. No `include`: every name is wanted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Whether the name is wanted."""
        raise NotImplementedError
