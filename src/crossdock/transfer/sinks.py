"""A sink in memory for what is small enough to be there as a whole."""

from __future__ import annotations


class MemorySink:
    """A `content.ByteSink` that fills `view`; ``filled`` bytes of it have come."""

    __slots__ = ("filled", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.filled = 0

    def get_buffer(self) -> memoryview | None:
        """The rest of the view; None: it is full."""
        return self.view[self.filled :] if self.filled < len(self.view) else None

    def received(self, count: int) -> None:
        """`count` more bytes are there."""
        self.filled += count
