"""The headers of a response, by name in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class HeaderView(Mapping[str, str]):
    """A mapping that ignores case. Of a repeated header it gives the first, and all by `getall`.

    Responses have a dozen headers, of which three are read: to walk over them costs less than a dict.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        """`pairs` have their names in lower case, as `transport.base.ResponseHead` gives them."""
        self._pairs = pairs

    def __repr__(self) -> str:
        return f"<HeaderView {', '.join(name for name, _ in self._pairs)}>"  # values may be secret

    def __getitem__(self, name: str) -> str:
        name = name.lower()
        for other, value in self._pairs:
            if other == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The header's first value, or `default`."""
        name = name.lower()
        for other, value in self._pairs:
            if other == name:
                return value
        return default

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def getall(self, name: str) -> list[str]:
        """Every value of the header, in order."""
        name = name.lower()
        return [value for other, value in self._pairs if other == name]

    def starting(self, prefix: str) -> dict[str, str]:
        """The first value of each header whose name starts so, by its name in lower case."""
        found: dict[str, str] = {}
        for name, value in self._pairs:
            if name.startswith(prefix):
                found.setdefault(name, value)
        return found


AnyHeaders = Mapping[str, str] | Sequence[tuple[str, str]]


def case_insensitive(headers: AnyHeaders) -> HeaderView:
    """Headers of any kind as a view."""
    if isinstance(headers, HeaderView):
        return headers
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return HeaderView([(name.lower(), value) for name, value in pairs])
